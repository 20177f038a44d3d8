"""How fast decoders generate in exact integers against torch in float32 with a KV cache, on the same threads.

The peer is the same decoder written in torch operations, eager, float32, its cache a tensor written in place. Both
sides make the same number of tokens after the same prompt; rounds are interleaved and the best of each counts.
"""

import sys
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.rounds import best_of
from hyperdust.graph import GRAPHS_DIR, load_graph
from hyperdust.graph_text import read_model
from pouw.backends.registry import load_backend
from pouw.compiler import llama
from pouw.compiler.fp32 import Weights
from pouw.compiler.llama_calibration import calibrate
from pouw.compiler.llama_config import LlamaShape
from pouw.compiler.llama_folder import expected_tensors
from pouw.execution import Execution, run, trace_root
from pouw.hypergraph import Hypergraph

Row = dict[str, object]
PROMPT, NEW_TOKENS = 32, 64
SMALL_SHAPE = LlamaShape(  # the sizes of a 110M model; weights are random, speed does not depend on them
    layers=12,
    width=768,
    heads=12,
    kv_heads=4,
    head_size=64,
    inner=2048,
    vocabulary=32_000,
    context=256,
    theta=Decimal(10_000),
    epsilon=1e-5,
    tied=True,
    stop=-1,
)


@cache
def random_model() -> tuple[Hypergraph, dict[bytes, np.ndarray], Weights]:
    generator = np.random.default_rng(1)
    weights = {
        name: generator.normal(0, 0.02, sizes).astype(np.float32) + np.float32("norm" in name)
        for name, sizes in expected_tensors(SMALL_SHAPE).items()
    }
    calibration = calibrate(weights, SMALL_SHAPE, [prompt(SMALL_SHAPE.vocabulary)])
    return *llama.build("random", weights, SMALL_SHAPE, calibration, sizes=(128, 128)), weights


def prompt(vocabulary: int) -> np.ndarray:
    return (np.arange(PROMPT, dtype=np.int32) * 977 + 5) % vocabulary


def generation(graph: Hypergraph, constants: Any, vocabulary: int, limit: int = NEW_TOKENS) -> Callable[[], Execution]:
    backend = load_backend("native")
    inputs = {port.name: np.zeros(1, dtype=np.int32) for port in graph.inputs} | {"ids": prompt(vocabulary)}
    return lambda: run(graph, constants, inputs, {"S": PROMPT, "T": limit}, backend)


def torch_generation(weights: Weights, shape: LlamaShape, ids: np.ndarray, steps: int) -> Callable[[], object]:
    """Greedy generation in torch operations, `steps` tokens."""
    import torch  # noqa: PLC0415 - an extra
    from torch.nn import functional  # noqa: PLC0415 - an extra

    w = {name: torch.from_numpy(array) for name, array in weights.items()}
    head = w["model.embed_tokens.weight" if shape.tied else "lm_head.weight"]
    angles = np.arange(shape.context)[:, None] * float(shape.theta) ** -(
        np.arange(0, shape.head_size, 2) / shape.head_size
    )
    angles = np.concatenate([angles, angles], axis=1).astype(np.float32)
    cosines, sines = torch.from_numpy(np.cos(angles)), torch.from_numpy(np.sin(angles))
    keys, values = (
        [torch.zeros(shape.kv_heads, shape.context, shape.head_size) for _ in range(shape.layers)] for _ in range(2)
    )

    def rotate(x: torch.Tensor, start: int) -> torch.Tensor:
        end = start + x.shape[1]
        first, second = x.chunk(2, dim=-1)
        return x * cosines[start:end] + torch.cat([-second, first], dim=-1) * sines[start:end]

    def step(tokens: torch.Tensor, start: int) -> torch.Tensor:
        rows, end = len(tokens), start + len(tokens)
        x = w["model.embed_tokens.weight"][tokens]
        for layer in range(shape.layers):
            name = f"model.layers.{layer}."
            y = functional.rms_norm(x, (shape.width,), w[f"{name}input_layernorm.weight"], shape.epsilon)
            q, k, v = (
                functional.linear(y, w[f"{name}self_attn.{part}_proj.weight"])
                .view(rows, -1, shape.head_size)
                .transpose(0, 1)
                for part in "qkv"
            )
            keys[layer][:, start:end] = rotate(k, start)
            values[layer][:, start:end] = v
            y = functional.scaled_dot_product_attention(
                rotate(q, start)[None],
                keys[layer][None, :, :end],
                values[layer][None, :, :end],
                is_causal=rows > 1,
                enable_gqa=True,
            )[0]
            y = y.transpose(0, 1).reshape(rows, -1)
            x = x + functional.linear(y, w[f"{name}self_attn.o_proj.weight"])
            y = functional.rms_norm(x, (shape.width,), w[f"{name}post_attention_layernorm.weight"], shape.epsilon)
            gate = functional.silu(functional.linear(y, w[f"{name}mlp.gate_proj.weight"]))
            y = gate * functional.linear(y, w[f"{name}mlp.up_proj.weight"])
            x = x + functional.linear(y, w[f"{name}mlp.down_proj.weight"])
        x = functional.rms_norm(x[-1:], (shape.width,), w["model.norm.weight"], shape.epsilon)
        return functional.linear(x, head).argmax(dim=1)

    def generate() -> torch.Tensor:
        with torch.inference_mode():
            tokens, start, made = torch.from_numpy(ids.astype(np.int64)), 0, []
            for _ in range(steps):
                made.append(step(tokens, start))
                tokens, start = made[-1], start + len(tokens)
            return torch.cat(made)

    return generate


def against_torch(
    name: str, graph: Hypergraph, constants: Any, weights: Weights, shape: LlamaShape, rounds: int
) -> Row:
    ours = generation(graph, constants, shape.vocabulary)
    steps = len(ours().outputs["token"])
    fast, slow = best_of(rounds, ours, torch_generation(weights, shape, prompt(shape.vocabulary), steps))
    return {
        "name": name,
        "ours": steps / fast,
        "peer": steps / slow,
        "ratio": slow / fast,
        "unit": "tokens/s",
        "peer_name": f"torch fp32 eager with KV cache, prompt {PROMPT}, {steps} new tokens",
    }


def tiny_against_torch() -> Row:
    loaded = load_graph("llama-tiny")
    shape, weights = read_model(GRAPHS_DIR / "llama-tiny")
    return against_torch("decoder_llama_tiny_tokens", loaded.graph, loaded.constants, weights, shape, 8)


def random_against_torch() -> Row:
    graph, constants, weights = random_model()
    return against_torch("decoder_110m_tokens", graph, constants, weights, SMALL_SHAPE, 3)


def commitment_share() -> Row:
    """What the trace root adds to a generation; the peer is a trace of every operator's output."""
    graph, constants, _ = random_model()
    ours = generation(graph, constants, SMALL_SHAPE.vocabulary, 8)
    found = ours()
    inference, commit = best_of(4, ours, lambda: trace_root(found))
    share = 100 * commit / inference
    return {
        "name": "decoder_110m_commitment_share",
        "ours": share,
        "peer": 10.0,
        "ratio": 10.0 / share,
        "unit": "% of inference",
        "peer_name": f"the bound, prompt {PROMPT}, 8 new tokens",
    }


BENCHMARKS: dict[str, Callable[[], Row]] = {"decoder_110m_commitment_share": commitment_share}
if find_spec("torch"):
    BENCHMARKS |= {"decoder_llama_tiny_tokens": tiny_against_torch, "decoder_110m_tokens": random_against_torch}
else:
    print("decoder tokens/s against torch are not measured: torch is not installed", file=sys.stderr)
