"""Float program -> hypergraph and constants, on the formats that `ranges.py` planned.

What is no operator by itself (a change of fixed point, a mean that stays a matrix) is written with those that are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, log2
from typing import Final

import numpy as np

from pouw.compiler.assemble import Built, Handle
from pouw.compiler.lowering import Lower, Lowering, Mining, to_constant
from pouw.compiler.lowering_fixed import FIXED_ROWS
from pouw.compiler.lowering_products import lower_linear
from pouw.compiler.neurons import split_neurons
from pouw.compiler.program import INPUTS, Float, Node, Program, UnmappableOperator, activate
from pouw.compiler.ranges import Format, activation_format, attention_formats
from pouw.compiler.tables import gelu_table, power_table
from pouw.operators.activation import TABLE_SIZE
from pouw.operators.arithmetic import INT16_MAX, INT32_MAX
from pouw.operators.decoder import EPSILON_MAX, RMS_WIDTH_MAX, ROTATION_BITS
from pouw.operators.norm import L2_WIDTH_MAX, NORM_WIDTH_MAX
from pouw.operators.types import Tensor

GAMMA_BITS, BETA_BITS, NORM_BITS = 12, 26, 10
ROOT_BITS = 14  # fraction bits of a value over its root mean square
POOL_BITS = 6


@dataclass(frozen=True, slots=True)
class Quantised:
    """What the compiler makes of a program."""

    built: Built
    input_scales: Mapping[str, float]
    """Input -> what its floats are multiplied by; 1 for ids."""
    output_scales: Mapping[str, float]
    """Output -> what its integers are divided by."""


def quantise(name: str, program: Program, largest: Mapping[int, Float], mining: Mining = "some") -> Quantised:
    """Return the checked graph of a program.

    `mining`: which products get 7-bit operands so that they may be mined: those behind an activation, all, or none.

    Raises:
        UnmappableOperator, ConstantTooLarge, and what `check_graph` raises.
    """
    if mining != "none":
        program, largest = split_neurons(program, largest)
    return _run(name, Lowering(program, largest, mining))


def _run(name: str, work: Lowering) -> Quantised:
    for index, node in enumerate(work.program.nodes):
        work.assembly.enter(node.block, node.label)
        try:
            LOWERINGS[node.kind](work, index, node)
        except UnmappableOperator as error:
            if not error.origin:
                error.origin = node.origin or node.label
            raise
    outputs: dict[str, Handle] = {}
    output_scales: dict[str, float] = {}
    for output, index in work.program.outputs.items():
        work.assembly.enter(work.program.nodes[index].block, f"{output}.output")
        outputs[output], output_scales[output] = _output(work, index)
    scales = {
        node.label: work.formats[index].scale if node.kind in {"rows", "picture"} else 1.0
        for index, node in enumerate(work.program.nodes)
        if node.kind in INPUTS
    }
    return Quantised(work.assembly.finish(name, outputs), scales, output_scales)


def _ids(work: Lowering, _index: int, node: Node) -> None:
    work.assembly.ids(node.label)


def _rows(work: Lowering, index: int, node: Node) -> None:
    form = Format(work.formats[index].scale)  # a stranger's input may use all of int16
    work.narrow[index][form] = work.assembly.rows(node.label, int(node.numbers["width"]))


def _concat(work: Lowering, index: int, node: Node) -> None:
    handle, scale = work.int16(node.sources[0])
    row = work.assembly.constant(to_constant("first row", node.arrays["row"] * scale, np.int16))
    work.narrow[index][Format(scale)] = work.assembly.add("concat_rows", row, handle)


def _embedding(work: Lowering, index: int, node: Node) -> None:
    form = Format(work.formats[index].scale)
    table = work.assembly.constant(to_constant("embedding table", node.arrays["table"] * form.scale, np.int16))
    source = work.assembly.input(work.program.nodes[node.sources[0]].label)
    work.narrow[index][form] = work.assembly.add("embedding", source, table)


def _positions(work: Lowering, index: int, node: Node) -> None:
    handle, scale = work.int16(node.sources[0])
    table = node.arrays["table"] * scale
    if work.program.fixed_rows is None:
        table = table[: work.program.rows_max]
    constant = work.assembly.constant(to_constant("position table", table, np.int16))
    work.wide[index] = (work.assembly.add("add_positions", handle, constant), scale)


def _norm(work: Lowering, index: int, node: Node) -> None:
    width = len(node.arrays["gamma"])
    if width > NORM_WIDTH_MAX:
        raise UnmappableOperator("layer_norm", f"width {width}, at most {NORM_WIDTH_MAX}", node.origin or node.label)
    handle, _ = work.int32(node.sources[0])
    form = work.formats[index]
    gamma = to_constant("gamma", node.arrays["gamma"] * (form.scale * 2.0 ** (GAMMA_BITS - NORM_BITS)), np.int32)
    beta = to_constant("beta", node.arrays["beta"] * (form.scale * 2.0 ** (BETA_BITS - NORM_BITS)), np.int32)
    made = work.assembly.add("layer_norm", handle, work.assembly.constant(gamma), work.assembly.constant(beta))
    work.narrow[index][Format(form.scale)] = made


def _rms(work: Lowering, index: int, node: Node) -> None:
    width = len(node.arrays["gamma"])
    if width > RMS_WIDTH_MAX:
        raise UnmappableOperator("rms_norm", f"width {width}, at most {RMS_WIDTH_MAX}", node.origin or node.label)
    handle, scale = work.int32(node.sources[0])
    form = work.formats[index]
    epsilon = min(round(float(node.numbers["epsilon"]) * width * scale * scale), EPSILON_MAX)
    gamma = node.arrays["gamma"].astype(np.float64)
    bits = min(GAMMA_BITS + 8, floor(log2(INT32_MAX / max(1.0, float(np.abs(gamma).max())))) - 1)
    shift = ROOT_BITS + bits - int(log2(form.scale))
    constant = work.assembly.constant(to_constant("gamma", gamma * 2.0**bits, np.int32))
    work.narrow[index][Format(form.scale)] = work.assembly.add(
        "rms_norm", handle, constant, attributes=(epsilon, shift)
    )


def _rope(work: Lowering, index: int, node: Node) -> None:
    handle, scale = work.int16(node.sources[0])
    table = node.arrays["table"].astype(np.float64)
    if work.program.fixed_rows is None:
        table = table[: work.program.rows_max]
    constant = work.assembly.constant(to_constant("rotation", table * 2.0**ROTATION_BITS, np.int16))
    factors = work.assembly.constant(np.ones(work.assembly.width(handle), dtype=np.int16))
    rows = work.assembly.add("row_maximum", handle, factors)  # only their number counts
    attributes = (int(node.numbers["heads"]), int(node.numbers["head_size"]), 0)
    work.narrow[index][Format(scale)] = work.assembly.add("rope", handle, rows, constant, attributes=attributes)


def _activation(work: Lowering, index: int, node: Node) -> None:
    before, behind = activation_format(node.function, float(work.largest[node.sources[0]].max()))
    source = work.at(node.sources[0], before)
    table = work.assembly.constant(_table(node.function, before.scale, behind.scale))
    work.narrow[index][behind] = work.assembly.add("lookup", source, table)


def _add(work: Lowering, index: int, node: Node) -> None:
    forms = [work.int16(source)[1] for source in node.sources]
    scale = min(forms)
    x, y = (work.at(source, Format(scale)) for source in node.sources)
    work.wide[index] = (work.assembly.add("add", x, y), scale)


def _gate(work: Lowering, index: int, node: Node) -> None:
    (x, x_scale), (y, y_scale) = (work.int16(source) for source in node.sources)
    shift = min(30, max(1, round(log2(x_scale * y_scale / work.formats[index].scale))))
    form = Format(x_scale * y_scale / 2.0**shift)
    work.narrow[index][form] = work.assembly.add("gated_product", x, y, attributes=(shift,))


def _affine(work: Lowering, index: int, node: Node) -> None:
    handle, scale = work.int32(node.sources[0])
    form = work.formats[index]
    width = work.assembly.width(handle)
    factor = np.broadcast_to(node.arrays["factor"].astype(np.float64), (width,)) * (form.scale / scale)
    offset = np.broadcast_to(node.arrays["offset"].astype(np.float64), (width,)) * form.scale
    work.narrow[index][form] = work.requantise(handle, factor, form.limit, offset)


def _attention(work: Lowering, index: int, node: Node) -> None:
    heads, size = int(node.numbers["heads"]), int(node.numbers["head_size"])
    *formats, shift = attention_formats(node, work.largest)
    handles = []
    for source, form in zip(node.sources, formats, strict=True):
        handles.append(work.parts[source] if source in work.parts else (work.at(source, form), 0))
    (q, q_start), (k, k_start), (v, v_start) = handles
    if "kv_heads" in node.numbers:
        kv_heads = int(node.numbers["kv_heads"])
        work.narrow[index][Format(formats[2].scale)] = _causal(work, (q, k, v), (heads, kv_heads, size, shift))
        return
    scores = work.assembly.add("attention_scores", q, k, attributes=(heads, size, q_start, k_start, shift))
    powers = work.assembly.add("softmax_weights", scores, work.assembly.constant(power_table()))
    turned = work.assembly.add("transpose_columns", v, attributes=(v_start, heads * size))
    mixed = work.assembly.add("grouped_mix", powers, turned, attributes=(heads,))
    work.narrow[index][Format(formats[2].scale)] = mixed


def _causal(work: Lowering, parts: tuple[Handle, Handle, Handle], attributes: tuple[int, int, int, int]) -> Handle:
    """Attention in which a row sees the rows up to itwork."""
    q, k, v = parts
    turned = work.assembly.add("transpose_columns", v, attributes=(0, work.assembly.width(v)))
    scores = work.assembly.add("causal_scores", q, k, attributes=attributes)
    powers = work.assembly.add("causal_softmax", scores, work.assembly.constant(power_table()))
    return work.assembly.add("grouped_mix", powers, turned, attributes=(attributes[1],))


def _last(work: Lowering, index: int, node: Node) -> None:
    handle, scale = work.int32(node.sources[0])
    work.wide[index] = (work.assembly.add("last_row", handle), scale)


def _mean(work: Lowering, index: int, node: Node) -> None:
    _select(work, index, work.int16(node.sources[0]), None)


def _first(work: Lowering, index: int, node: Node) -> None:
    handle, scale = work.int16(node.sources[0])
    if work.program.fixed_rows is not None:
        work.narrow[index][Format(scale)] = work.assembly.add("slice_rows", handle, attributes=(0, 1))
        return
    marks = np.zeros((work.program.rows_max, work.assembly.width(handle)), dtype=np.int16)
    marks[0, 0] = INT16_MAX
    zeros = work.assembly.zeros(handle)
    wide = work.assembly.add("add_positions", zeros, work.assembly.constant(marks))
    _select(work, index, (handle, scale), work.requantise(wide, np.array([1.0]), INT16_MAX))


def _select(work: Lowering, index: int, value: tuple[Handle, float], keys: Handle | None) -> None:
    """A mean over rows as one head of attention: all rows weigh the same, with keys only the marked ones."""
    handle, scale = value
    query = work.assembly.constant(np.array([[0 if keys is None else INT16_MAX]], dtype=np.int16))
    scores = work.assembly.add("attention_scores", query, handle if keys is None else keys, attributes=(1, 1, 0, 0, 10))
    powers = work.assembly.add("softmax_weights", scores, work.assembly.constant(power_table()))
    turned = work.assembly.add("transpose_columns", handle, attributes=(0, work.assembly.width(handle)))
    mixed = work.assembly.add("grouped_mix", powers, turned, attributes=(1,))
    work.narrow[index][Format(scale)] = mixed


def _normalize(work: Lowering, index: int, node: Node) -> None:
    if index not in work.program.outputs.values() or work.readers[index]:
        raise UnmappableOperator("normalize", "only the output may be normalised", node.origin or node.label)
    width = len(work.largest[index])
    if width > L2_WIDTH_MAX:
        raise UnmappableOperator("normalize", f"width {width}, at most {L2_WIDTH_MAX}", node.origin or node.label)
    handle, _ = work.int16(node.sources[0])
    row = work.assembly.add("mean_pool", handle, attributes=(POOL_BITS,))  # int16[1, n] -> int32[n]
    work.wide[index] = (work.assembly.add("l2_normalize", row), 2.0**15)


def _output(work: Lowering, index: int) -> tuple[Handle, float]:
    node = work.program.nodes[index]
    if index in work.wide:
        return work.wide[index]
    if index in work.parts:
        raise UnmappableOperator("output", "queries, keys and values are no outputs", node.origin or node.label)
    return work.int16(index)


def _table(function: str, before: float, behind: float) -> Tensor:
    """int16[16384]: the function over [-8192, 8192) in units of its input."""
    if function == "gelu" and before == behind == 1024:
        return gelu_table()
    x = np.arange(-(TABLE_SIZE // 2), TABLE_SIZE // 2, dtype=np.float64) / before
    return np.clip(np.rint(activate(function, x) * behind), -INT16_MAX, INT16_MAX).astype(np.int16)


LOWERINGS: Final[Mapping[str, Lower]] = {
    **FIXED_ROWS,
    "ids": _ids,
    "rows": _rows,
    "concat": _concat,
    "embedding": _embedding,
    "positions": _positions,
    "linear": lower_linear,
    "norm": _norm,
    "rms": _rms,
    "rope": _rope,
    "activation": _activation,
    "add": _add,
    "gate": _gate,
    "affine": _affine,
    "attention": _attention,
    "last": _last,
    "mean": _mean,
    "first": _first,
    "normalize": _normalize,
}
"""Kind of node -> how it is lowered."""
