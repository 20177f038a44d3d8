"""What is chosen once from example texts and committed beside the graph: factors of columns, neurons to split."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.fp32 import BertShape, Float, Weights, encode
from pouw.operators.arithmetic import Int16
from pouw.operators.linear import FACTOR_MAX

Float64 = NDArray[np.float64]
MEDIAN_FACTOR = FACTOR_MAX // 4
PRODUCTS = ("qkv", "out", "inner", "outer")


@dataclass(frozen=True, slots=True)
class Tuning:
    """How one layer is quantised, found by trying: each step had to help the calibration texts."""

    strengths: tuple[float, float, float, float]
    """For each product how far factors move difficulty from its input (0) into its weights (1)."""
    copies: int
    """Extra copies of large feed-forward neurons."""
    spread: float
    """The factors of a neuron's copies differ by up to this share, so that their roundings differ."""
    clip_percent: int
    """Largest weight of the mining product that is kept, in percent of the column's largest."""


MINILM_TUNING = (
    Tuning((0.65, 0.5, 0.5, 0.75), copies=16, spread=0.15, clip_percent=100),
    Tuning((0.75, 0.4, 0.5, 0.75), copies=8, spread=0.15, clip_percent=95),
    Tuning((0.65, 0.65, 0.5, 0.85), copies=12, spread=0.15, clip_percent=100),
    Tuning((0.75, 0.5, 0.5, 0.85), copies=16, spread=0.15, clip_percent=100),
    Tuning((0.65, 0.65, 0.5, 0.65), copies=24, spread=0.08, clip_percent=100),
    Tuning((0.65, 0.5, 0.5, 0.7), copies=0, spread=0.0, clip_percent=95),
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the float weights do not say."""

    factors: Mapping[str, Int16]
    """"<layer>.<product>" -> for each column of the product's input 1 .. 256; the weights are divided by them."""
    copies: Mapping[int, Int16]
    """Layer -> the feed-forward neurons that are computed once more for each entry, their weights shared out.

    A few neurons are a hundred times larger than all others; split, they fit into the 7 bits of a mining operand.
    """
    clip_percents: Mapping[int, int]
    """Layer -> where the weights of its mining product are cut."""


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


def calibrate(
    weights: Weights, shape: BertShape, tunings: Sequence[Tuning], texts: Iterable[NDArray[np.int32]]
) -> Calibration:
    """Choose factors and copies from the largest value that each column takes on the texts' token ids."""
    largest: dict[str, Float] = {}

    def see(name: str, x: Float) -> None:
        column = np.abs(x).max(axis=0)
        largest[name] = np.maximum(largest.get(name, column), column)

    for ids in texts:
        encode(weights, shape, ids, see)
    factors: dict[str, Int16] = {}
    copies: dict[int, Int16] = {}
    for layer, tuning in enumerate(tunings):
        outer = weights[f"encoder.layer.{layer}.output.dense.weight"]
        copies[layer] = choose_copies(largest[f"{layer}.outer"] * np.abs(outer).max(axis=0), tuning.copies)
        for product, strength in zip(PRODUCTS, tuning.strengths, strict=True):
            columns = largest[f"{layer}.{product}"]
            if product == "outer":
                columns = np.concatenate([columns, columns[copies[layer]]])
            matrix = product_weights(weights, layer, product, copies[layer])
            wanted = wanted_factors(columns, np.abs(matrix).max(axis=0), strength)
            if product == "outer":
                wanted = wanted * spread_copies(copies[layer], shape.inner, tuning.spread)
            factors[f"{layer}.{product}"] = np.clip(np.rint(wanted), 1, FACTOR_MAX).astype(np.int16)
    return Calibration(factors, copies, {layer: tuning.clip_percent for layer, tuning in enumerate(tunings)})


def choose_copies(load: Float, count: int) -> Int16:
    """Return the columns to split so that the largest share of a load is least."""
    shares = np.ones_like(load)
    chosen = []
    for _ in range(count):
        column = int(np.argmax(load / shares))
        shares[column] += 1
        chosen.append(column)
    return np.array(sorted(chosen), dtype=np.int16)


def spread_copies(copies: Int16, inner: int, spread: float) -> Float64:
    """Return for each column, copies behind the others, what its factor is multiplied by."""
    ratios = np.ones(inner + len(copies))
    for column in sorted(set(copies.tolist())):
        places = [column, *(inner + i for i, copied in enumerate(copies) if copied == column)]
        ratios[places] = np.linspace(1 - spread, 1 + spread, len(places))
    return ratios


def wanted_factors(columns: Float, weights: Float64, strength: float) -> Float64:
    """Return factors that move difficulty from the columns of the input into the weights, as far as `strength` says."""
    wanted = np.maximum(weights, 1e-6) ** (1 - strength) / np.maximum(columns, 1e-6) ** strength
    return np.asarray(wanted * (MEDIAN_FACTOR / np.median(wanted)), dtype=np.float64)
