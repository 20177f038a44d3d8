"""Nodes of programs with a fixed number of rows, as operators: images and their squares, taps, columns, group norms."""

from collections.abc import Mapping
from math import floor, log2
from typing import Final

import numpy as np

from pouw.compiler.assemble import Handle
from pouw.compiler.fixed_rows import (
    depthwise,
    gather_rows,
    group_norm,
    join_columns,
    some_columns,
    sum_of_rows,
    turn,
)
from pouw.compiler.lowering import Lower, Lowering, to_constant
from pouw.compiler.program import Node
from pouw.compiler.ranges import Format
from pouw.operators.arithmetic import INT32_MAX
from pouw.trace import INT16


def _image(work: Lowering, _index: int, node: Node) -> None:
    work.assembly.image(node.label, _sides(node))


def _picture(work: Lowering, index: int, node: Node) -> None:
    form = Format(work.formats[index].scale)
    work.narrow[index][form] = _pixel_rows(work, work.assembly.image(node.label, _sides(node), INT16))


def _pixels(work: Lowering, index: int, node: Node) -> None:
    form = Format(work.formats[index].scale)
    factor = form.scale / 255 / node.arrays["deviation"].astype(np.float64)
    offset = -node.arrays["mean"].astype(np.float64) * 255 * factor
    largest = float(np.abs([*factor, *offset]).max())
    shift = max(1, min(30, floor(log2(INT32_MAX / largest))))
    work.narrow[index][form] = work.assembly.add(
        "normalize_pixels",
        work.assembly.input(work.program.nodes[node.sources[0]].label),
        work.assembly.constant(to_constant("pixel factor", factor * 2.0**shift, np.int32)),
        work.assembly.constant(to_constant("pixel offset", offset * 2.0**shift, np.int32)),
        attributes=(shift,),
    )


def _patches(work: Lowering, index: int, node: Node) -> None:
    image, scale = _squares_of(work, node)
    size, stride, padding = (int(node.numbers.get(key, 0)) for key in ("size", "stride", "padding"))
    work.narrow[index][Format(scale)] = work.assembly.add("patches", image, attributes=(size, stride, padding))


def _max_pool(work: Lowering, index: int, node: Node) -> None:
    image, scale = _squares_of(work, node)
    squares = (int(node.numbers["size"]), int(node.numbers["stride"]))
    work.narrow[index][Format(scale)] = _pixel_rows(work, work.assembly.add(node.kind, image, attributes=squares))


def _flatten(work: Lowering, index: int, node: Node) -> None:
    rows, scale = work.int16(node.sources[0])
    height, width = work.assembly.type_of(rows).at({})
    work.narrow[index][Format(scale)] = work.assembly.add("reshape", rows, attributes=(1, height * width, 0))


def _gather(work: Lowering, index: int, node: Node) -> None:
    rows, scale = work.int16(node.sources[0])
    work.narrow[index][Format(scale)] = gather_rows(work.assembly, rows, node.arrays["ids"])


def _taps(work: Lowering, index: int, node: Node) -> None:
    rows, scale = work.int16(node.sources[0])
    ids = node.arrays["ids"]  # (rows, taps)
    seen = gather_rows(work.assembly, rows, ids.reshape(-1))
    shape = (len(ids), ids.shape[1] * work.assembly.width(rows), 0)
    work.narrow[index][Format(scale)] = work.assembly.add("reshape", seen, attributes=shape)


def _depthwise(work: Lowering, index: int, node: Node) -> None:
    rows, scale = work.int16(node.sources[0])
    form = work.formats[index]
    made = depthwise(work.assembly, rows, scale, node, work.largest[index], form.scale)
    work.narrow[index][Format(form.scale)] = made


def _blend(work: Lowering, index: int, node: Node) -> None:
    rows, scale = work.int16(node.sources[0])
    work.wide[index] = sum_of_rows(work.assembly, rows, scale, node)


def _group_norm(work: Lowering, index: int, node: Node) -> None:
    rows, scale = work.int16(node.sources[0])
    handle, made = group_norm(work.assembly, rows, scale, node)
    form = work.formats[index]
    doubled = work.assembly.add("add", handle, handle)
    factor = node.arrays["gamma"].astype(np.float64) * (form.scale / made / 2)
    offset = node.arrays["beta"].astype(np.float64) * form.scale
    work.narrow[index][form] = work.requantise(doubled, factor, form.limit, offset)


def _join(work: Lowering, index: int, node: Node) -> None:
    scale = min(work.int16(source)[1] for source in node.sources)
    parts = [work.at(source, Format(scale)) for source in node.sources]
    work.narrow[index][Format(scale)] = join_columns(work.assembly, parts)


def _turned(work: Lowering, index: int, node: Node) -> None:
    rows, scale = work.int16(node.sources[0])
    work.narrow[index][Format(scale)] = turn(work.assembly, rows)


def _columns(work: Lowering, index: int, node: Node) -> None:
    rows, scale = work.int16(node.sources[0])
    made = some_columns(work.assembly, rows, int(node.numbers["first"]), int(node.numbers["count"]))
    work.narrow[index][Format(scale)] = made


def _pixel_rows(work: Lowering, image: Handle) -> Handle:
    """int16[h, w, c] as a matrix with a row for each pixel."""
    height, width, channels = work.assembly.type_of(image).at({})
    rows = work.assembly.add("reshape", image, attributes=(height * width, channels, 0))
    work.images[rows] = image
    return rows


def _squares_of(work: Lowering, node: Node) -> tuple[Handle, float]:
    """The image that a node cuts squares of, and its scale."""
    rows, scale = work.int16(node.sources[0])
    if len(work.assembly.type_of(rows).shape) == 3:
        return rows, scale
    if rows not in work.images:
        height, width, channels = (*_sides(node)[:2], work.assembly.width(rows))
        work.images[rows] = work.assembly.add("reshape", rows, attributes=(height, width, channels))
    return work.images[rows], scale


def _sides(node: Node) -> tuple[int, int, int]:
    """Height, width and channels, as far as a node says them."""
    height, width, channels = (int(node.numbers.get(side, 0)) for side in ("height", "width", "channels"))
    return height, width, channels


FIXED_ROWS: Final[Mapping[str, Lower]] = {
    "image": _image,
    "picture": _picture,
    "pixels": _pixels,
    "patches": _patches,
    "max_pool": _max_pool,
    "average_pool": _max_pool,
    "flatten": _flatten,
    "gather": _gather,
    "taps": _taps,
    "depthwise": _depthwise,
    "blend": _blend,
    "group_norm": _group_norm,
    "join": _join,
    "turned": _turned,
    "columns": _columns,
}
"""Kind of node -> how it is lowered."""
