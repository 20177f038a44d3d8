"""Which fixed point each value of a program gets: what calibration saw, and the plan that follows from it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import floor, isqrt, log2

import numpy as np

from chain.errors import OutOfRange
from pouw.compiler.program import Array, Float, Node, Program, activate, evaluate
from pouw.operators.arithmetic import INT16_MAX, INT32_MAX

HEADROOM = 1.3  # a new input may go this far beyond what calibration saw before it saturates
FRACTION_BITS_MAX = 20
TABLE_HALF = 8192  # a lookup covers [-8192, 8192) in units of its input
LOG2_E = 1.4426950408889634
# largest number of fraction bits at which the function is its own argument (or zero) beyond the table
TAIL_BITS = {"gelu": 11, "gelu_tanh": 11, "silu": 9, "relu": 14, "hardswish": 11, "mish": 9, "softplus": 9}
# these hold what their sources hold, or a sum of it: one fixed point serves both
SAME_SCALE = (
    *("add", "mean", "first", "last", "patches", "concat", "max_pool", "average_pool", "flatten"),
    *("gather", "taps", "join", "columns", "blend", "turned", "rope"),
)
FLAT = ("tanh", "sigmoid")
SATURATING_INPUT = 1024.0  # tanh and sigmoid are flat beyond 8
SATURATING_OUTPUT = float(2**14)


class CalibrationEmpty(OutOfRange):
    """There are no inputs to calibrate on."""


class NotFinite(OutOfRange):
    """The model makes infinities or NaN on a calibration input."""


@dataclass(frozen=True, slots=True)
class Format:
    """How a float stands in integers: value * scale, clamped to [-limit, limit]."""

    scale: float
    limit: int = INT16_MAX


def observe_columns(
    program: Program, inputs: Iterable[Mapping[str, Array]], progress: Callable[[], None] | None = None
) -> dict[int, Float]:
    """Return for each node the largest absolute value of each column over all inputs.

    Raises:
        CalibrationEmpty, NotFinite.
    """
    largest: dict[int, Float] = {}

    def see(index: int, value: Float) -> None:
        column = np.abs(value).max(axis=0)
        if not np.isfinite(column).all():
            raise NotFinite(f"output of {program.nodes[index].label}", float(column.max()), "finite numbers")
        largest[index] = np.maximum(largest[index], column) if index in largest else column

    count = 0
    for given in inputs:
        evaluate(program, given, see)
        count += 1
        if progress is not None:
            progress()
    if not count:
        raise CalibrationEmpty("calibration inputs", 0, "at least one")
    return largest


def choose_scale(largest: float, limit: int = INT16_MAX, bits_max: int = FRACTION_BITS_MAX) -> float:
    """Return the largest power of two that keeps `largest` within the limit, with headroom."""
    bits = floor(log2(limit / (max(largest, 2.0**-FRACTION_BITS_MAX) * HEADROOM)))
    return 2.0 ** min(bits, bits_max)


def attention_limit(head_size: int) -> int:
    """Return the bound of queries and keys that keeps every score within int32."""
    return min(INT16_MAX, isqrt(INT32_MAX // head_size))


def activation_format(function: str, largest: float) -> tuple[Format, Format]:
    """Return the formats before and behind a lookup."""
    if function in TAIL_BITS:
        both = Format(choose_scale(largest, bits_max=TAIL_BITS[function]))
        return both, both
    if function in FLAT:
        return Format(SATURATING_INPUT, TABLE_HALF - 1), Format(SATURATING_OUTPUT)
    before = Format(choose_scale(largest, TABLE_HALF - 1), TABLE_HALF - 1)
    reach = np.arange(-TABLE_HALF, TABLE_HALF) / before.scale
    return before, Format(choose_scale(float(np.abs(activate(function, reach)).max())))


def attention_formats(node: Node, largest: Mapping[int, Float]) -> tuple[Format, Format, Format, int]:
    """Return the formats of queries, keys and values, and the shift of the scores.

    The scores' factor log2(e) * scale stands in the scale of the queries.
    """
    limit = attention_limit(int(node.numbers["head_size"]))
    q, k, v = (float(largest[source].max()) for source in node.sources)
    factor = node.numbers["scale"] * LOG2_E
    keys = choose_scale(k, limit)
    queries = choose_scale(q * factor, limit)
    shift = int(log2(queries)) + int(log2(keys)) - 10
    while shift < 1:  # huge scores: the softmax is a maximum, clamping keeps it one
        queries, shift = queries * 2, shift + 1
    while shift > 40:
        queries, shift = queries / 2, shift - 1
    return Format(queries * factor, limit), Format(keys, limit), Format(choose_scale(v, limit), limit), shift


def plan_formats(program: Program, largest: Mapping[int, Float]) -> dict[int, Format]:  # noqa: C901, PLR0912  # one pass
    """Return the int16 format of each node; operands of one sum share theirs where they may."""
    readers = program.readers()
    fixed: dict[int, Format] = {}
    parent = list(range(len(program.nodes)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    peak = {index: float(columns.max()) for index, columns in largest.items()}
    for index, node in enumerate(program.nodes):
        if node.kind == "activation":
            before, behind = activation_format(node.function, peak[node.sources[0]])
            fixed[index] = behind
            if set(readers[node.sources[0]]) == {index}:
                fixed[node.sources[0]] = before
        elif node.kind == "attention":
            q, k, v, _ = attention_formats(node, largest)
            own = zip(node.sources, (q, k, v), strict=True)
            fixed.update((source, form) for source, form in own if readers[source] == [index])
            fixed[index] = Format(v.scale)
        elif node.kind in SAME_SCALE:
            if node.kind == "add":
                parent[root(node.sources[0])] = root(node.sources[1])
            elif node.kind == "join":
                for source in node.sources:
                    parent[root(source)] = root(index)
            else:
                parent[root(index)] = root(node.sources[0])
        elif node.kind == "embedding":
            peak[index] = float(np.abs(node.arrays["table"]).max())
        elif node.kind in {"positions", "concat"}:
            source = node.sources[0]
            peak[source] = max(peak[source], float(np.abs(next(iter(node.arrays.values()))).max()))
    groups: dict[int, float] = {}
    for index, value in peak.items():
        if index not in fixed:
            groups[root(index)] = max(groups.get(root(index), 0.0), value)
    return {index: fixed[index] if index in fixed else Format(choose_scale(groups[root(index)])) for index in peak}
