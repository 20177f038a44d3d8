"""A subgraph with every pattern that a backend may run in one pass, on operands over their whole range."""

import numpy as np

from pouw.backends.cases_encoder import full_range
from pouw.hypergraph import (
    Constant,
    Operator,
    OperatorOutput,
    Port,
    Reference,
    Subgraph,
    SubgraphInput,
    SubgraphOutput,
)
from pouw.operators.activation import TABLE_SIZE
from pouw.operators.attention import WEIGHT_TABLE_SIZE
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import Tensor, TensorType
from pouw.trace import INT16, INT32, dtype_by_name, tensor_root

HEADS, HEAD_SIZE = 3, 6
WIDTH = HEADS * HEAD_SIZE
INNER = 70


class _Builder:
    def __init__(self) -> None:
        self.constants: dict[bytes, Tensor] = {}
        self.operators: list[Operator] = []

    def constant(self, array: Tensor) -> Constant:
        root = tensor_root(array)
        self.constants[root] = array
        return Constant(root, TensorType(dtype_by_name(array.dtype.name), array.shape))

    def add(self, name: str, *tensors: Reference, attributes: tuple[int, ...] = ()) -> OperatorOutput:
        index = len(self.operators)
        self.operators.append(Operator(RULE_BY_NAME[name], f"{name}.{index}", tensors, attributes))
        return OperatorOutput(index)

    def linear(self, x: Reference, n: int, k: int, mining: int, scale: tuple[int, int]) -> OperatorOutput:
        """Scale: how far multipliers and bias are shifted down, and the shift of the sum."""
        seed = len(self.operators)
        factors = self.constant((full_range(np.int16, (k,), seed).astype(np.int32) % 256 + 1).astype(np.int16))
        maximum = self.add("row_maximum", x, factors)
        q = self.add("quantize", x, maximum, factors, attributes=(63 if mining else 127,))
        weights = (full_range(np.int8, (n, k), seed + 1) >> mining).astype(np.int8)
        product = self.add("matmul", q, self.constant(weights), attributes=(mining,))
        multipliers, bias = (self.constant(full_range(np.int32, (n,), seed + i) >> scale[0]) for i in (2, 3))
        return self.add("rescale", product, maximum, multipliers, bias, attributes=(scale[1], 2**15 - 1))

    def norm(self, x: Reference) -> OperatorOutput:
        seed = len(self.operators)
        gamma, beta = (self.constant(full_range(np.int32, (WIDTH,), seed + i)) for i in range(2))
        return self.add("layer_norm", x, gamma, beta)


def subgraph() -> tuple[Subgraph, dict[bytes, Tensor]]:
    """Return `x: int16[S, 18]` -> one tensor for each pattern, and the constants."""
    builder = _Builder()
    x = SubgraphInput(0)
    powers = np.abs(full_range(np.int16, (WEIGHT_TABLE_SIZE,), 1).astype(np.int32)).clip(0, 2**15 - 1).astype(np.int16)
    table = builder.constant(full_range(np.int16, (TABLE_SIZE,), 2))
    qkv = builder.linear(x, 3 * WIDTH, WIDTH, 0, (15, 30))
    scores = builder.add("attention_scores", qkv, qkv, attributes=(HEADS, HEAD_SIZE, 0, WIDTH, 14))
    weights = builder.add("softmax_weights", scores, builder.constant(powers))
    mixed = builder.add("attention_mix", weights, qkv, attributes=(HEAD_SIZE, 2 * WIDTH))
    other = builder.add(
        "softmax_weights",
        builder.add("attention_scores", qkv, qkv, attributes=(HEADS, HEAD_SIZE, WIDTH, 0, 15)),
        builder.constant(powers),
    )
    turned = builder.add("transpose_columns", qkv, attributes=(2 * WIDTH - 1, WIDTH))
    grouped = builder.add("grouped_mix", other, turned, attributes=(HEADS,))
    first = builder.norm(builder.add("add", x, builder.linear(mixed, WIDTH, WIDTH, 0, (15, 32))))
    active = builder.add("lookup", builder.linear(first, INNER, WIDTH, 0, (0, 40)), table)
    second = builder.norm(builder.add("add", first, builder.linear(active, WIDTH, INNER, 1, (12, 36))))
    plain = builder.linear(active, INNER, INNER, 0, (0, 62))
    # read twice: nothing of this one may go together
    twice = builder.linear(second, WIDTH, WIDTH, 0, (15, 30))
    observed = builder.add("lookup", twice, table)
    ports = {
        "mixed": (mixed, WIDTH),
        "grouped": (grouped, WIDTH),
        "second": (second, WIDTH),
        "active": (active, INNER),
        "plain": (plain, INNER),
    }
    ports |= {"twice": (twice, WIDTH), "observed": (observed, WIDTH)}
    outputs = (
        SubgraphOutput(Port(name, TensorType(INT16, ("S", width))), made.index) for name, (made, width) in ports.items()
    )
    return Subgraph("patterns", ("x",), tuple(outputs), tuple(builder.operators)), builder.constants


def taps() -> tuple[Subgraph, dict[bytes, Tensor]]:
    """Return `x: int16[11, 5]` -> scores of two columns by themselves and of three, over three taps of seven rows."""
    builder = _Builder()
    rows, taps, width = 7, 3, 5
    ids = builder.constant((np.arange(taps * rows, dtype=np.int32) * 5 + 10) % 11)
    key = full_range(np.int16, (1, taps * width), 5)
    key[0, :taps] = -(2**15)
    weights = builder.constant(key)
    seen = builder.add("embedding", ids, SubgraphInput(0))
    spread = builder.add("reshape", seen, attributes=(taps, rows * width, 0))
    turned = builder.add("transpose_columns", spread, attributes=(0, rows * width))
    queries = builder.add("reshape", turned, attributes=(rows, width * taps, 0))
    two = builder.add("attention_scores", queries, weights, attributes=(2, taps, 0, 0, 1))
    three = builder.add("attention_scores", queries, weights, attributes=(3, taps, 2 * taps, 2 * taps, 9))
    outputs = tuple(
        SubgraphOutput(Port(name, TensorType(INT32, (columns, rows, 1))), made.index)
        for name, columns, made in (("two", 2, two), ("three", 3, three))
    )
    return Subgraph("taps", ("x",), outputs, tuple(builder.operators)), builder.constants


def taps_inputs() -> tuple[Tensor, ...]:
    """Return every bit pattern, and the lowest value alone."""
    return full_range(np.int16, (11, 5), 6), np.full((11, 5), -(2**15), dtype=np.int16)


def patterns_alone(subgraph: Subgraph) -> Subgraph:
    """Return the subgraph without its last operator, the only one that no pattern holds: it may run in one call."""
    last = len(subgraph.operators) - 1
    outputs = tuple(output for output in subgraph.outputs if output.operator != last)
    return Subgraph("alone", subgraph.inputs, outputs, subgraph.operators[:last])


def inputs() -> tuple[Tensor, ...]:
    """Return inputs of one row, of a remainder, of more than a kernel takes at a time."""
    extremes = np.full((9, WIDTH), -(2**15), dtype=np.int16)
    extremes[1] = 2**15 - 1
    return (full_range(np.int16, (1, WIDTH), 3), extremes, full_range(np.int16, (37, WIDTH), 4))
