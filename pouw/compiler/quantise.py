"""Float program -> hypergraph and constants, on the formats that `ranges.py` planned.

Every product is quantised per row and per column with its difficulty shared between both (smoothing); what is no
operator by itself (a change of fixed point, a mean that stays a matrix) is written with those that are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, log2
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chain.errors import OutOfRange
from pouw.compiler.assemble import Assembly, Built, Handle
from pouw.compiler.calibration import Float64, wanted_factors
from pouw.compiler.fixed_rows import (
    depthwise,
    gather_rows,
    group_norm,
    join_columns,
    some_columns,
    sum_of_rows,
    turn,
)
from pouw.compiler.neurons import split_neurons
from pouw.compiler.program import INPUTS, Float, Node, Program, UnmappableOperator, activate
from pouw.compiler.ranges import Format, activation_format, attention_formats, plan_formats
from pouw.compiler.tables import gelu_table, power_table
from pouw.operators.activation import TABLE_SIZE
from pouw.operators.arithmetic import INT16_MAX, INT32_MAX
from pouw.operators.decoder import EPSILON_MAX, RMS_WIDTH_MAX, ROTATION_BITS
from pouw.operators.linear import FACTOR_MAX
from pouw.operators.norm import L2_WIDTH_MAX, NORM_WIDTH_MAX
from pouw.operators.types import Tensor
from pouw.ticket import ShapeRefused, check_shape
from pouw.trace import INT16

SMOOTHING = 0.6  # MiniLM: 0.55 to 0.7 is a plateau
Q_MAX, Q_MAX_MINING = 127, 63
GAMMA_BITS, BETA_BITS, NORM_BITS = 12, 26, 10
ROOT_BITS = 14  # fraction bits of a value over its root mean square
POOL_BITS = 6
Mining = Literal["none", "some", "all"]


class ConstantTooLarge(OutOfRange):
    """A constant of the model does not fit into int32 in the fixed point that its output needs."""


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
    return _Lowering(program, largest, mining).run(name)


class _Lowering:
    """The work in progress: for each node its tensors by format."""

    def __init__(self, program: Program, largest: Mapping[int, Float], mining: Mining) -> None:
        self.program = program
        self.largest = largest
        self.mining = mining
        self.formats = plan_formats(program, largest)
        self.readers = program.readers()
        self.assembly = Assembly("S" if program.fixed_rows is None else program.fixed_rows, program.rows_max)
        self.narrow: dict[int, dict[Format, Handle]] = {index: {} for index in range(len(program.nodes))}
        self.wide: dict[int, tuple[Handle, float]] = {}
        self.parts: dict[int, tuple[Handle, int]] = {}
        self.images: dict[Handle, Handle] = {}
        """Matrix with a row for each pixel -> the image [height, width, channels] that it was made of."""
        self.output_scales: dict[str, float] = {}

    def run(self, name: str) -> Quantised:
        for index, node in enumerate(self.program.nodes):
            self.assembly.enter(node.block, node.label)
            try:
                getattr(self, f"_{node.kind}")(index, node)
            except UnmappableOperator as error:
                if not error.origin:
                    error.origin = node.origin or node.label
                raise
        outputs = {}
        for output, index in self.program.outputs.items():
            self.assembly.enter(self.program.nodes[index].block, f"{output}.output")
            outputs[output], self.output_scales[output] = self._output(index)
        scales = {
            node.label: self.formats[index].scale if node.kind in {"rows", "picture"} else 1.0
            for index, node in enumerate(self.program.nodes)
            if node.kind in INPUTS
        }
        return Quantised(self.assembly.finish(name, outputs), scales, self.output_scales)

    # What a value looks like to its readers

    def at(self, index: int, wanted: Format) -> Handle:
        """The value of a node as int16 in a format, converted where it has another."""
        made = self.narrow[index]
        for held, handle in made.items():
            if held.scale == wanted.scale and held.limit <= wanted.limit:
                return handle
        if index in self.wide:
            handle, scale = self.wide[index]
            made[wanted] = self._requantise(handle, np.array([wanted.scale / scale]), wanted.limit)
        else:
            held, handle = next(iter(made.items()))
            doubled = self.assembly.add("add", handle, handle)
            made[wanted] = self._requantise(doubled, np.array([wanted.scale / held.scale / 2]), wanted.limit)
        return made[wanted]

    def int16(self, index: int) -> tuple[Handle, float]:
        """The value of a node as int16 in the cheapest format, and its scale."""
        if not self.narrow[index]:
            self.at(index, self.formats[index])
        held, handle = next(iter(self.narrow[index].items()))
        return handle, held.scale

    def int32(self, index: int) -> tuple[Handle, float]:
        """The value of a node as int32, and its scale."""
        if index not in self.wide:
            handle, scale = self.int16(index)
            self.wide[index] = (self.assembly.add("add", handle, handle), scale * 2)
        return self.wide[index]

    def _requantise(self, x: Handle, ratio: Float64, limit: int, offset: Float64 | None = None) -> Handle:
        """int32[m, n] * ratio + offset, as int16."""
        width = self.assembly.width(x)
        multipliers, shift = _multipliers(np.broadcast_to(ratio, (width,)), 2**18)
        bias = np.zeros(width) if offset is None else offset
        return self.assembly.add(
            "rescale",
            x,
            self.assembly.ones(x),
            self.assembly.constant(multipliers),
            self.assembly.constant(_integers("offset", bias, np.int32)),
            attributes=(shift, limit),
        )

    # Nodes

    def _ids(self, _index: int, node: Node) -> None:
        self.assembly.ids(node.label)

    def _rows(self, index: int, node: Node) -> None:
        form = Format(self.formats[index].scale)  # a stranger's input may use all of int16
        self.narrow[index][form] = self.assembly.rows(node.label, int(node.numbers["width"]))

    def _image(self, _index: int, node: Node) -> None:
        self.assembly.image(node.label, _sides(node))

    def _picture(self, index: int, node: Node) -> None:
        form = Format(self.formats[index].scale)
        self.narrow[index][form] = self._pixel_rows(self.assembly.image(node.label, _sides(node), INT16))

    def _pixel_rows(self, image: Handle) -> Handle:
        """int16[h, w, c] as a matrix with a row for each pixel."""
        height, width, channels = self.assembly.type_of(image).at({})
        rows = self.assembly.add("reshape", image, attributes=(height * width, channels, 0))
        self.images[rows] = image
        return rows

    def _squares_of(self, node: Node) -> tuple[Handle, float]:
        """The image that a node cuts squares of, and its scale."""
        rows, scale = self.int16(node.sources[0])
        if len(self.assembly.type_of(rows).shape) == 3:
            return rows, scale
        if rows not in self.images:
            height, width, channels = (*_sides(node)[:2], self.assembly.width(rows))
            self.images[rows] = self.assembly.add("reshape", rows, attributes=(height, width, channels))
        return self.images[rows], scale

    def _pixels(self, index: int, node: Node) -> None:
        form = Format(self.formats[index].scale)
        factor = form.scale / 255 / node.arrays["deviation"].astype(np.float64)
        offset = -node.arrays["mean"].astype(np.float64) * 255 * factor
        largest = float(np.abs([*factor, *offset]).max())
        shift = max(1, min(30, floor(log2(INT32_MAX / largest))))
        self.narrow[index][form] = self.assembly.add(
            "normalize_pixels",
            self.assembly.input(self.program.nodes[node.sources[0]].label),
            self.assembly.constant(_integers("pixel factor", factor * 2.0**shift, np.int32)),
            self.assembly.constant(_integers("pixel offset", offset * 2.0**shift, np.int32)),
            attributes=(shift,),
        )

    def _patches(self, index: int, node: Node) -> None:
        image, scale = self._squares_of(node)
        size, stride, padding = (int(node.numbers.get(key, 0)) for key in ("size", "stride", "padding"))
        self.narrow[index][Format(scale)] = self.assembly.add("patches", image, attributes=(size, stride, padding))

    def _max_pool(self, index: int, node: Node) -> None:
        image, scale = self._squares_of(node)
        squares = (int(node.numbers["size"]), int(node.numbers["stride"]))
        self.narrow[index][Format(scale)] = self._pixel_rows(self.assembly.add(node.kind, image, attributes=squares))

    _average_pool = _max_pool

    def _flatten(self, index: int, node: Node) -> None:
        rows, scale = self.int16(node.sources[0])
        height, width = self.assembly.type_of(rows).at({})
        self.narrow[index][Format(scale)] = self.assembly.add("reshape", rows, attributes=(1, height * width, 0))

    def _gather(self, index: int, node: Node) -> None:
        rows, scale = self.int16(node.sources[0])
        self.narrow[index][Format(scale)] = gather_rows(self.assembly, rows, node.arrays["ids"])

    def _taps(self, index: int, node: Node) -> None:
        rows, scale = self.int16(node.sources[0])
        ids = node.arrays["ids"]  # (rows, taps)
        seen = gather_rows(self.assembly, rows, ids.reshape(-1))
        shape = (len(ids), ids.shape[1] * self.assembly.width(rows), 0)
        self.narrow[index][Format(scale)] = self.assembly.add("reshape", seen, attributes=shape)

    def _depthwise(self, index: int, node: Node) -> None:
        rows, scale = self.int16(node.sources[0])
        form = self.formats[index]
        made = depthwise(self.assembly, rows, scale, node, self.largest[index], form.scale)
        self.narrow[index][Format(form.scale)] = made

    def _blend(self, index: int, node: Node) -> None:
        rows, scale = self.int16(node.sources[0])
        self.wide[index] = sum_of_rows(self.assembly, rows, scale, node)

    def _group_norm(self, index: int, node: Node) -> None:
        rows, scale = self.int16(node.sources[0])
        handle, made = group_norm(self.assembly, rows, scale, node)
        form = self.formats[index]
        doubled = self.assembly.add("add", handle, handle)
        factor = node.arrays["gamma"].astype(np.float64) * (form.scale / made / 2)
        offset = node.arrays["beta"].astype(np.float64) * form.scale
        self.narrow[index][form] = self._requantise(doubled, factor, form.limit, offset)

    def _join(self, index: int, node: Node) -> None:
        scale = min(self.int16(source)[1] for source in node.sources)
        parts = [self.at(source, Format(scale)) for source in node.sources]
        self.narrow[index][Format(scale)] = join_columns(self.assembly, parts)

    def _turned(self, index: int, node: Node) -> None:
        rows, scale = self.int16(node.sources[0])
        self.narrow[index][Format(scale)] = turn(self.assembly, rows)

    def _columns(self, index: int, node: Node) -> None:
        rows, scale = self.int16(node.sources[0])
        made = some_columns(self.assembly, rows, int(node.numbers["first"]), int(node.numbers["count"]))
        self.narrow[index][Format(scale)] = made

    def _concat(self, index: int, node: Node) -> None:
        handle, scale = self.int16(node.sources[0])
        row = self.assembly.constant(_integers("first row", node.arrays["row"] * scale, np.int16))
        self.narrow[index][Format(scale)] = self.assembly.add("concat_rows", row, handle)

    def _embedding(self, index: int, node: Node) -> None:
        form = Format(self.formats[index].scale)
        table = self.assembly.constant(_integers("embedding table", node.arrays["table"] * form.scale, np.int16))
        source = self.assembly.input(self.program.nodes[node.sources[0]].label)
        self.narrow[index][form] = self.assembly.add("embedding", source, table)

    def _positions(self, index: int, node: Node) -> None:
        handle, scale = self.int16(node.sources[0])
        table = node.arrays["table"] * scale
        if self.program.fixed_rows is None:
            table = table[: self.program.rows_max]
        constant = self.assembly.constant(_integers("position table", table, np.int16))
        self.wide[index] = (self.assembly.add("add_positions", handle, constant), scale)

    def _linear(self, index: int, node: Node) -> None:
        for reader in self.readers[index]:
            if self._fused(reader) and index != self.program.nodes[reader].sources[0]:
                if index not in self.parts:
                    self._fuse(self.program.nodes[reader].sources)
                return
        if any(self._fused(reader) for reader in self.readers[index]):
            if index not in self.parts:
                self._fuse(self.program.nodes[self.readers[index][0]].sources)
            return
        form = self.formats[index]
        scale = np.full(len(node.arrays["weight"]), form.scale)
        self.narrow[index][form] = self._product(node, node.arrays["weight"], node.arrays["bias"], scale, form.limit)

    def _fused(self, index: int) -> bool:
        """Whether an attention's queries, keys and values are one product: three linear layers of one value."""
        node = self.program.nodes[index]
        if node.kind != "attention" or "kv_heads" in node.numbers or len(set(node.sources)) != len(node.sources):
            return False
        sources = [self.program.nodes[source] for source in node.sources]
        return all(
            source.kind == "linear" and source.sources == sources[0].sources and self.readers[place] == [index]
            for source, place in zip(sources, node.sources, strict=True)
        )

    def _fuse(self, places: tuple[int, ...]) -> None:
        nodes = [self.program.nodes[place] for place in places]
        forms = [self.formats[place] for place in places]
        weight = np.concatenate([node.arrays["weight"] for node in nodes])
        bias = np.concatenate([node.arrays["bias"] for node in nodes])
        scale = np.concatenate([np.full(len(n.arrays["weight"]), f.scale) for n, f in zip(nodes, forms, strict=True)])
        handle = self._product(nodes[0], weight, bias, scale, min(form.limit for form in forms))
        offset = 0
        for place, node in zip(places, nodes, strict=True):
            self.parts[place] = (handle, offset)
            offset += len(node.arrays["weight"])

    def _product(self, node: Node, weight: Float, bias: Float, scale: Float64, limit: int) -> Handle:
        """Quantise the rows, multiply, rescale: bias and scale for each column."""
        place = node.sources[0]
        source, source_scale = self.int16(place)
        matrix = weight.astype(np.float64)  # (n, k)
        mining = self._mines(place, matrix)
        q_max = Q_MAX_MINING if mining else Q_MAX
        # layers that read one value share its factors, and with them its quantised rows
        beside = [self.program.nodes[reader] for reader in self.readers[place]]
        read = [np.abs(one.arrays["weight"]).max(axis=0) for one in beside if one.kind == "linear"]
        wanted = wanted_factors(self.largest[place], np.max(read, axis=0), SMOOTHING)
        factors = np.clip(np.rint(wanted), 1, FACTOR_MAX).astype(np.int16)
        smooth = self.assembly.constant(factors)
        maximum = self.assembly.add("row_maximum", source, smooth)
        q = self.assembly.add("quantize", source, maximum, smooth, attributes=(q_max,))
        shrunk = matrix / factors
        columns = np.maximum(np.abs(shrunk).max(axis=1), 1e-30)  # (n,)
        quantised = np.rint(shrunk * (q_max / columns)[:, None]).astype(np.int8)  # (n, k)
        product = self.assembly.add("matmul", q, self.assembly.constant(quantised), attributes=(int(mining),))
        # |sum| <= sum |w| * q_max and maximum <= 2^15 * factor: what is left of 2^63 is the multipliers'
        reach = int(np.abs(quantised.astype(np.int64)).sum(axis=1).max()) * q_max * 2**15 * int(factors.max())
        exact = columns / q_max / q_max * (scale / source_scale)
        multipliers, shift = _multipliers(exact, max(2, 2**62 // max(reach, 1)))
        offsets = _integers("bias", bias.astype(np.float64) * scale, np.int32)
        return self.assembly.add(
            "rescale",
            product,
            maximum,
            self.assembly.constant(multipliers),
            self.assembly.constant(offsets),
            attributes=(shift, limit),
        )

    def _mines(self, place: int, matrix: Float64) -> bool:
        source = self.program.nodes[place]
        while source.kind in {"patches", "max_pool", "average_pool", "flatten", "taps", "gather", "columns", "join"}:
            source = self.program.nodes[source.sources[0]]
        if self.mining == "none" or (self.mining == "some" and source.kind != "activation"):
            return False
        try:
            check_shape(16, *matrix.shape)
        except ShapeRefused:
            return False
        return True

    def _norm(self, index: int, node: Node) -> None:
        width = len(node.arrays["gamma"])
        if width > NORM_WIDTH_MAX:
            raise UnmappableOperator(
                "layer_norm", f"width {width}, at most {NORM_WIDTH_MAX}", node.origin or node.label
            )
        handle, _ = self.int32(node.sources[0])
        form = self.formats[index]
        gamma = _integers("gamma", node.arrays["gamma"] * (form.scale * 2.0 ** (GAMMA_BITS - NORM_BITS)), np.int32)
        beta = _integers("beta", node.arrays["beta"] * (form.scale * 2.0 ** (BETA_BITS - NORM_BITS)), np.int32)
        made = self.assembly.add("layer_norm", handle, self.assembly.constant(gamma), self.assembly.constant(beta))
        self.narrow[index][Format(form.scale)] = made

    def _rms(self, index: int, node: Node) -> None:
        width = len(node.arrays["gamma"])
        if width > RMS_WIDTH_MAX:
            raise UnmappableOperator("rms_norm", f"width {width}, at most {RMS_WIDTH_MAX}", node.origin or node.label)
        handle, scale = self.int32(node.sources[0])
        form = self.formats[index]
        epsilon = min(round(float(node.numbers["epsilon"]) * width * scale * scale), EPSILON_MAX)
        gamma = node.arrays["gamma"].astype(np.float64)
        bits = min(GAMMA_BITS + 8, floor(log2(INT32_MAX / max(1.0, float(np.abs(gamma).max())))) - 1)
        shift = ROOT_BITS + bits - int(log2(form.scale))
        constant = self.assembly.constant(_integers("gamma", gamma * 2.0**bits, np.int32))
        self.narrow[index][Format(form.scale)] = self.assembly.add(
            "rms_norm", handle, constant, attributes=(epsilon, shift)
        )

    def _rope(self, index: int, node: Node) -> None:
        handle, scale = self.int16(node.sources[0])
        table = node.arrays["table"].astype(np.float64)
        if self.program.fixed_rows is None:
            table = table[: self.program.rows_max]
        constant = self.assembly.constant(_integers("rotation", table * 2.0**ROTATION_BITS, np.int16))
        factors = self.assembly.constant(np.ones(self.assembly.width(handle), dtype=np.int16))
        rows = self.assembly.add("row_maximum", handle, factors)  # only their number counts
        attributes = (int(node.numbers["heads"]), int(node.numbers["head_size"]), 0)
        self.narrow[index][Format(scale)] = self.assembly.add("rope", handle, rows, constant, attributes=attributes)

    def _activation(self, index: int, node: Node) -> None:
        before, behind = activation_format(node.function, float(self.largest[node.sources[0]].max()))
        source = self.at(node.sources[0], before)
        table = self.assembly.constant(_table(node.function, before.scale, behind.scale))
        self.narrow[index][behind] = self.assembly.add("lookup", source, table)

    def _add(self, index: int, node: Node) -> None:
        forms = [self.int16(source)[1] for source in node.sources]
        scale = min(forms)
        x, y = (self.at(source, Format(scale)) for source in node.sources)
        self.wide[index] = (self.assembly.add("add", x, y), scale)

    def _gate(self, index: int, node: Node) -> None:
        (x, x_scale), (y, y_scale) = (self.int16(source) for source in node.sources)
        shift = min(30, max(1, round(log2(x_scale * y_scale / self.formats[index].scale))))
        form = Format(x_scale * y_scale / 2.0**shift)
        self.narrow[index][form] = self.assembly.add("gated_product", x, y, attributes=(shift,))

    def _affine(self, index: int, node: Node) -> None:
        handle, scale = self.int32(node.sources[0])
        form = self.formats[index]
        width = self.assembly.width(handle)
        factor = np.broadcast_to(node.arrays["factor"].astype(np.float64), (width,)) * (form.scale / scale)
        offset = np.broadcast_to(node.arrays["offset"].astype(np.float64), (width,)) * form.scale
        self.narrow[index][form] = self._requantise(handle, factor, form.limit, offset)

    def _attention(self, index: int, node: Node) -> None:
        heads, size = int(node.numbers["heads"]), int(node.numbers["head_size"])
        *formats, shift = attention_formats(node, self.largest)
        handles = []
        for source, form in zip(node.sources, formats, strict=True):
            handles.append(self.parts[source] if source in self.parts else (self.at(source, form), 0))
        (q, q_start), (k, k_start), (v, v_start) = handles
        if "kv_heads" in node.numbers:
            kv_heads = int(node.numbers["kv_heads"])
            self.narrow[index][Format(formats[2].scale)] = self._causal((q, k, v), (heads, kv_heads, size, shift))
            return
        scores = self.assembly.add("attention_scores", q, k, attributes=(heads, size, q_start, k_start, shift))
        powers = self.assembly.add("softmax_weights", scores, self.assembly.constant(power_table()))
        turned = self.assembly.add("transpose_columns", v, attributes=(v_start, heads * size))
        mixed = self.assembly.add("grouped_mix", powers, turned, attributes=(heads,))
        self.narrow[index][Format(formats[2].scale)] = mixed

    def _causal(self, parts: tuple[Handle, Handle, Handle], attributes: tuple[int, int, int, int]) -> Handle:
        """Attention in which a row sees the rows up to itself."""
        q, k, v = parts
        turned = self.assembly.add("transpose_columns", v, attributes=(0, self.assembly.width(v)))
        scores = self.assembly.add("causal_scores", q, k, attributes=attributes)
        powers = self.assembly.add("causal_softmax", scores, self.assembly.constant(power_table()))
        return self.assembly.add("grouped_mix", powers, turned, attributes=(attributes[1],))

    def _last(self, index: int, node: Node) -> None:
        handle, scale = self.int32(node.sources[0])
        self.wide[index] = (self.assembly.add("last_row", handle), scale)

    def _mean(self, index: int, node: Node) -> None:
        self._select(index, self.int16(node.sources[0]), None)

    def _first(self, index: int, node: Node) -> None:
        handle, scale = self.int16(node.sources[0])
        if self.program.fixed_rows is not None:
            self.narrow[index][Format(scale)] = self.assembly.add("slice_rows", handle, attributes=(0, 1))
            return
        marks = np.zeros((self.program.rows_max, self.assembly.width(handle)), dtype=np.int16)
        marks[0, 0] = INT16_MAX
        zeros = self.assembly.zeros(handle)
        wide = self.assembly.add("add_positions", zeros, self.assembly.constant(marks))
        self._select(index, (handle, scale), self._requantise(wide, np.array([1.0]), INT16_MAX))

    def _select(self, index: int, value: tuple[Handle, float], keys: Handle | None) -> None:
        """A mean over rows as one head of attention: all rows weigh the same, with keys only the marked ones."""
        handle, scale = value
        query = self.assembly.constant(np.array([[0 if keys is None else INT16_MAX]], dtype=np.int16))
        scores = self.assembly.add(
            "attention_scores", query, handle if keys is None else keys, attributes=(1, 1, 0, 0, 10)
        )
        powers = self.assembly.add("softmax_weights", scores, self.assembly.constant(power_table()))
        turned = self.assembly.add("transpose_columns", handle, attributes=(0, self.assembly.width(handle)))
        mixed = self.assembly.add("grouped_mix", powers, turned, attributes=(1,))
        self.narrow[index][Format(scale)] = mixed

    def _normalize(self, index: int, node: Node) -> None:
        if index not in self.program.outputs.values() or self.readers[index]:
            raise UnmappableOperator("normalize", "only the output may be normalised", node.origin or node.label)
        width = len(self.largest[index])
        if width > L2_WIDTH_MAX:
            raise UnmappableOperator("normalize", f"width {width}, at most {L2_WIDTH_MAX}", node.origin or node.label)
        handle, _ = self.int16(node.sources[0])
        row = self.assembly.add("mean_pool", handle, attributes=(POOL_BITS,))  # int16[1, n] -> int32[n]
        self.wide[index] = (self.assembly.add("l2_normalize", row), 2.0**15)

    def _output(self, index: int) -> tuple[Handle, float]:
        node = self.program.nodes[index]
        if index in self.wide:
            return self.wide[index]
        if index in self.parts:
            raise UnmappableOperator("output", "queries, keys and values are no outputs", node.origin or node.label)
        return self.int16(index)


def _sides(node: Node) -> tuple[int, int, int]:
    """Height, width and channels, as far as a node says them."""
    height, width, channels = (int(node.numbers.get(side, 0)) for side in ("height", "width", "channels"))
    return height, width, channels


def _multipliers(exact: Float64, bound: int) -> tuple[Tensor, int]:
    """Return round(exact * 2^shift) as int32 and the shift, with every |multiplier| below the bound."""
    largest = float(np.abs(exact).max())
    bound = min(bound, INT32_MAX)
    shift = 1
    while shift < 62 and largest * 2.0 ** (shift + 1) < bound:
        shift += 1
    return _integers("multiplier", exact * 2.0**shift, np.int32), shift


def _integers(what: str, x: NDArray[np.floating], dtype: type[np.signedinteger]) -> Tensor:
    rounded = np.rint(np.asarray(x, dtype=np.float64))
    bound = np.iinfo(dtype).max
    largest = float(np.abs(rounded).max(initial=0.0))
    if not largest <= bound:
        raise ConstantTooLarge(what, largest, f"at most {bound}")
    fixed: Tensor = rounded.astype(dtype)
    return fixed


def _table(function: str, before: float, behind: float) -> Tensor:
    """int16[16384]: the function over [-8192, 8192) in units of its input."""
    if function == "gelu" and before == behind == 1024:
        return gelu_table()
    x = np.arange(-(TABLE_SIZE // 2), TABLE_SIZE // 2, dtype=np.float64) / before
    return np.clip(np.rint(activate(function, x) * behind), -INT16_MAX, INT16_MAX).astype(np.int16)
