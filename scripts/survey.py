"""Which models `hyperdust graph compile` takes: small ones with random weights, built by transformers or torch.

`python scripts/survey.py [NAME ...]` prints the table of docs/guides/bring_a_model.md: for the folder that
transformers writes and for the PyTorch module, the least cosine to float32 or the refusal, and whether the graph may be
registered.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from torch import nn

from chain.errors import HyperdustError
from hyperdust import compile as command
from hyperdust.graph_text import read_model
from hyperdust.registration_parts import check_parts, cut
from pouw.backends.registry import load_backend
from pouw.compiler import llama
from pouw.compiler.export import export_module
from pouw.compiler.hf import ENCODERS, load_bert
from pouw.compiler.llama_calibration import calibrate
from pouw.compiler.llama_families import FAMILIES
from pouw.compiler.program import evaluate
from pouw.compiler.report import cosine
from pouw.compiler.vit import load_vit
from pouw.graph_encoding import decode, encode

TEXT: Final[Mapping[str, int]] = {
    "vocab_size": 200,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "max_position_embeddings": 128,
}
GROUPED: Final = {**TEXT, "num_key_value_heads": 2}
PICTURE: Final = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
}
LENGTHS: Final = (7, 12, 20, 5, 3, 9, 11, 16)
LLAMA3: Final = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
PAD: Final = {"pad_token_id": 0}
SPECIAL: Final = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
DISTIL: Final = {"vocab_size": 200, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}
OPT: Final = {**TEXT, "ffn_dim": 128, "word_embed_proj_dim": 64}
STAGES: Final = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
DINO: Final = {**PICTURE, "mlp_ratio": 2}
SWIN: Final = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}
MODELS: Final[Mapping[str, tuple[str, str, Mapping[str, Any]]]] = {
    "BERT, E5, BGE": ("Bert", "Model", TEXT),
    "BERT, classifier": ("Bert", "ForSequenceClassification", TEXT),
    "RoBERTa": ("Roberta", "Model", TEXT),
    "XLM-RoBERTa, multilingual E5": ("XLMRoberta", "Model", TEXT),
    "DistilBERT": ("DistilBert", "Model", DISTIL),
    "ELECTRA": ("Electra", "Model", {**TEXT, "embedding_size": 64}),
    "ALBERT": ("Albert", "Model", {**TEXT, "embedding_size": 32}),
    "MPNet": ("MPNet", "Model", TEXT),
    "ModernBERT": ("ModernBert", "Model", TEXT | SPECIAL),
    "Llama, SmolLM, TinyLlama": ("Llama", "ForCausalLM", GROUPED),
    "Llama 3": ("Llama", "ForCausalLM", {**GROUPED, "rope_parameters": LLAMA3}),
    "Mistral": ("Mistral", "ForCausalLM", GROUPED),
    "Qwen2": ("Qwen2", "ForCausalLM", GROUPED),
    "Qwen3": ("Qwen3", "ForCausalLM", {**GROUPED, "head_dim": 16}),
    "Gemma": ("Gemma", "ForCausalLM", {**GROUPED, "head_dim": 16, **PAD}),
    "Gemma 2": ("Gemma2", "ForCausalLM", {**GROUPED, "head_dim": 16, **PAD}),
    "Gemma 3": ("Gemma3Text", "ForCausalLM", {**GROUPED, "head_dim": 16, **PAD}),
    "Phi-2": ("Phi", "ForCausalLM", TEXT),
    "Phi-3": ("Phi3", "ForCausalLM", {**GROUPED, **PAD, "eos_token_id": 1}),
    "SmolLM3": ("SmolLM3", "ForCausalLM", {**GROUPED, **PAD}),
    "GPT-2": ("GPT2", "LMHeadModel", {"vocab_size": 200, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}),
    "GPT-NeoX, Pythia": ("GPTNeoX", "ForCausalLM", TEXT),
    "OPT": ("OPT", "ForCausalLM", OPT),
    "ViT": ("ViT", "ForImageClassification", PICTURE),
    "DeiT": ("DeiT", "ForImageClassification", PICTURE),
    "CLIP, vision": ("CLIPVision", "ModelWithProjection", {**PICTURE, "projection_dim": 32}),
    "SigLIP, vision": ("SiglipVision", "Model", PICTURE),
    "DINOv2": ("Dinov2", "Model", DINO),
    "BEiT": ("Beit", "ForImageClassification", PICTURE),
    "Swin": ("Swin", "ForImageClassification", {**SWIN, "window_size": 4}),
    "ResNet": ("ResNet", "ForImageClassification", {**STAGES, "embedding_size": 16}),
    "RegNet": ("RegNet", "ForImageClassification", {**STAGES, "embedding_size": 16, "groups_width": 16}),
    "MobileNet V1": ("MobileNetV1", "ForImageClassification", {"image_size": 64, "depth_multiplier": 0.25}),
    "MobileNet V2": ("MobileNetV2", "ForImageClassification", {"image_size": 64, "depth_multiplier": 0.25}),
    "ConvNeXt": ("ConvNext", "ForImageClassification", STAGES),
    "ConvNeXt V2": ("ConvNextV2", "ForImageClassification", STAGES),
}
PLAIN: Final = "plain PyTorch: "


class Wrapped(nn.Module):
    """A model of transformers that takes one tensor and returns one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores, the embedding, or the rows."""
        found = self.model(x)
        for name in ("logits", "image_embeds", "last_hidden_state"):
            if found.get(name) is not None:
                return found[name]
        raise TypeError(type(found))


class Unet(nn.Module):
    """Down and up again, as diffusion models do."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down, self.up = nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 32, 3, 2, 1), nn.Conv2d(32, 16, 1)
        self.block = nn.Sequential(nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 16, 3, 1, 1))
        self.last = nn.Sequential(nn.GroupNorm(8, 32), nn.SiLU(), nn.Conv2d(32, 3, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return an image of the same sides."""
        x = self.first(x)
        x = x + self.block(x)
        y = nn.functional.interpolate(self.up(self.down(x)), scale_factor=2)
        return self.last(torch.cat([y, x], 1))


def _cnn() -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 36, 10))


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 4))


MODULES: Final[Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]] = {
    f"{PLAIN}layers and activations": (_mlp, (8, 16)),
    f"{PLAIN}convolutions and pooling": (_cnn, (1, 3, 16, 16)),
    f"{PLAIN}a U-Net (group norms, stretching)": (Unet, (1, 3, 16, 16)),
}


def main() -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    wanted = sys.argv[1:]
    print("| model | its folder | its PyTorch module | may be registered |\n|---|---|---|---|")
    for name in (*MODELS, *MODULES):
        if not wanted or any(part in name for part in wanted):
            cells = _transformer(name) if name in MODELS else _plain(name)
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _plain(name: str) -> tuple[str, str, str]:
    make, shape = MODULES[name]
    torch.manual_seed(0)
    module = make()
    found, registers = _answer(lambda: _by_module(module, [(torch.randn(*shape),) for _ in LENGTHS]))
    return "", found, registers


def _transformer(name: str) -> tuple[str, str, str]:
    kind, head, sizes = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes)
    model = getattr(transformers, f"{kind.removesuffix('Text')}{head}")(config).eval()
    side = getattr(config, "image_size", 64) if model.main_input_name == "pixel_values" else 0
    side = 64 if side == 224 else side
    examples = [(_image(side),) if side else (torch.randint(3, 200, (1, length)),) for length in LENGTHS]
    if side:
        _settle(model, examples)
    folder, first = "", ""
    if config.model_type in {*ENCODERS, *FAMILIES, "vit"}:
        with tempfile.TemporaryDirectory() as path:
            model.save_pretrained(path)
            folder, first = _answer(lambda: _by_folder(model, config.model_type, Path(path), examples))
    module, second = _answer(lambda: _by_module(Wrapped(model), examples))
    return folder, module, first or second


def _image(side: int) -> torch.Tensor:
    return torch.randn(1, 3, side, side)


def _settle(model: nn.Module, examples: list[tuple[Any, ...]]) -> None:
    """Let batch norms see what they will see: fresh ones let values vanish or grow."""
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    if norms:
        model.train()
        with torch.no_grad():
            model(torch.cat([example[0] for example in examples]))
        model.eval()


def _answer(compiled: Callable[[], tuple[float, bytes]]) -> tuple[str, str]:
    """Return the cell of one way, and whether its graph may be registered."""
    try:
        least, graph = compiled()
    except HyperdustError as error:
        said = str(error).split("; at ")[0].removeprefix("UnmappableOperator: ").replace("|", "/")
        return f"refused: {said}", ""
    try:
        structure = decode(graph)
        check_parts(structure, cut(structure))
    except HyperdustError as error:
        return f"{least:.4f}", str(error)
    return f"{least:.4f}", "yes"


def _by_module(module: nn.Module, examples: list[tuple[Any, ...]]) -> tuple[float, bytes]:
    exported = export_module(module, examples)
    return _finish(exported.program, exported.inputs, exported.expected)


def _finish(program: Any, inputs: Any, expected: Any) -> tuple[float, bytes]:
    with tempfile.TemporaryDirectory() as path:
        options = command.Options("x", Path(path))
        report = command._finish(options, "x", program, inputs, expected, lambda *_: None)  # noqa: SLF001
        return report["fidelity"]["cosine_min"], (Path(path) / "x.graph").read_bytes()


def _by_folder(model: nn.Module, kind: str, path: Path, examples: list[tuple[Any, ...]]) -> tuple[float, bytes]:
    if kind in FAMILIES:
        shape, weights = read_model(path)
        texts = [example[0][0].numpy().astype(np.int32) for example in examples]
        calibration = calibrate(weights, shape, texts[:6])
        graph, constants = llama.build("x", weights, shape, calibration, llama.GREEDY, (32, 32))
        found = []
        for ids in texts[6:]:
            exact = llama.all_logits(graph, constants, ids, load_backend("native"))
            with torch.inference_mode():
                wanted = model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()
            found += [cosine(row, want) for row, want in zip(exact, wanted, strict=True)]
        return min(found), encode(graph)
    if kind == "vit":
        program = load_vit(path)
        rng = np.random.default_rng(1)
        inputs = [{"image": rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)} for _ in examples]
    else:
        program = load_bert(path)
        inputs = [{"ids": example[0][0].numpy().astype(np.int32)} for example in examples]
    return _finish(program, inputs, [evaluate(program, given) for given in inputs])


if __name__ == "__main__":
    main()
