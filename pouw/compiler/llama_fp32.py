"""The Llama decoder in float32 numpy: what calibration looks at and what fidelity is measured against."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.fp32 import Float, Observe, Weights
from pouw.compiler.llama_config import LlamaShape
from pouw.compiler.llama_families import FAMILIES
from pouw.compiler.llama_tables import frequencies
from pouw.compiler.program import ACTIVATIONS


def logits_of(weights: Weights, shape: LlamaShape, ids: NDArray[np.int32], observe: Observe | None = None) -> Float:
    """Return the scores of the next token at each position. ids: int32[S] -> float32[S, vocabulary].

    `observe(name, x)` sees what calibration needs: the inputs of each product, queries, keys, values, the stream.
    """
    see = observe or (lambda _name, _x: None)
    family, head = FAMILIES[shape.family], np.float32(np.sqrt(shape.head_size))
    x = weights["model.embed_tokens.weight"][ids]  # (S, width)
    if family.positions:
        x = x + weights["model.positions.weight"][: len(ids)]
    cosines, sines = _angles(shape, len(ids))
    hidden = np.triu(np.full((len(ids), len(ids)), -np.inf, dtype=np.float32), 1)
    for layer in range(shape.layers):
        name = f"model.layers.{layer}."
        see("stream", x)
        y = _norm(x, weights[f"{name}input_layernorm.weight"], shape.epsilon)
        see(f"{layer}.qkv", y)
        q, k, v = (_linear(y, weights, f"{name}self_attn.{part}_proj") for part in "qkv")
        if family.qk_norm:
            q, k = (part.reshape(len(ids), -1, shape.head_size) for part in (q, k))
            for part in (q, k):
                see(f"{layer}.raw", part.reshape(-1, shape.head_size))
            q = _norm(q, weights[f"{name}self_attn.q_norm.weight"], shape.epsilon).reshape(len(ids), -1)
            k = _norm(k, weights[f"{name}self_attn.k_norm.weight"], shape.epsilon).reshape(len(ids), -1)
        see(f"{layer}.query", q)
        see(f"{layer}.key", k)
        see(f"{layer}.value", v)
        q, k = (_rotate(part.reshape(len(ids), -1, shape.head_size), cosines, sines) for part in (q, k))
        v = v.reshape(len(ids), shape.kv_heads, shape.head_size)
        mixed = np.empty_like(q)  # (S, heads, head_size)
        for at in range(shape.heads):
            group = at * shape.kv_heads // shape.heads
            scores = q[:, at] @ k[:, group].T / head + hidden
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed[:, at] = powers @ v[:, group] / powers.sum(axis=1, keepdims=True)
        y = mixed.reshape(len(ids), -1)
        see(f"{layer}.out", y)
        x = x + _linear(y, weights, f"{name}self_attn.o_proj")
        see("stream", x)
        y = _norm(x, weights[f"{name}post_attention_layernorm.weight"], shape.epsilon)
        see(f"{layer}.inner", y)
        up = _linear(y, weights, f"{name}mlp.up_proj")
        see(f"{layer}.up", up)
        y = _active(_linear(y, weights, f"{name}mlp.gate_proj"), shape) * up if family.gated else _active(up, shape)
        see(f"{layer}.outer", y)
        x = x + _linear(y, weights, f"{name}mlp.down_proj")
    see("stream", x)
    y = _norm(x, weights["model.norm.weight"], shape.epsilon)
    see("head", y)
    return np.asarray(y @ head_weights(weights, shape).T + head_bias(weights), dtype=np.float32)


def _active(x: Float, shape: LlamaShape) -> Float:
    return ACTIVATIONS[shape.activation](x).astype(np.float32)


def head_weights(weights: Weights, shape: LlamaShape) -> Float:
    """Return the matrix float32[vocabulary, width] that makes the scores."""
    own = not shape.tied or FAMILIES[shape.family].own_head
    return weights["lm_head.weight" if own else "model.embed_tokens.weight"]


def head_bias(weights: Weights) -> Float:
    """Return what is added to the scores: float32[vocabulary], or 0."""
    return weights.get("lm_head.bias", np.zeros(1, dtype=np.float32))


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
    """Return cosines and sines float32[positions, 1, head_size / 2]; nothing turns where positions are learned."""
    if FAMILIES[shape.family].positions:
        return np.ones((1, 1, 1), dtype=np.float32), np.zeros((1, 1, 1), dtype=np.float32)
    steps = [float(angle) for angle in frequencies(shape.head_size, shape.theta, shape.scaling, shape.turned)]
    angles = np.arange(positions)[:, None] * np.array(steps)
    return np.cos(angles).astype(np.float32)[:, None], np.sin(angles).astype(np.float32)[:, None]


def _rotate(x: Float, cosines: Float, sines: Float) -> Float:
    first, second = np.split(x, 2, axis=2)
    return np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=2)


def _linear(x: Float, weights: Weights, name: str) -> Float:
    y = x @ weights[f"{name}.weight"].T
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def _norm(x: Float, gamma: Float, epsilon: float) -> Float:
    mean = (x * x).mean(axis=-1, keepdims=True) + np.float32(epsilon)
    return np.asarray(x / np.sqrt(mean) * gamma, dtype=np.float32)
