"""Folders as `transformers` writes them mean to us what they mean to it: biases, groups, shards, half precision."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hyperdust import compile as c
from hyperdust import graph as g
from hyperdust.graph_text import read_model
from pouw.backends.reference import NumpyBackend
from pouw.backends.registry import list_backends, load_backend
from pouw.compiler import llama, llama_fp32
from pouw.compiler.llama_calibration import calibrate
from pouw.compiler.llama_folder import WeightMissing
from pouw.execution import run, trace_root
from precompiles.graph_facts import read_facts

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

BACKENDS = [NumpyBackend(), *(load_backend(name) for name in list_backends()[0] if name == "native")]
SIZES = {
    "hidden_size": 96,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 64,
}
WINDOW = SIZES | {"max_position_embeddings": 256}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
GPT2 = {"vocab_size": 300, "n_embd": 96, "n_layer": 2, "n_head": 6, "n_positions": 64}
PART = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75}
MODELS = {
    "llama with biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}, "float32"),
    "llama with wide heads": ("Llama", {"head_dim": 32, "tie_word_embeddings": True}, "float16"),
    "llama 3": ("Llama", {"rope_parameters": LLAMA3}, "float32"),
    "llama slowed": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
        "float32",
    ),
    "mistral": ("Mistral", {**WINDOW, "head_dim": 16, "sliding_window": 96}, "bfloat16"),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}, "bfloat16"),
    "qwen3": ("Qwen3", {"head_dim": 32}, "float32"),
    "gemma": ("Gemma", {"head_dim": 32, "pad_token_id": 0}, "float32"),
    "phi3": ("Phi3", {"pad_token_id": 0, "eos_token_id": 1}, "float32"),
    "phi3 turned in part": (
        "Phi3",
        {"pad_token_id": 0, "eos_token_id": 1, "rope_parameters": PART, "tie_word_embeddings": True},
        "float32",
    ),
    "gpt2": ("GPT2", GPT2, "float32"),
}


def write(name, folder):
    """A folder with random weights, and its model in float32."""
    kind, options, dtype = MODELS[name]
    config = getattr(transformers, f"{kind}Config")(**({} if kind == "GPT2" else SIZES) | options)
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn_like(parameter) * (0.12 if parameter.dim() > 1 else 0.3)
            one = ("norm" in key or ".ln_" in key) and "bias" not in key and kind != "Gemma"
            parameter.copy_(noise + one)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size="200KB")
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_means_the_same(name, tmp_path):
    same = write(name, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ids = np.random.default_rng(2).integers(0, 300, 32, dtype=np.int32)
    with torch.inference_mode():
        expected = same(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()
    shape, weights = read_model(tmp_path)
    floats = llama_fp32.logits_of(weights, shape, ids)
    assert np.abs(floats - expected).max() < 1e-3
    graph, constants = llama.build("x", weights, shape, calibrate(weights, shape, [ids]))
    exact = llama.all_logits(graph, constants, ids, NumpyBackend()).astype(np.float64)
    cosines = (exact * expected).sum(axis=1) / np.sqrt((exact**2).sum(axis=1) * (expected**2).sum(axis=1))
    assert cosines.min() > 0.99
    runs = [run(graph, constants, {"ids": ids[:9]}, {"S": 9, "T": 3}, backend) for backend in BACKENDS]
    assert len({trace_root(one) for one in runs}) == 1
    assert runs[0].outputs["token"][0] in expected[8].argsort()[-3:]  # random weights: many are nearly as likely


def test_weights_that_are_not_there_are_named(tmp_path):
    write("gpt2", tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        tensors = load_file(path)
        if tensors.pop("transformer.h.1.ln_1.bias", None) is not None:
            save_file(tensors, path)
    with pytest.raises(WeightMissing, match=r"h\.1\.ln_1\.bias"):
        read_model(tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_a_folder_with_its_words_compiles_and_speaks(kind, tmp_path):
    source = tmp_path / "model"
    name, options, _ = MODELS[kind]
    sizes = ({} if kind == "gpt2" else SIZES) | options | {"vocab_size": 1024}
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{name}Config")(**sizes))
    model.save_pretrained(source)
    shutil.copyfile(g.GRAPHS_DIR / "llama-tiny" / "tokenizer.json", source / "tokenizer.json")
    report = c.compile_source(c.Options(str(source), tmp_path / "out", name="speaks"))
    assert 0.99 < report["fidelity"]["perplexity_ratio"] < 1.01
    read_facts((tmp_path / "out" / "speaks.graph").read_bytes())
    graph = str(tmp_path / "out" / "speaks.graph")
    said = [g.run(graph, text="A block", backend=backend.name) for backend in BACKENDS]
    assert len({one["trace_root"] for one in said}) == 1
    assert said[0]["text"]
    assert g.check(graph)["agreement"] == report["fidelity"]["agreement"]


def test_texts_are_held_shorter_than_the_window(tmp_path):
    write("mistral", tmp_path)
    shape, _ = read_model(tmp_path)
    assert (shape.context, shape.longest) == (256, 96)
