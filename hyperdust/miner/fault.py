"""Deliberate faults, for disputes on a devnet: one wrong value of one operator, chosen so that the trace shows it."""

from collections.abc import Iterator, Mapping
from typing import Final

from chain.errors import Invalid
from pouw.execution import Backend, OutputHook, Tensor, run, trace_root
from pouw.hypergraph import Hypergraph

_BITS: Final = (0, 2, 4, 6, 9, 12, 15, 20, 26)
_PLACES: Final = 16  # elements that are tried for each bit


def choose_fault(
    graph: Hypergraph,
    constants: Mapping[bytes, Tensor],
    inputs: Mapping[str, Tensor],
    symbols: Mapping[str, int],
    backend: Backend,
    operator: int,
) -> OutputHook:
    """The smallest bit flip in an operator's output that changes the trace root; the same for the same job.

    Rounding swallows most small errors before the end of a subgraph: such a fault nobody could see, or dispute.
    """

    def root_with(hook: OutputHook | None) -> bytes:
        return trace_root(run(graph, constants, inputs, symbols, backend, on_output=hook))

    sizes: list[tuple[int, int]] = []

    def measure(index: int, output: Tensor) -> Tensor:
        if index == operator:
            sizes.append((output.size, 8 * output.dtype.itemsize))
        return output

    honest = root_with(measure)
    size, width = sizes[0] if sizes else (1, 8)
    for bit, place in _candidates(size, width):
        try:
            if root_with(_flip(operator, bit, place)) != honest:
                return _flip(operator, bit, place)
        except Invalid:  # the wrong value is out of a later operator's range
            continue
    return _flip(operator, 0, 0)


def _candidates(size: int, width: int) -> Iterator[tuple[int, int]]:
    for bit in _BITS:
        if bit < width - 1:
            for part in range(_PLACES):
                yield bit, part * (size - 1) // (_PLACES - 1)


def _flip(operator: int, bit: int, place: int) -> OutputHook:
    """A hook for one run: flips a bit the first time that the operator is computed; a scan computes it every step."""
    done = False

    def hook(index: int, output: Tensor) -> Tensor:
        nonlocal done
        if index != operator or done:
            return output
        done = True
        wrong = output.copy()
        wrong.reshape(-1)[place] ^= 1 << bit
        return wrong

    return hook
