"""Images beyond square patches: kernels of any form, groups, stretching, padding, channels apart and side by side.

An image has a fixed number of pixels, so which pixel stands where is a constant: a table of row numbers, -1 for a zero.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.program import Float
from pouw.compiler.translation import Image, Matrix, Translation, float32
from pouw.operators.rules_encoder import MATMUL_DEPTH_MAX

Ids = NDArray[np.int32]
BLOCK = 64
"""Channels of a group that are worth a product of their own; smaller groups share one, with zeros between them."""


def pair(work: Translation, operator: str, what: str, given: Any) -> tuple[int, int]:
    """Return (down, across) of a number or of two."""
    sizes = [int(size) for size in given] if isinstance(given, Sequence) else [int(given)]
    if len(sizes) not in {1, 2}:
        raise work.refuse(operator, f"{what} {given}: one number, or two")
    return sizes[0], sizes[-1]


def grid(height: int, width: int, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> Ids:
    """Return the numbers of the pixels at rows x columns, -1 outside. rows: [.., h], columns: [.., w] broadcast."""
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(inside, rows * width + columns, -1).astype(np.int32)


def tap_ids(
    sides: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
) -> tuple[Ids, int, int]:
    """Return ids [pixels, taps], height and width of a convolution's output. padding: top, bottom, left, right."""
    high = (sides[0] + padding[0] + padding[1] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    wide = (sides[1] + padding[2] + padding[3] - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    y = np.arange(high)[:, None] * stride[0] - padding[0] + np.arange(kernel[0]) * dilation[0]  # (high, taps down)
    x = np.arange(wide)[:, None] * stride[1] - padding[2] + np.arange(kernel[1]) * dilation[1]  # (wide, taps across)
    ids = grid(*sides, y[:, None, :, None], x[None, :, None, :])  # (high, wide, down, across)
    return ids.reshape(max(high, 0) * max(wide, 0), kernel[0] * kernel[1]), high, wide


def upward_ids(
    sides: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    extra: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[Ids, int, int]:
    """Return ids [pixels, taps] of a transposed convolution: tap t of p sees pixel (p + padding - t) / stride."""
    out = [
        (sides[axis] - 1) * stride[axis] - 2 * padding[axis] + dilation[axis] * (kernel[axis] - 1) + extra[axis] + 1
        for axis in (0, 1)
    ]
    places = []
    for axis in (0, 1):
        at = np.arange(out[axis])[:, None] + padding[axis] - np.arange(kernel[axis]) * dilation[axis]
        places.append(np.where(at % stride[axis] == 0, at // stride[axis], -1))
    ids = grid(*sides, places[0][:, None, :, None], places[1][None, :, None, :])
    return ids.reshape(out[0] * out[1], kernel[0] * kernel[1]), out[0], out[1]


def convolve(
    work: Translation, x: Image, kernel: Float, bias: Float, found: tuple[Ids, int, int], groups: int
) -> Image:
    """Return the image of a convolution by its taps. kernel: float32[n, channels / groups, down, across]."""
    ids, high, wide = found
    n, inside = kernel.shape[:2]
    channels = work.widths[x.node]
    if groups == channels == n:
        arrays = {"ids": ids, "weight": kernel.reshape(n, -1), "bias": bias}
        return Image(work.add("depthwise", n, x.node, rows=len(ids), arrays=arrays), high, wide)
    together = groups
    while together > 1 and (groups % together or inside * together > max(BLOCK, inside)):
        together -= 1
    if groups // together == 1:
        return Image(_product(work, x.node, kernel, bias, ids, groups), high, wide)
    parts = []
    step, rows = inside * together, n // groups * together
    for block in range(groups // together):
        source = columns(work, x.node, block * step, step)
        cut = slice(block * rows, (block + 1) * rows)
        parts.append(_product(work, source, kernel[cut], bias[cut], ids, together))
    return Image(work.add("join", n, *parts), high, wide)


def _product(work: Translation, source: int, kernel: Float, bias: Float, ids: Ids, groups: int) -> int:
    n, inside = kernel.shape[:2]
    taps, channels = ids.shape[1], inside * groups
    if taps * channels > MATMUL_DEPTH_MAX // 4:
        reason = f"{taps} taps of {channels} channels: one element of a product reads at most {MATMUL_DEPTH_MAX // 4}"
        raise work.refuse("conv2d", reason)
    spread = np.zeros((n, taps, groups, inside), dtype=np.float32)
    each = n // groups
    for group in range(groups):
        part = kernel[group * each : (group + 1) * each].reshape(each, inside, taps)
        spread[group * each : (group + 1) * each, :, group] = part.transpose(0, 2, 1)
    arrays = {"weight": spread.reshape(n, taps * channels), "bias": bias}
    alone = taps == 1 and np.array_equal(ids[:, 0], np.arange(len(ids))) and len(ids) == work.row_counts[source]
    if not alone:
        source = work.add("taps", taps * channels, source, rows=len(ids), arrays={"ids": ids})
    return work.add("linear", n, source, rows=len(ids), arrays=arrays)


def columns(work: Translation, source: int, first: int, count: int) -> int:
    """Return the node of some columns; of a linear layer those rows of its weights."""
    if count == work.widths[source]:
        return source
    return work.add("columns", count, source, numbers={"first": first, "count": count}, single=work.single[source])


def transposed_convolution(
    work: Translation,
    _node: Any,
    x: Image,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Image:
    """A transposed convolution is one whose taps see an image with zeros between its pixels."""
    name = "conv_transpose2d"
    kernel = float32(weight)  # (channels, n, down, across)
    if groups != 1 or x.last:
        raise work.refuse(name, f"{groups} groups: only one, channels first")
    found = upward_ids(
        (x.height, x.width),
        (kernel.shape[2], kernel.shape[3]),
        pair(work, name, "stride", stride),
        pair(work, name, "padding", padding),
        pair(work, name, "output_padding", output_padding),
        pair(work, name, "dilation", dilation),
    )
    n = kernel.shape[1]
    offset = np.zeros(n, dtype=np.float32) if bias is None else float32(bias)
    return convolve(work, x, np.ascontiguousarray(kernel.transpose(1, 0, 2, 3)), offset, found, 1)


def gathered(work: Translation, x: Image, ids: Ids, high: int, wide: int) -> Image:
    """Return an image made of another's pixels."""
    made = work.add("gather", work.widths[x.node], x.node, rows=high * wide, arrays={"ids": ids.reshape(-1)})
    return Image(made, high, wide, x.last)


def pad(work: Translation, _node: Any, x: Image, sizes: Any, mode: str = "constant", value: Any = None) -> Image:
    """Zeros, or pixels again, around an image; less than none cuts."""
    if x.last or len(sizes) > 4 or (mode == "constant" and value not in {None, 0}):
        raise work.refuse("pad", f"by {value} in {len(sizes)} places: zeros around height and width, channels first")
    left, right, top, bottom = ([int(size) for size in sizes] + [0, 0])[:4]
    y: NDArray[np.integer]
    x_at: NDArray[np.integer]
    y, x_at = np.arange(-top, x.height + bottom), np.arange(-left, x.width + right)
    if mode == "replicate":
        y, x_at = np.clip(y, 0, x.height - 1), np.clip(x_at, 0, x.width - 1)
    elif mode == "reflect":
        y, x_at = (_reflected(places, side) for places, side in ((y, x.height), (x_at, x.width)))
    elif mode == "circular":
        y, x_at = y % x.height, x_at % x.width
    elif mode != "constant":
        raise work.refuse("pad", f"mode {mode}")
    return gathered(work, x, grid(x.height, x.width, y[:, None], x_at[None]), len(y), len(x_at))


def _reflected(places: NDArray[np.integer], side: int) -> NDArray[np.integer]:
    places = np.abs(places)
    return np.where(places >= side, 2 * (side - 1) - places, places)


def nearest(work: Translation, node: Any, x: Image, *_: Any, **__: Any) -> Image:
    """An image stretched by pixels that stand several times."""
    high, wide = _wanted(work, node, x, "upsample_nearest2d")
    y, x_at = np.arange(high) * x.height // high, np.arange(wide) * x.width // wide
    return gathered(work, x, grid(x.height, x.width, y[:, None], x_at[None]), high, wide)


def bilinear(
    work: Translation,
    node: Any,
    x: Image,
    _size: Any,
    align_corners: bool,  # noqa: FBT001  # as ATen passes it
    *_: Any,
    **__: Any,
) -> Image:
    """An image stretched by means of four pixels."""
    high, wide = _wanted(work, node, x, "upsample_bilinear2d")
    (y, up), (x_at, across) = (
        _between(old, new, corners=align_corners) for old, new in ((x.height, high), (x.width, wide))
    )
    ids = grid(x.height, x.width, y[:, None, :, None], x_at[None, :, None, :]).reshape(high * wide, 4)
    weight = (up[:, None, :, None] * across[None, :, None, :]).reshape(high * wide, 4).astype(np.float32)
    made = work.add("blend", work.widths[x.node], x.node, rows=high * wide, arrays={"ids": ids, "weight": weight})
    return Image(made, high, wide)


def _between(old: int, new: int, *, corners: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return for each new place the two old ones beside it, and their shares."""
    if corners:
        at = np.arange(new) * ((old - 1) / max(new - 1, 1))
    else:
        at = np.maximum((np.arange(new) + 0.5) * old / new - 0.5, 0)
    low = np.minimum(at.astype(np.int64), old - 1)
    share = at - low
    return np.stack([low, np.minimum(low + 1, old - 1)], axis=1), np.stack([1 - share, share], axis=1)


def _wanted(work: Translation, node: Any, x: Image, name: str) -> tuple[int, int]:
    if x.last:
        raise work.refuse(name, "takes channels first")
    return int(node.meta["val"].shape[2]), int(node.meta["val"].shape[3])


def group_norm(
    work: Translation, _node: Any, x: Image, groups: int, weight: Any = None, bias: Any = None, *rest: Any
) -> Image:
    """A norm over the pixels of groups of channels."""
    epsilon = float(rest[0]) if rest else 1e-5
    return _group_norm(work, x, groups, (weight, bias), epsilon)


def instance_norm(
    work: Translation, _node: Any, x: Image, weight: Any, bias: Any, mean: Any, variance: Any, *rest: Any
) -> Image:
    """A norm over the pixels of each channel."""
    if not rest[0] or mean is not None or variance is not None:
        raise work.refuse("instance_norm", "with statistics of its training")
    return _group_norm(work, x, work.widths[x.node], (weight, bias), float(rest[2]))


def _group_norm(work: Translation, x: Image, groups: int, given: tuple[Any, Any], epsilon: float) -> Image:
    channels = work.widths[x.node]
    if x.last:
        raise work.refuse("group_norm", "takes channels first")
    gamma, beta = (
        np.full(channels, empty, dtype=np.float32) if part is None else float32(part)
        for part, empty in zip(given, (1, 0), strict=True)
    )
    numbers = {"groups": groups, "epsilon": epsilon}
    made = work.add("group_norm", channels, x.node, arrays={"gamma": gamma, "beta": beta}, numbers=numbers)
    return Image(made, x.height, x.width)


def concatenate(work: Translation, _node: Any, parts: Any, dim: int = 0) -> Image:
    """Channels of several images side by side."""
    if not all(isinstance(part, Image) for part in parts) or len({(p.height, p.width, p.last) for p in parts}) != 1:
        raise work.refuse("cat", "of an image and something else than images of its size")
    first = parts[0]
    if dim % 4 != (3 if first.last else 1):
        raise work.refuse("cat", "of images: only their channels")
    width = sum(work.widths[part.node] for part in parts)
    return Image(work.add("join", width, *(part.node for part in parts)), first.height, first.width, first.last)


def take_slice(
    work: Translation, _node: Any, x: Image, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Image:
    """Some channels, or some rows and columns of pixels."""
    axis, sides = dim % 4, [1, x.height, x.width] if x.last else [1, -1, x.height, x.width]
    channel = 3 if x.last else 1
    size = work.widths[x.node] if axis == channel else sides[axis]
    chosen = range(size)[slice(start, end, step)]
    if len(chosen) == size:
        return x
    if not len(chosen) or axis == 0:
        raise work.refuse("slice", f"{start}:{end}:{step} of {size}")
    if axis == channel:
        if step != 1:
            raise work.refuse("slice", "of channels with a step")
        return Image(columns(work, x.node, chosen[0], len(chosen)), x.height, x.width, x.last)
    y, x_at = np.arange(x.height), np.arange(x.width)
    if axis == (1 if x.last else 2):
        y = y[chosen.start : chosen.stop : chosen.step]
    else:
        x_at = x_at[chosen.start : chosen.stop : chosen.step]
    return gathered(work, x, grid(x.height, x.width, y[:, None], x_at[None]), len(y), len(x_at))


def split(work: Translation, node: Any, x: Image, *_: Any, **options: Any) -> list[Image]:
    """Channels in parts (chunk, split)."""
    dim = options.get("dim", node.args[2] if len(node.args) > 2 else 0)
    if dim % 4 != (3 if x.last else 1):
        raise work.refuse("split", "of an image: only its channels")
    made, first = [], 0
    for part in node.meta["val"]:
        count = int(part.shape[dim])
        made.append(Image(columns(work, x.node, first, count), x.height, x.width, x.last))
        first += count
    return made


def channels_first(work: Translation, x: Image) -> Matrix:
    """Return an image that leaves the graph: a row for each channel."""
    pixels = x.height * x.width
    if x.last or pixels == 1:
        return Matrix(x.node, np.arange(work.widths[x.node]), 0)
    return Matrix(work.add("turned", pixels, x.node, rows=work.widths[x.node]), np.arange(pixels), 0)


def spread(work: Translation, x: Image, like: Image) -> Image:
    """Return one pixel as an image of another's size."""
    if (x.height, x.width) != (1, 1) or (like.height, like.width) == (1, 1):
        return x
    ids = np.zeros(like.height * like.width, dtype=np.int32)
    return gathered(work, Image(x.node, 1, 1, like.last), ids, like.height, like.width)
