"""The BERT encoder in float32 numpy: what calibration looks at and what fidelity is measured against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erf

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Weights = Mapping[str, Float]
Observe = Callable[[str, Float], None]

LAYER_NORM_EPSILON = 1e-12
_erf = np.frompyfunc(erf, 1, 1)


@dataclass(frozen=True, slots=True)
class BertShape:
    """Sizes of a BERT encoder."""

    layers: int
    width: int
    heads: int
    inner: int

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.width // self.heads


def encode(weights: Weights, shape: BertShape, ids: NDArray[np.int32], observe: Observe | None = None) -> Float:
    """Return the L2-normalised mean of the last layer. ids: int32[S] -> float32[width].

    `observe(name, x)` sees the tensors that calibration needs: the inputs of each layer's products, and q, k, v.
    """
    see = observe or (lambda _name, _x: None)
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = _norm(x + weights["embeddings.token_type_embeddings.weight"][0], weights, "embeddings.LayerNorm")
    for layer in range(shape.layers):
        name = f"encoder.layer.{layer}."
        see(f"{layer}.qkv", x)
        q, k, v = (_linear(x, weights, f"{name}attention.self.{part}") for part in ("query", "key", "value"))
        for part, value in (("query", q), ("key", k), ("value", v)):
            see(f"{layer}.{part}", value)
        mixed = np.empty_like(x)
        for head in range(shape.heads):
            columns = slice(head * shape.head_size, (head + 1) * shape.head_size)
            scores = q[:, columns] @ k[:, columns].T / np.float32(np.sqrt(shape.head_size))
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            mixed[:, columns] = powers @ v[:, columns] / powers.sum(axis=1, keepdims=True)
        see(f"{layer}.out", mixed)
        x = _norm(
            x + _linear(mixed, weights, f"{name}attention.output.dense"), weights, f"{name}attention.output.LayerNorm"
        )
        see(f"{layer}.inner", x)
        inner = _linear(x, weights, f"{name}intermediate.dense")
        see(f"{layer}.activation", inner)
        inner = inner * ((1 + _erf(inner / np.float32(np.sqrt(2))).astype(np.float32)) / 2)
        see(f"{layer}.outer", inner)
        x = _norm(x + _linear(inner, weights, f"{name}output.dense"), weights, f"{name}output.LayerNorm")
    mean = x.mean(axis=0)
    return np.asarray(mean / np.sqrt((mean * mean).sum()), dtype=np.float32)


def _linear(x: Float, weights: Weights, name: str) -> Float:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _norm(x: Float, weights: Weights, name: str) -> Float:
    centered = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centered * centered).mean(axis=1, keepdims=True) + np.float32(LAYER_NORM_EPSILON))
    return np.asarray(centered / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"], dtype=np.float32)
