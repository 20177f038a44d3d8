"""Folders of encoders as `transformers` writes them: the float program is theirs, the integers stay close."""

import numpy as np
import pytest

from hyperdust import compile as c
from hyperdust import graph as g
from pouw.backends.reference import NumpyBackend
from pouw.backends.registry import list_backends, load_backend
from pouw.compiler.hf import UnknownConfig, load_bert
from pouw.compiler.program import evaluate

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

BACKENDS = [NumpyBackend(), *(load_backend(name) for name in list_backends()[0] if name == "native")]
SIZES = {
    "vocab_size": 200,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}
DISTIL = {"vocab_size": 200, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "max_position_embeddings": 64}
KINDS = {
    "bert": ("Bert", SIZES),
    "roberta": ("Roberta", SIZES),
    "xlm-roberta": ("XLMRoberta", SIZES),
    "camembert": ("Camembert", SIZES),
    "electra": ("Electra", SIZES | {"embedding_size": 64}),
    "distilbert": ("DistilBert", DISTIL),
}


def write(kind, head, folder):
    name, sizes = KINDS[kind]
    torch.manual_seed(1)
    config = getattr(transformers, f"{name}Config")(**sizes, num_labels=5)
    model = getattr(transformers, f"{name}{head}")(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            one = "norm" in key.lower() and "weight" in key
            parameter.copy_(torch.randn_like(parameter) * 0.15 + one)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", ["Model", "ForSequenceClassification"])
def test_a_folder_means_the_same(kind, head, tmp_path):
    model = write(kind, head, tmp_path)
    rng = np.random.default_rng(2)
    texts = [rng.integers(5, 200, length) for length in (3, 9, 20, 12, 7, 16, 5, 11)]
    program = load_bert(tmp_path)
    assert program.rows_max == (62 if "roberta" in kind or kind == "camembert" else 64)
    expected = []
    for ids in texts:
        with torch.inference_mode():
            said = model(torch.from_numpy(ids)[None])
        mean = said.logits if head != "Model" else said.last_hidden_state.mean(1)
        row = mean.numpy() if head != "Model" else (mean / mean.norm()).numpy()
        expected.append({next(iter(program.outputs)): row})
        got = evaluate(program, {"ids": ids.astype(np.int32)})
        assert np.abs(next(iter(got.values())) - row).max() < 1e-4
    inputs = [{"ids": ids.astype(np.int32)} for ids in texts]
    report = c._finish(c.Options("x", tmp_path / "out"), "x", program, inputs, expected, lambda *_: None)
    assert report["fidelity"]["cosine_min"] > 0.995
    runs = {g.run(str(tmp_path / "out"), backend=backend.name)["trace_root"] for backend in BACKENDS}
    assert len(runs) == 1
    assert g.check(str(tmp_path / "out"))["cosine_min"] == report["fidelity"]["cosine_min"]


def test_what_is_not_known_is_named(tmp_path):
    model = transformers.ElectraModel(transformers.ElectraConfig(**SIZES, embedding_size=32))
    model.save_pretrained(tmp_path)
    with pytest.raises(UnknownConfig, match="embedding_size"):
        load_bert(tmp_path)
    transformers.MPNetModel(transformers.MPNetConfig(**SIZES)).save_pretrained(tmp_path / "mpnet")
    with pytest.raises(c.SourceUnknown, match="mpnet.*roberta.*make"):
        c.compile_source(c.Options(str(tmp_path / "mpnet"), tmp_path / "out"))
