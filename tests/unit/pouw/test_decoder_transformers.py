"""Folders as `transformers` writes them mean to us what they mean to it: biases, groups, shards, half precision."""

import numpy as np
import pytest

from hyperdust.graph_text import read_model
from pouw.backends.reference import NumpyBackend
from pouw.compiler import llama, llama_fp32

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SIZES = {
    "hidden_size": 96,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 64,
}


def models():
    lama, qwen = transformers.LlamaConfig, transformers.Qwen2Config
    return {
        "llama with biases": (lama(**SIZES, attention_bias=True, mlp_bias=True, tie_word_embeddings=False), "float32"),
        "llama with wide heads": (lama(**SIZES, head_dim=32, tie_word_embeddings=True), "float16"),
        "qwen2": (qwen(**SIZES, tie_word_embeddings=True), "bfloat16"),
    }


@pytest.mark.parametrize("name", ["llama with biases", "llama with wide heads", "qwen2"])
def test_a_folder_means_the_same(name, tmp_path):
    config, dtype = models()[name]
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.12 if parameter.dim() > 1 else 0.3) + ("norm" in key))
    model.to(getattr(torch, dtype)).save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    same = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = np.random.default_rng(2).integers(0, 300, 32, dtype=np.int32)
    with torch.inference_mode():
        expected = same(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()
    shape, weights = read_model(tmp_path)
    floats = llama_fp32.logits_of(weights, shape, ids)
    assert np.abs(floats - expected).max() < 1e-3
    graph, constants = llama.build("x", weights, shape, llama.calibrate(weights, shape, [ids]))
    exact = llama.all_logits(graph, constants, ids, NumpyBackend()).astype(np.float64)
    cosines = (exact * expected).sum(axis=1) / np.sqrt((exact**2).sum(axis=1) * (expected**2).sum(axis=1))
    assert cosines.min() > 0.99
