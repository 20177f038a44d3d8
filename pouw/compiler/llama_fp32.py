"""The Llama decoder in float32 numpy: what calibration looks at and what fidelity is measured against."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.fp32 import Float, Observe, Weights
from pouw.compiler.llama_folder import LlamaShape


def logits_of(weights: Weights, shape: LlamaShape, ids: NDArray[np.int32], observe: Observe | None = None) -> Float:
    """Return the scores of the next token at each position. ids: int32[S] -> float32[S, vocabulary].

    `observe(name, x)` sees what calibration needs: the inputs of each product, queries, keys, values, the stream.
    """
    see = observe or (lambda _name, _x: None)
    x = weights["model.embed_tokens.weight"][ids]  # (S, width)
    cosines, sines = _angles(shape, len(ids))
    hidden = np.triu(np.full((len(ids), len(ids)), -np.inf, dtype=np.float32), 1)
    for layer in range(shape.layers):
        name = f"model.layers.{layer}."
        see("stream", x)
        y = _norm(x, weights[f"{name}input_layernorm.weight"], shape.epsilon)
        see(f"{layer}.qkv", y)
        q, k, v = (_linear(y, weights, f"{name}self_attn.{part}_proj") for part in "qkv")
        see(f"{layer}.query", q)
        see(f"{layer}.key", k)
        see(f"{layer}.value", v)
        q, k = (_rotate(part.reshape(len(ids), -1, shape.head_size), cosines, sines) for part in (q, k))
        v = v.reshape(len(ids), shape.kv_heads, shape.head_size)
        mixed = np.empty_like(q)  # (S, heads, head_size)
        for head in range(shape.heads):
            group = head * shape.kv_heads // shape.heads
            scores = q[:, head] @ k[:, group].T / np.float32(np.sqrt(shape.head_size)) + hidden
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed[:, head] = powers @ v[:, group] / powers.sum(axis=1, keepdims=True)
        y = mixed.reshape(len(ids), -1)
        see(f"{layer}.out", y)
        x = x + _linear(y, weights, f"{name}self_attn.o_proj")
        see("stream", x)
        y = _norm(x, weights[f"{name}post_attention_layernorm.weight"], shape.epsilon)
        see(f"{layer}.inner", y)
        gate, up = (_linear(y, weights, f"{name}mlp.{part}_proj") for part in ("gate", "up"))
        see(f"{layer}.up", up)
        y = gate / (1 + np.exp(-gate)) * up
        see(f"{layer}.outer", y)
        x = x + _linear(y, weights, f"{name}mlp.down_proj")
    see("stream", x)
    y = _norm(x, weights["model.norm.weight"], shape.epsilon)
    see("head", y)
    return np.asarray(y @ head_weights(weights, shape).T, dtype=np.float32)


def head_weights(weights: Weights, shape: LlamaShape) -> Float:
    """Return the matrix float32[vocabulary, width] that makes the scores."""
    return weights["model.embed_tokens.weight" if shape.tied else "lm_head.weight"]


def score_texts(rows: Iterable[tuple[NDArray[np.floating], NDArray[np.int32]]]) -> tuple[float, int]:
    """Return (sum of -log probability of each next token, their number) of (scores, ids) pairs."""
    total, count = 0.0, 0
    for logits, ids in rows:
        wide = logits[:-1].astype(np.float64)
        wide -= wide.max(axis=1, keepdims=True)
        chosen = wide[np.arange(len(ids) - 1), ids[1:]]
        total += float((np.log(np.exp(wide).sum(axis=1)) - chosen).sum())
        count += len(ids) - 1
    return total, count


def _angles(shape: LlamaShape, positions: int) -> tuple[Float, Float]:
    steps = np.arange(0, shape.head_size, 2) / shape.head_size
    angles = np.arange(positions)[:, None] * float(shape.theta) ** -steps
    return np.cos(angles).astype(np.float32)[:, None], np.sin(angles).astype(np.float32)[:, None]


def _rotate(x: Float, cosines: Float, sines: Float) -> Float:
    first, second = np.split(x, 2, axis=2)
    return np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=2)


def _linear(x: Float, weights: Weights, name: str) -> Float:
    y = x @ weights[f"{name}.weight"].T
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def _norm(x: Float, gamma: Float, epsilon: float) -> Float:
    mean = (x * x).mean(axis=1, keepdims=True) + np.float32(epsilon)
    return np.asarray(x / np.sqrt(mean) * gamma, dtype=np.float32)
