"""Deliberate faults, for disputes on a devnet: one wrong value of one operator, chosen so that the trace shows it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chain.errors import Invalid
from hyperdust.task import Task
from pouw.execution import Backend, OutputHook, Tensor, run, trace_root

_BITS: Final = (0, 2, 4, 6, 9, 12, 15, 20, 26)
_PLACES: Final = 16  # elements that are tried for each bit


@dataclass(frozen=True, slots=True)
class Fault:
    """One bit of one operator's output, the first time that it is computed; a scan computes it every step."""

    operator: int
    bit: int
    place: int
    """Element of the output."""

    def apply(self, step: int, operator: int, output: Tensor) -> Tensor:
        """The operator's output, wrong if it is this fault's."""
        if operator != self.operator or step != 0:
            return output
        wrong = output.copy()
        wrong.reshape(-1)[self.place] ^= 1 << self.bit
        return wrong

    def hook(self) -> OutputHook:
        """A hook for one run."""
        seen = 0

        def hook(operator: int, output: Tensor) -> Tensor:
            nonlocal seen
            if operator != self.operator:
                return output
            seen += 1
            return self.apply(seen - 1, operator, output)

        return hook


def choose_fault(task: Task, backend: Backend, operator: int) -> Fault:
    """The smallest bit flip in an operator's output that changes the trace root; the same for the same job.

    Rounding swallows most small errors before the end of a subgraph: such a fault nobody could see, or dispute.
    """

    def root_with(hook: OutputHook | None) -> bytes:
        return trace_root(run(task.graph, task.constants, task.inputs, task.symbols, backend, on_output=hook))

    sizes: list[tuple[int, int]] = []

    def measure(index: int, output: Tensor) -> Tensor:
        if index == operator:
            sizes.append((output.size, 8 * output.dtype.itemsize))
        return output

    honest = root_with(measure)
    size, width = sizes[0] if sizes else (1, 8)
    for bit, place in _candidates(size, width):
        fault = Fault(operator, bit, place)
        try:
            if root_with(fault.hook()) != honest:
                return fault
        except Invalid:  # the wrong value is out of a later operator's range
            continue
    return Fault(operator, 0, 0)


def _candidates(size: int, width: int) -> Iterator[tuple[int, int]]:
    for bit in _BITS:
        if bit < width - 1:
            for part in range(_PLACES):
                yield bit, part * (size - 1) // (_PLACES - 1)
