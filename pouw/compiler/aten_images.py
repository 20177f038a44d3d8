"""What ATen's operators mean on images [1, channels, height, width]: a matrix with a row for each pixel.

A convolution is `patches`, then a linear layer; what works on each pixel or channel by itself is done on the matrix.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from pouw.compiler import aten_taps
from pouw.compiler.aten_functions import FUNCTIONS
from pouw.compiler.aten_taps import convolve, pair, spread, tap_ids
from pouw.compiler.translation import Image, Matrix, Translation, float32
from pouw.operators.rules_vision import PADDING_MAX, SQUARE_MAX

Handler = Callable[..., Any]
NOT_NEGATIVE = ("relu", "sigmoid")
BY_PIXEL = ("linear", "layer_norm")
"""Read the last axis, which holds channels only behind a permutation."""


def pointwise(handler: Handler, name: str) -> Handler:
    """Return the handler of an operator that treats every pixel by itself, from its handler for matrices."""

    def handle(work: Translation, _node: Any, *arguments: Any, **options: Any) -> Image:
        images = [argument for argument in arguments if isinstance(argument, Image)]
        image = max(images, key=lambda one: one.height * one.width)
        arguments = tuple(spread(work, given, image) if isinstance(given, Image) else given for given in arguments)
        if name in BY_PIXEL and not image.last:
            raise work.refuse(name, "of an image's rows: permute its channels to the end first")
        shape = SimpleNamespace(shape=(image.height * image.width, -1))
        matrices = [_operand(work, name, image, argument) for argument in arguments]
        made = handler(work, SimpleNamespace(meta={"val": shape}), *matrices, **options)
        return Image(made.node, image.height, image.width, image.last)

    return handle


def _operand(work: Translation, name: str, image: Image, given: Any) -> Any:
    """An image as its matrix, a constant in the matrix' order; weights stay as they are."""
    if isinstance(given, Image):
        if (given.height, given.width, given.last) != (image.height, image.width, image.last):
            raise work.refuse(name, "operands of two shapes")
        return Matrix(given.node, np.arange(work.widths[given.node]), 0)
    if name not in {"add", "sub", "mul", "div"} or not isinstance(given, work.torch.Tensor) or given.numel() == 1:
        return given
    channels = work.widths[image.node]
    sizes = [1] * (4 - given.dim()) + list(given.shape)
    full = [1, image.height, image.width, channels] if image.last else [1, channels, image.height, image.width]
    if sizes == full:
        ordered = given.reshape(full) if image.last else given.reshape(full).permute(0, 2, 3, 1)
        return ordered.reshape(image.height * image.width, channels)
    if prod(sizes) != channels or sizes[3 if image.last else 1] != channels:
        raise work.refuse(name, "a constant that is neither one number, nor one for each channel, nor an image")
    return given.reshape(-1)


def convolution(
    work: Translation,
    _node: Any,
    x: Image,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Image:
    """Kernels of any form; square ones of one group are patches, each channel by itself is a product of 16 bits."""
    kernel = float32(weight)  # (n, c, size, size)
    n, channels, size, wide = kernel.shape
    steps, gaps = pair(work, "conv2d", "stride", stride), pair(work, "conv2d", "dilation", dilation)
    around = _around(work, padding, (size, wide), gaps)
    offset = np.zeros(n, dtype=np.float32) if bias is None else float32(bias)
    simple = size == wide and groups == 1 and gaps == (1, 1) and steps[0] == steps[1] and len(set(around)) == 1
    if not simple:
        if x.last:
            raise work.refuse("conv2d", "takes channels first")
        found = tap_ids((x.height, x.width), (size, wide), steps, around, gaps)
        return convolve(work, x, kernel, offset, found, groups)
    source = _cut(work, x, "conv2d", (size, steps[0], around[0]))
    arrays = {
        "weight": np.ascontiguousarray(kernel.transpose(0, 2, 3, 1)).reshape(n, size * size * channels),
        "bias": offset,
    }
    return Image(work.add("linear", n, source.node, arrays=arrays), source.height, source.width)


def _around(
    work: Translation, padding: Any, kernel: tuple[int, int], gaps: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return the zeros above, below, left and right."""
    if padding == "same":
        down, across = (gap * (size - 1) for gap, size in zip(gaps, kernel, strict=True))
        return down // 2, down - down // 2, across // 2, across - across // 2
    down, across = (0, 0) if isinstance(padding, str) else pair(work, "conv2d", "padding", padding)
    return down, down, across, across


def _one(work: Translation, operator: str, what: str, given: Any) -> int:
    sizes = {int(size) for size in given} if isinstance(given, Sequence) else {int(given)}
    if len(sizes) != 1:
        raise work.refuse(operator, f"{what} {given}: one number for both sides")
    return sizes.pop()


def _cut(work: Translation, x: Image, operator: str, squares: tuple[int, int, int]) -> Image:
    """Return the squares of an image (size, stride, padding) as rows; of 1 x 1 ones the image itself."""
    size, stride, padding = squares
    if x.last:
        raise work.refuse(operator, "takes channels first")
    if squares == (1, 1, 0):
        return x
    if not (1 <= size <= SQUARE_MAX and 1 <= stride <= SQUARE_MAX and 0 <= padding <= PADDING_MAX):
        raise work.refuse(operator, f"size {size}, stride {stride}, padding {padding}: at most {SQUARE_MAX}")
    height, width = ((side + 2 * padding - size) // stride + 1 for side in (x.height, x.width))
    numbers = {"height": x.height, "width": x.width, "size": size, "stride": stride, "padding": padding}
    cut = work.add("patches", size * size * work.widths[x.node], x.node, rows=height * width, numbers=numbers)
    return Image(cut, height, width)


def max_pool(
    work: Translation,
    _node: Any,
    x: Image,
    size: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,  # noqa: FBT001, FBT002  # as ATen passes it
) -> Image:
    """The largest of each square; zeros may stand around what is never negative."""
    around = _one(work, "max_pool2d", "padding", padding)
    if ceil_mode or _one(work, "max_pool2d", "dilation", dilation) != 1:
        raise work.refuse("max_pool2d", "with ceil_mode or a dilation")
    if around and not _never_negative(work, x.node):
        raise work.refuse("max_pool2d", "padding of values that may be negative: only behind relu or sigmoid")
    return _pool(work, "max_pool", _cut(work, x, "max_pool2d", (1, 1, around)), (size, stride or size))


def _never_negative(work: Translation, index: int) -> bool:
    node = work.nodes[index]
    if node.kind in {"max_pool", "average_pool", "patches"}:
        return _never_negative(work, node.sources[0])
    return node.kind == "activation" and node.function in NOT_NEGATIVE


def average_pool(
    work: Translation,
    _node: Any,
    x: Image,
    size: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,  # noqa: FBT001, FBT002  # as ATen passes it
    count_include_pad: bool = True,  # noqa: FBT001, FBT002  # as ATen passes it
    divisor_override: int | None = None,
) -> Image:
    """The mean of each square; zeros around it count."""
    around = _one(work, "avg_pool2d", "padding", padding)
    if ceil_mode or divisor_override is not None or (around and not count_include_pad):
        raise work.refuse("avg_pool2d", "with ceil_mode, a divisor, or padding that does not count")
    return _pool(work, "average_pool", _cut(work, x, "avg_pool2d", (1, 1, around)), (size, stride or size))


def adaptive_average_pool(work: Translation, node: Any, x: Image, wanted: Any) -> Any:
    """Equal squares, or the mean of the whole image."""
    high, wide = (int(size) for size in wanted) if isinstance(wanted, Sequence) else (int(wanted), int(wanted))
    size = x.height // high
    if x.height != high * size or x.width != wide * size or size > SQUARE_MAX:
        if (high, wide) != (1, 1):
            raise work.refuse("adaptive_avg_pool2d", f"{x.height} x {x.width} in {high} x {wide} unequal squares")
        mean_of_all(work, node, x, [2, 3])
        return Image(len(work.nodes) - 1, 1, 1)
    return _pool(work, "average_pool", x, (size, size))


def _pool(work: Translation, kind: str, x: Image, given: tuple[Any, Any]) -> Image:
    size, stride = (_one(work, kind, "a square", side) for side in given)
    if x.last or not 1 <= size <= min(SQUARE_MAX, x.height, x.width) or not 1 <= stride <= SQUARE_MAX:
        raise work.refuse(kind, f"squares of {size} by {stride} on {x.height} x {x.width}, channels first")
    height, width = ((side - size) // stride + 1 for side in (x.height, x.width))
    numbers = {"height": x.height, "width": x.width, "size": size, "stride": stride}
    made = work.add(kind, work.widths[x.node], x.node, rows=height * width, numbers=numbers)
    return Image(made, height, width)


def mean_of_all(work: Translation, node: Any, x: Image, dim: Any = None, *_: Any, **__: Any) -> Matrix:
    """The mean over all pixels."""
    axes = {axis % 4 for axis in dim} if isinstance(dim, Sequence) else set()
    if axes != ({1, 2} if x.last else {2, 3}):
        raise work.refuse("mean", "only the mean over height and width is known")
    width = work.widths[x.node]
    made = work.add("mean", width, x.node, single=True)
    return Matrix(made, np.arange(width), None).shaped(node.meta["val"].shape)


def view(work: Translation, node: Any, x: Image, *_: Any, **__: Any) -> Any:
    """An image as it is, as rows of pixels (for attention), or as one row (for a linear layer)."""
    channels, sizes = work.widths[x.node], [int(size) for size in node.meta["val"].shape]
    pixels = x.height * x.width
    shape = [x.height, x.width, channels] if x.last else [channels, x.height, x.width]
    if sizes == [1, *shape]:
        return x
    if pixels > 1 and sizes in ([1, pixels, channels], [1, channels, pixels]):
        if sizes == ([1, pixels, channels] if x.last else [1, channels, pixels]):
            return Matrix(x.node, np.arange(channels).reshape(1, channels), 1 if x.last else 2)
        raise work.refuse("view", f"to {sizes} mixes pixels with channels")
    if any(1 < size < channels * pixels for size in sizes) and pixels > 1:
        raise work.refuse("view", f"of an image [{', '.join(map(str, [1, *shape]))}] to {sizes}")
    made = x.node if work.single[x.node] else work.add("flatten", channels * pixels, x.node, single=True)
    places = np.arange(channels * pixels).reshape(x.height, x.width, channels)
    ordered = places if x.last else places.transpose(2, 0, 1)
    return Matrix(made, ordered.reshape(sizes), None)


def permute(work: Translation, _node: Any, x: Image, order: Any) -> Image:
    """Channels to the end, and back."""
    wanted = [axis % 4 for axis in order]
    if wanted == [0, 1, 2, 3]:
        return x
    if wanted != ([0, 3, 1, 2] if x.last else [0, 2, 3, 1]):
        raise work.refuse("permute", f"of an image by {order}: only channels move, to the end or back")
    return Image(x.node, x.height, x.width, not x.last)


def same(_work: Translation, _node: Any, x: Image, *_: Any, **__: Any) -> Image:
    """What changes no value."""
    return x


def image_handlers(handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    """Return name -> handler for operators on images; those on single pixels are made of the matrices' own."""
    alone = ("add", "sub", "mul", "div", "batch_norm", *BY_PIXEL, *FUNCTIONS)
    made = {name: pointwise(handlers[name], name) for name in alone}
    made |= {f"{name}_": made[name] for name in ("add", "mul", *FUNCTIONS)}
    made |= dict.fromkeys(("view", "reshape", "flatten", "squeeze", "unsqueeze", "_unsafe_view"), view)
    made |= dict.fromkeys(("contiguous", "clone", "alias", "detach", "to", "_to_copy"), same)
    return {
        **made,
        "conv2d": convolution,
        "conv_transpose2d": aten_taps.transposed_convolution,
        "group_norm": aten_taps.group_norm,
        "instance_norm": aten_taps.instance_norm,
        "upsample_nearest2d": aten_taps.nearest,
        "upsample_bilinear2d": aten_taps.bilinear,
        "pad": aten_taps.pad,
        "slice": aten_taps.take_slice,
        "split": aten_taps.split,
        "split_with_sizes": aten_taps.split,
        "chunk": aten_taps.split,
        "max_pool2d": max_pool,
        "avg_pool2d": average_pool,
        "adaptive_avg_pool2d": adaptive_average_pool,
        "mean": mean_of_all,
        "permute": permute,
        **{name: handlers[name] for name in ("dropout", "dropout_", "feature_dropout")},
    }
