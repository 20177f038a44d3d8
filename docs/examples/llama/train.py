"""Train the small Llama that ships as genesis/graphs/llama-tiny: a tokenizer and a model of the repository's own words.

Needs torch (only here): `python docs/examples/llama/train.py --output FOLDER [--extra FOLDER] [--minutes 6]`. Writes a
Hugging Face folder: config.json, model.safetensors (float16), tokenizer.json, calibration.txt, and heldout.txt, which
it never saw. `python -m hyperdust.graph_text NAME FOLDER FOLDER/calibration.txt` makes the graph of it. torch's kernels
differ by machine, so training again gives other weights: those that ship are committed.
"""

import argparse
import ast
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("chain", "consensus", "pouw", "bridge", "precompiles", "hyperdust")
WIDTH, LAYERS, HEADS, KV_HEADS, INNER, VOCABULARY = 128, 3, 4, 2, 512, 1024  # INNER: a mining product's k is >= 512
HEAD_SIZE = WIDTH // HEADS
CONTEXT = 192
THETA, EPSILON = 10_000.0, 1e-5
BEGIN, END = 0, 1
CALIBRATION = 64  # training passages whose largest values fix the integers' scales
HELD_OUT = 17  # every 17th passage is kept for evaluation


def passages(extra: list[Path]) -> Iterator[str]:
    """Yield paragraphs of the documents and docstrings of the sources."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))]
    texts += [path.read_text(encoding="utf-8") for folder in extra for path in sorted(folder.rglob("*.md"))]
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text:
                    texts.append(text)
    for text in texts:
        for part in re.split(r"\n\s*\n|\n(?=[|*#0-9-])", text):
            words = " ".join(re.sub(r"\[([^]]*)\]\([^)]*\)|[|*`#]", r" \1 ", part).split()).lstrip("-0123456789. ")
            if len(words) > 40 and sum(letter.isalpha() or letter == " " for letter in words) > 0.88 * len(words):
                yield words


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """A byte-level BPE: no text is unknown to it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


class Llama(torch.nn.Module):
    """The architecture under Hugging Face's names; embeddings are tied to the head."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weights = torch.nn.ParameterDict()

        def matrix(name: str, rows: int, columns: int, scale: float = 0.02) -> None:
            self.weights[name.replace(".", "/")] = torch.nn.Parameter(
                torch.randn(rows, columns, generator=generator) * scale
            )

        matrix("model.embed_tokens.weight", VOCABULARY, WIDTH)
        for layer in range(LAYERS):
            name = f"model.layers.{layer}."
            matrix(f"{name}self_attn.q_proj.weight", WIDTH, WIDTH)
            matrix(f"{name}self_attn.k_proj.weight", KV_HEADS * HEAD_SIZE, WIDTH)
            matrix(f"{name}self_attn.v_proj.weight", KV_HEADS * HEAD_SIZE, WIDTH)
            matrix(f"{name}self_attn.o_proj.weight", WIDTH, WIDTH, 0.02 / LAYERS)
            matrix(f"{name}mlp.gate_proj.weight", INNER, WIDTH)
            matrix(f"{name}mlp.up_proj.weight", INNER, WIDTH)
            matrix(f"{name}mlp.down_proj.weight", WIDTH, INNER, 0.02 / LAYERS)
            for norm in ("input_layernorm", "post_attention_layernorm"):
                self.weights[f"{name}{norm}.weight".replace(".", "/")] = torch.nn.Parameter(torch.ones(WIDTH))
        self.weights["model/norm/weight"] = torch.nn.Parameter(torch.ones(WIDTH))
        angles = torch.arange(CONTEXT)[:, None] * THETA ** (-torch.arange(0, HEAD_SIZE, 2) / HEAD_SIZE)
        angles = torch.cat([angles, angles], dim=1)
        self.register_buffer("cosines", angles.cos())
        self.register_buffer("sines", angles.sin())

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.weights[f"{name}.weight".replace(".", "/")]

    def forward(self, ids: torch.Tensor, dropout: float) -> torch.Tensor:
        """ids: [b, s] -> logits [b, s, vocabulary]."""
        batch, length = ids.shape
        x = functional.dropout(self["model.embed_tokens"][ids], dropout)

        def heads_of(y: torch.Tensor, heads: int) -> torch.Tensor:
            return y.view(batch, length, heads, HEAD_SIZE).transpose(1, 2)

        def rotate(y: torch.Tensor) -> torch.Tensor:
            first, second = y.chunk(2, dim=-1)
            return y * self.cosines[:length] + torch.cat([-second, first], dim=-1) * self.sines[:length]

        for layer in range(LAYERS):
            name = f"model.layers.{layer}."
            y = functional.rms_norm(x, (WIDTH,), self[f"{name}input_layernorm"], EPSILON)
            q = rotate(heads_of(functional.linear(y, self[f"{name}self_attn.q_proj"]), HEADS))
            k = rotate(heads_of(functional.linear(y, self[f"{name}self_attn.k_proj"]), KV_HEADS))
            v = heads_of(functional.linear(y, self[f"{name}self_attn.v_proj"]), KV_HEADS)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            y = y.transpose(1, 2).reshape(batch, length, WIDTH)
            x = x + functional.dropout(functional.linear(y, self[f"{name}self_attn.o_proj"]), dropout)
            y = functional.rms_norm(x, (WIDTH,), self[f"{name}post_attention_layernorm"], EPSILON)
            gate = functional.silu(functional.linear(y, self[f"{name}mlp.gate_proj"]))
            inner = gate * functional.linear(y, self[f"{name}mlp.up_proj"])
            x = x + functional.dropout(functional.linear(inner, self[f"{name}mlp.down_proj"]), dropout)
        x = functional.rms_norm(x, (WIDTH,), self["model.norm"], EPSILON)
        return functional.linear(x, self["model.embed_tokens"])


def train(stream: torch.Tensor, minutes: float) -> Llama:
    """Train until the time is over; the learning rate falls with the time spent."""
    model = Llama()
    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.95), weight_decay=0.1)
    started, step, average = time.monotonic(), 0, 7.0
    length, batch = 128, 12
    while (spent := (time.monotonic() - started) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 50) * max(0.02, 1 - spent)
        starts = torch.randint(len(stream) - length - 1, (batch,), generator=generator)
        rows = torch.stack([stream[start : start + length + 1] for start in starts.tolist()])
        loss = functional.cross_entropy(model(rows[:, :-1], 0.1).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        average += (loss.item() - average) / min(step, 50)
        if step % 50 == 0:
            print(f"step {step}: loss {average:.3f}, {100 * spent:.0f} % of the time", flush=True)
    return model


def main() -> None:
    """Train and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--extra", type=Path, action="append", default=[], help="more folders with *.md")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = list(dict.fromkeys(passages(options.extra)))
    held_out = found[::HELD_OUT]
    texts = [text for index, text in enumerate(found) if index % HELD_OUT]
    tokenizer = train_tokenizer(texts)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(4)).tolist()
    ids = [token for index in order for token in (BEGIN, *tokenizer.encode(texts[index]).ids, END)]
    print(f"{len(texts)} passages, {len(ids)} tokens")
    model = train(torch.tensor(ids), options.minutes)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    options.output.mkdir(parents=True, exist_ok=True)
    weights = {
        name.replace("/", "."): value.detach().numpy().astype(np.float16) for name, value in model.weights.items()
    }
    save_file(weights, options.output / "model.safetensors")
    tokenizer.save(str(options.output / "tokenizer.json"))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "bos_token_id": BEGIN,
        "eos_token_id": END,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "max_position_embeddings": CONTEXT,
        "mlp_bias": False,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": EPSILON,
        "rope_theta": THETA,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "vocab_size": VOCABULARY,
    }
    (options.output / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (options.output / "heldout.txt").write_text("\n".join(held_out) + "\n", encoding="utf-8")
    (options.output / "calibration.txt").write_text(
        "\n".join(texts[:: max(1, len(texts) // CALIBRATION)][:CALIBRATION]) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
