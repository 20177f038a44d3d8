"""BERT encoder -> hypergraph and constants.

Structure and calibration give the graph; the float weights give the constants, through element-wise float64 operations
that IEEE fixes to the bit (multiply, divide, round, compare), so every machine makes the same roots.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.calibration import Calibration, Float64, product_weights
from pouw.compiler.fp32 import BertShape, Weights
from pouw.compiler.tables import gelu_table, power_table
from pouw.hypergraph import (
    Constant,
    Hypergraph,
    Operator,
    OperatorOutput,
    Port,
    Reference,
    Subgraph,
    SubgraphInput,
    SubgraphOutput,
    Symbol,
    check_graph,
)
from pouw.operators.arithmetic import Int16
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import Dimension, Tensor, TensorType
from pouw.trace import INT16, INT32, dtype_by_name, tensor_root

TOKENS_MAX = 256
EMBEDDING_BITS = 13  # |word| < 1.1 and |position + type| < 2.3 stay below 2^15
STREAM_BITS = 10  # Q.10 residual stream: Q.11 saturates
QUERY_BITS, KEY_BITS, VALUE_BITS = 11, 9, 10
ATTENTION_LIMIT = 8191  # 32 * 8191^2 < 2^31: scores may be summed in int32
LOG2_E = 1.4426950408889634
MULTIPLIER_MAX = 2**17
GAMMA_BITS, BETA_BITS = 12, 26
POOL_BITS = 6
Q_MAX = {"qkv": 127, "out": 127, "inner": 127, "outer": 63}
INPUT_BITS = {"qkv": STREAM_BITS, "out": VALUE_BITS, "inner": STREAM_BITS, "outer": STREAM_BITS}


@dataclass(slots=True)
class _Builder:
    """Operators of the subgraph in work, and all constants so far."""

    constants: dict[bytes, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)

    def constant(self, array: Tensor) -> Constant:
        root = tensor_root(array)
        self.constants[root] = array
        return Constant(root, TensorType(dtype_by_name(array.dtype.name), array.shape))

    def add(self, name: str, label: str, *tensors: Reference, attributes: tuple[int, ...] = ()) -> OperatorOutput:
        self.operators.append(Operator(RULE_BY_NAME[name], label, tensors, attributes))
        return OperatorOutput(len(self.operators) - 1)

    def subgraph(self, name: str, inputs: tuple[str, ...], output: str, shape: tuple[Dimension, ...]) -> Subgraph:
        ports = (SubgraphOutput(Port(output, TensorType(INT16, shape)), len(self.operators) - 1),)
        made = Subgraph(name, inputs, ports, tuple(self.operators))
        self.operators = []
        return made


def build(
    name: str, weights: Weights, shape: BertShape, calibration: Calibration
) -> tuple[Hypergraph, dict[bytes, Tensor]]:
    """Return the graph `ids: int32[S] -> embedding: int16[width]` and its constants by root."""
    builder = _Builder()
    stream: tuple[Dimension, ...] = ("S", shape.width)
    _embed(builder, weights)
    subgraphs = [builder.subgraph("embed", ("ids",), "stream.0", stream)]
    tables = {"gelu": builder.constant(gelu_table()), "power": builder.constant(power_table())}
    for layer in range(shape.layers):
        _layer(builder, weights, shape, calibration, layer, tables)
        subgraphs.append(builder.subgraph(f"layer.{layer}", (f"stream.{layer}",), f"stream.{layer + 1}", stream))
    _pool(builder, shape.width, tables["power"])
    subgraphs.append(builder.subgraph("pool", (f"stream.{shape.layers}",), "embedding", (shape.width,)))
    graph = Hypergraph(
        name=name,
        symbols=(Symbol("S", 1, TOKENS_MAX),),
        inputs=(Port("ids", TensorType(INT32, ("S",))),),
        outputs=("embedding",),
        subgraphs=tuple(subgraphs),
    )
    check_graph(graph)
    return graph, builder.constants


def _embed(builder: _Builder, weights: Weights) -> None:
    words = _fixed(weights["embeddings.word_embeddings.weight"], EMBEDDING_BITS, np.int16)
    places = weights["embeddings.position_embeddings.weight"][:TOKENS_MAX].astype(np.float64)
    places = places + weights["embeddings.token_type_embeddings.weight"][0].astype(np.float64)
    x = builder.add("embedding", "embed.words", SubgraphInput(0), builder.constant(words))
    positions = builder.constant(_fixed(places, EMBEDDING_BITS, np.int16))
    _norm(
        builder,
        "embed.norm",
        builder.add("add_positions", "embed.positions", x, positions),
        weights,
        "embeddings.LayerNorm",
    )


def _pool(builder: _Builder, width: int, powers: Constant) -> None:
    """Mean over rows and its direction. The mean is a head of attention that likes all rows alike."""
    # of the stream turned, an element reads one row; a column of the stream lies in more chunks than a proof holds
    x = SubgraphInput(0)
    nothing = builder.constant(np.zeros((1, 1), dtype=np.int16))
    scores = builder.add("attention_scores", "pool.scores", nothing, x, attributes=(1, 1, 0, 0, 10))
    weights = builder.add("softmax_weights", "pool.weights", scores, powers)
    turned = builder.add("transpose_columns", "pool.values", x, attributes=(0, width))
    mean = builder.add("grouped_mix", "pool.mean", weights, turned, attributes=(1,))
    row = builder.add("mean_pool", "pool.row", mean, attributes=(POOL_BITS,))
    builder.add("l2_normalize", "pool.normalize", row)


def _layer(
    builder: _Builder,
    weights: Weights,
    shape: BertShape,
    calibration: Calibration,
    layer: int,
    tables: Mapping[str, Constant],
) -> None:
    name = f"encoder.layer.{layer}."
    x = SubgraphInput(0)
    copies = calibration.copies[layer]

    def linear(product: str, source: Reference, out: Float64, bias: Float64, limit: int) -> Reference:
        matrix = product_weights(weights, layer, product, copies)
        clip = calibration.clip_percents[layer] if product == "outer" else 100
        column_factors = calibration.factors[f"{layer}.{product}"]
        return _linear(
            builder, product, source, matrix, column_factors, out * 0.5 ** INPUT_BITS[product], bias * out, limit, clip
        )

    head_factor = LOG2_E / float(np.sqrt(np.float64(shape.head_size)))
    factors = (head_factor * 2**QUERY_BITS, float(2**KEY_BITS), float(2**VALUE_BITS))
    out = np.repeat(np.array(factors), shape.width)  # (3 * width,)
    bias = np.concatenate([weights[f"{name}attention.self.{part}.bias"] for part in ("query", "key", "value")])
    qkv = linear("qkv", x, out, bias.astype(np.float64), ATTENTION_LIMIT)
    scores = builder.add(
        "attention_scores",
        "attention.scores",
        qkv,
        qkv,
        attributes=(shape.heads, shape.head_size, 0, shape.width, QUERY_BITS + KEY_BITS - 10),
    )
    powers = builder.add("softmax_weights", "attention.softmax", scores, tables["power"])
    values = builder.add("transpose_columns", "attention.values", qkv, attributes=(2 * shape.width, shape.width))
    mixed = builder.add("grouped_mix", "attention.mix", powers, values, attributes=(shape.heads,))

    def residual(product: str, source: Reference, base: Reference, place: str, norm: str) -> Reference:
        ones = np.full(shape.width, float(2**STREAM_BITS))
        bias = weights[f"{name}{place}.bias"].astype(np.float64)
        y = linear(product, source, ones, bias, 2**15 - 1)
        return _norm(
            builder, f"{product}.norm", builder.add("add", f"{product}.residual", base, y), weights, f"{name}{norm}"
        )

    x1 = residual("out", mixed, x, "attention.output.dense", "attention.output.LayerNorm")
    bias = weights[f"{name}intermediate.dense.bias"].astype(np.float64)
    bias = np.concatenate([bias, bias[copies]])
    inner = linear("inner", x1, np.full(len(bias), float(2**STREAM_BITS)), bias, 2**15 - 1)
    active = builder.add("lookup", "inner.gelu", inner, tables["gelu"])
    residual("outer", active, x1, "output.dense", "output.LayerNorm")


def _linear(
    builder: _Builder,
    product: str,
    source: Reference,
    matrix: Float64,
    factors: Int16,
    scale: Float64,
    bias: Float64,
    limit: int,
    clip_percent: int,
) -> OperatorOutput:
    """Quantise the rows, multiply, rescale by `scale` (per column: out units per in unit) and add `bias`."""
    q_max = Q_MAX[product]
    smooth = builder.constant(factors)
    maximum = builder.add("row_maximum", f"{product}.maximum", source, smooth)
    q = builder.add("quantize", f"{product}.quantize", source, maximum, smooth, attributes=(q_max,))
    shrunk = matrix / factors.astype(np.float64)  # (n, k)
    columns = np.abs(shrunk).max(axis=1) * clip_percent / 100  # (n,)
    rounded = np.rint(shrunk * (q_max / columns)[:, None])  # (n, k)
    quantised = np.clip(rounded, -q_max, q_max).astype(np.int8)
    mining = int(q_max < 64)
    raw = builder.add("matmul", f"{product}.matmul", q, builder.constant(quantised), attributes=(mining,))
    exact = columns / q_max / q_max * scale  # (n,)
    shift = 0
    while float(exact.max()) * 2 ** (shift + 1) < MULTIPLIER_MAX:
        shift += 1
    multipliers = builder.constant(np.rint(exact * 2**shift).astype(np.int32))
    offsets = builder.constant(np.rint(bias).astype(np.int32))
    return builder.add("rescale", f"{product}.rescale", raw, maximum, multipliers, offsets, attributes=(shift, limit))


def _norm(builder: _Builder, label: str, x: Reference, weights: Weights, name: str) -> OperatorOutput:
    gamma = builder.constant(_fixed(weights[f"{name}.weight"], GAMMA_BITS, np.int32))
    beta = builder.constant(_fixed(weights[f"{name}.bias"], BETA_BITS, np.int32))
    return builder.add("layer_norm", label, x, gamma, beta)


def _fixed(x: NDArray[np.floating], bits: int, dtype: type[np.signedinteger]) -> Tensor:
    """Return x in fixed point. Scaling by a power of two is exact, rounding is IEEE's."""
    fixed: Tensor = np.rint(x.astype(np.float64) * 2**bits).astype(dtype)
    return fixed
