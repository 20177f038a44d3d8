"""A float program while it becomes a graph: each value in the fixed points that its readers want."""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chain.errors import OutOfRange
from pouw.compiler.assemble import Assembly, Handle
from pouw.compiler.calibration import Float64
from pouw.compiler.program import Float, Node, Program
from pouw.compiler.ranges import Format, plan_formats
from pouw.operators.arithmetic import INT32_MAX
from pouw.operators.types import Tensor

Mining = Literal["none", "some", "all"]


class ConstantTooLarge(OutOfRange):
    """A constant of the model does not fit into int32 in the fixed point that its output needs."""


class Lowering:
    """The work in progress: for each node its tensors by format."""

    def __init__(self, program: Program, largest: Mapping[int, Float], mining: Mining) -> None:
        """Nothing made yet; `largest`: of each node's columns, on the calibration inputs."""
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

    def at(self, index: int, wanted: Format) -> Handle:
        """The value of a node as int16 in a format, converted where it has another."""
        made = self.narrow[index]
        for held, handle in made.items():
            if held.scale == wanted.scale and held.limit <= wanted.limit:
                return handle
        if index in self.wide:
            handle, scale = self.wide[index]
            made[wanted] = self.requantise(handle, np.array([wanted.scale / scale]), wanted.limit)
        else:
            held, handle = next(iter(made.items()))
            doubled = self.assembly.add("add", handle, handle)
            made[wanted] = self.requantise(doubled, np.array([wanted.scale / held.scale / 2]), wanted.limit)
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

    def requantise(self, x: Handle, ratio: Float64, limit: int, offset: Float64 | None = None) -> Handle:
        """int32[m, n] * ratio + offset, as int16."""
        width = self.assembly.width(x)
        multipliers, shift = find_multipliers(np.broadcast_to(ratio, (width,)), 2**18)
        bias = np.zeros(width) if offset is None else offset
        return self.assembly.add(
            "rescale",
            x,
            self.assembly.ones(x),
            self.assembly.constant(multipliers),
            self.assembly.constant(to_constant("offset", bias, np.int32)),
            attributes=(shift, limit),
        )


Lower: TypeAlias = Callable[[Lowering, int, Node], None]
"""How a kind of node becomes operators: the work, the node's number, the node."""


def find_multipliers(exact: Float64, bound: int) -> tuple[Tensor, int]:
    """Return round(exact * 2^shift) as int32 and the shift, with every |multiplier| below the bound."""
    largest = float(np.abs(exact).max())
    bound = min(bound, INT32_MAX)
    shift = 1
    while shift < 62 and largest * 2.0 ** (shift + 1) < bound:
        shift += 1
    return to_constant("multiplier", exact * 2.0**shift, np.int32), shift


def to_constant(what: str, x: NDArray[np.floating], dtype: type[np.signedinteger]) -> Tensor:
    """Return x rounded to integers.

    Raises:
        ConstantTooLarge.
    """
    rounded = np.rint(np.asarray(x, dtype=np.float64))
    bound = np.iinfo(dtype).max
    largest = float(np.abs(rounded).max(initial=0.0))
    if not largest <= bound:
        raise ConstantTooLarge(what, largest, f"at most {bound}")
    fixed: Tensor = rounded.astype(dtype)
    return fixed
