"""Deliberate faults, for disputes on a devnet: which jobs are lied about, and how.

A wrong value is one bit of one operator's output, chosen so that the trace shows it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from chain.errors import Invalid
from chain.hashing import keccak256
from hyperdust.lies import ProviderLie
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


@dataclass(frozen=True, slots=True)
class Liar:
    """A miner's plan of lies: the same for the same job, so that it tells one story after a restart."""

    kind: ProviderLie
    operator: int | None = None
    """Whose value is wrong; None: drawn for each job."""
    rate: int = 100
    """Percent of jobs that are lied about."""
    seed: int = 0
    """Fixes which jobs, and the operators drawn."""
    first: dict[bytes, int] = field(default_factory=dict)
    """For `double`: graph -> the job whose result serves for all later ones."""

    def lies(self, job: int) -> bool:
        """Whether this job is lied about."""
        return self._draw(job, b"rate") % 100 < self.rate

    def skips(self, job: int, *, is_submitted: bool) -> bool:
        """Whether the next step of a job is left out."""
        return self.kind is (ProviderLie.HIDE if is_submitted else ProviderLie.SILENT) and self.lies(job)

    def withholds(self, job: int) -> bool:
        """Whether questions about a job are left unanswered."""
        return self.kind is ProviderLie.WITHHOLD and self.lies(job)

    def source_of(self, graph: bytes, job: int) -> int:
        """The job that is executed in the place of this one: itself, unless results are used twice."""
        if self.kind is not ProviderLie.DOUBLE or not self.lies(job):
            return job
        return self.first.setdefault(graph, job)

    def fault_of(self, task: Task, backend: Backend, job: int) -> Fault | None:
        """What goes wrong in an execution."""
        if self.kind not in {ProviderLie.VALUE, ProviderLie.WITHHOLD, ProviderLie.HIDE} or not self.lies(job):
            return None
        operator = self.operator
        if operator is None:
            operator = self._draw(job, b"operator") % task.graph.operator_count()
        return choose_fault(task, backend, operator)

    def output_of(self, output: bytes, job: int) -> bytes:
        """The output that is submitted."""
        if self.kind is not ProviderLie.OUTPUT or not self.lies(job):
            return output
        return bytes((output[0] ^ 1,)) + output[1:]

    def _draw(self, job: int, what: bytes) -> int:
        return int.from_bytes(keccak256(what + self.seed.to_bytes(8, "big") + job.to_bytes(32, "big"))[:8], "big")


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
