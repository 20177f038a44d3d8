"""What is chosen once from example texts and committed beside the graph: factors of columns, neurons to split."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.fp32 import BertShape, Float, Weights, encode
from pouw.operators.arithmetic import Int16
from pouw.operators.linear import FACTOR_MAX

Float64 = NDArray[np.float64]
STRENGTHS = {"qkv": 0.65, "out": 0.5, "inner": 0.5, "outer": 0.75}
COPIES = 16
MEDIAN_FACTOR = FACTOR_MAX // 4


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the float weights do not say."""

    factors: Mapping[str, Int16]
    """"<layer>.<product>" -> for each column of the product's input 1 .. 256; the weights are divided by them."""
    copies: Mapping[int, Int16]
    """Layer -> the feed-forward neurons that are computed once more for each entry, their weights shared out.

    A few neurons are a hundred times larger than all others; split, they fit into the 7 bits of a mining operand.
    """


def product_weights(weights: Weights, layer: int, product: str, copies: Int16) -> Float64:
    """Return the weights [n, k] of one product of a layer; query, key and value stand side by side."""
    name = f"encoder.layer.{layer}."
    if product == "qkv":
        parts = [weights[f"{name}attention.self.{part}.weight"] for part in ("query", "key", "value")]
        return np.concatenate(parts).astype(np.float64)
    if product == "out":
        return weights[f"{name}attention.output.dense.weight"].astype(np.float64)
    if product == "inner":
        inner = weights[f"{name}intermediate.dense.weight"].astype(np.float64)
        return np.concatenate([inner, inner[copies]])
    outer = weights[f"{name}output.dense.weight"].astype(np.float64)
    shares = 1.0 + np.bincount(copies, minlength=outer.shape[1])  # (k,)
    shared = outer / shares
    return np.concatenate([shared, shared[:, copies]], axis=1)


def calibrate(weights: Weights, shape: BertShape, texts: Iterable[NDArray[np.int32]]) -> Calibration:
    """Choose factors and copies from the largest value that each column takes on the texts' token ids."""
    largest: dict[str, Float] = {}

    def see(name: str, x: Float) -> None:
        column = np.abs(x).max(axis=0)
        largest[name] = np.maximum(largest.get(name, column), column)

    for ids in texts:
        encode(weights, shape, ids, see)
    factors: dict[str, Int16] = {}
    copies: dict[int, Int16] = {}
    for layer in range(shape.layers):
        outer = weights[f"encoder.layer.{layer}.output.dense.weight"]
        copies[layer] = choose_copies(largest[f"{layer}.outer"] * np.abs(outer).max(axis=0))
        for product, strength in STRENGTHS.items():
            columns = largest[f"{layer}.{product}"]
            if product == "outer":
                columns = np.concatenate([columns, columns[copies[layer]]])
            matrix = product_weights(weights, layer, product, copies[layer])
            factors[f"{layer}.{product}"] = choose_factors(columns, np.abs(matrix).max(axis=0), strength)
    return Calibration(factors, copies)


def choose_copies(load: Float) -> Int16:
    """Return the columns to split so that the largest share of a load is least."""
    shares = np.ones_like(load)
    chosen = []
    for _ in range(COPIES):
        column = int(np.argmax(load / shares))
        shares[column] += 1
        chosen.append(column)
    return np.array(sorted(chosen), dtype=np.int16)


def choose_factors(columns: Float, weights: Float64, strength: float) -> Int16:
    """Return factors that move difficulty from the columns of the input into the weights, as far as `strength` says."""
    wanted = np.maximum(weights, 1e-6) ** (1 - strength) / np.maximum(columns, 1e-6) ** strength
    return np.clip(np.rint(wanted * (MEDIAN_FACTOR / np.median(wanted))), 1, FACTOR_MAX).astype(np.int16)
