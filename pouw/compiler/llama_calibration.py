"""What the float weights of a decoder do not say: fixed points and the products' factors, from texts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.calibration import wanted_factors
from pouw.compiler.fp32 import Float, Weights
from pouw.compiler.llama_config import LlamaShape
from pouw.compiler.llama_families import FAMILIES
from pouw.compiler.llama_fp32 import head_weights, logits_of
from pouw.operators.arithmetic import Int16
from pouw.operators.linear import FACTOR_MAX

LOG2_E = 1.4426950408889634
GATE_BITS = 10  # the table of SiLU is Q.10
STREAM_BITS_MAX = 16
WIDEN_MAX = 9
PRODUCTS = ("qkv", "out", "inner", "outer")
STRENGTHS = {"qkv": 0.5, "out": 0.5, "inner": 0.5, "outer": 0.6, "head": 0.5}
MARGIN = 1.6  # how far beyond the calibration texts a value may go before it is cut
STREAM_MARGIN = 4.0


@dataclass(frozen=True, slots=True)
class LlamaCalibration:
    """What the float weights do not say."""

    factors: Mapping[str, Int16]
    """"<layer>.<product>" or "head" -> for each column of the product's input 1 .. 256."""
    bits: Mapping[str, int]
    """Fraction bits of "stream", "embedding", "norm" and "<layer>.<query, key, value, up, outer>"; "<layer>.raw" are
    queries and keys before a norm of their own."""


def calibrate(
    weights: Weights,
    shape: LlamaShape,
    texts: Iterable[NDArray[np.int32]],
    progress: Callable[[int], None] | None = None,
) -> LlamaCalibration:
    """Choose factors and fixed points from the largest values on the texts' token ids; `progress` counts the texts."""
    columns: dict[str, Float] = {}

    def see(name: str, x: Float) -> None:
        largest = np.abs(x).max(axis=0)
        columns[name] = np.maximum(columns.get(name, largest), largest)

    for done, ids in enumerate(texts, 1):
        logits_of(weights, shape, ids, see)
        if progress is not None:
            progress(done)
    factors = {}
    for name in (*(f"{layer}.{product}" for layer in range(shape.layers) for product in PRODUCTS), "head"):
        product = name.rpartition(".")[2]
        matrix = np.abs(np.concatenate(matrices_of(weights, shape, name))).max(axis=0)
        wanted = wanted_factors(columns[name], matrix, STRENGTHS[product])
        factors[name] = np.clip(np.rint(wanted), 1, FACTOR_MAX).astype(np.int16)
    stream = _bits(columns["stream"], 2.0**24, STREAM_MARGIN, STREAM_BITS_MAX)
    read = ("embed_tokens", "positions") if FAMILIES[shape.family].positions else ("embed_tokens",)
    tables = [weights[f"model.{table}.weight"] for table in read]
    embedding = min(_bits(np.abs(table), 2.0**15, 1.0, stream) for table in tables)
    stream = min(stream, embedding + WIDEN_MAX)
    norms = [value for name, value in columns.items() if name.endswith(("qkv", "inner", "head"))]
    bits = {"stream": stream, "embedding": embedding, "norm": _bits(np.concatenate(norms), 2.0**15, MARGIN, 14)}
    parts = ("query", "key", "value", "up", "outer", *(["raw"] if FAMILIES[shape.family].qk_norm else []))
    for layer in range(shape.layers):
        for part in parts:
            found = columns[f"{layer}.{part}"]
            scale = LOG2_E / np.sqrt(shape.head_size) if part == "query" else 1.0
            bits[f"{layer}.{part}"] = _bits(found * scale, 2.0**15, MARGIN, 14)
        if not FAMILIES[shape.family].gated:
            bits[f"{layer}.up"] = bits[f"{layer}.outer"] = GATE_BITS  # what the table takes and gives
    return LlamaCalibration(factors, bits)


def matrices_of(weights: Weights, shape: LlamaShape, product: str) -> list[Float]:
    """Return the weights that read one quantised input."""
    layer, _, part = product.rpartition(".")
    if part == "head":
        return [head_weights(weights, shape)]
    places = {
        "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "out": ("self_attn.o_proj",),
        "inner": ("mlp.gate_proj", "mlp.up_proj") if FAMILIES[shape.family].gated else ("mlp.up_proj",),
        "outer": ("mlp.down_proj",),
    }
    return [weights[f"model.layers.{layer}.{place}.weight"] for place in places[part]]


def _bits(values: Float, bound: float, margin: float, most: int) -> int:
    """Return the most fraction bits with which the largest value times the margin stays below the bound."""
    bits = most
    while float(np.abs(values).max()) * margin * 2.0**bits >= bound and bits > 0:
        bits -= 1
    return bits
