"""One job, executed once more: is its provider's trace mine, and if not, what proves it?

Before anybody is accused, the reference backend decides between own hardware and the provider.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog
from eth_abi.abi import encode

from chain.errors import Invalid, Malformed
from chain.hashing import H, keccak256
from hyperdust.proto import work_pb2 as messages
from hyperdust.task import Task, read_task
from hyperdust.work_client import WorkClient
from pouw.backends.reference import NumpyBackend
from pouw.execution import Backend, Tensor, encode_tensors, run, trace_root
from pouw.fraud import Answer, Facts, FalseAnswer, Proof, Withheld
from pouw.fraud_own import OwnTrace
from pouw.fraud_proof import build_proof, prove_refused_job
from pouw.fraud_search import find_difference
from pouw.fraud_types import Demand
from pouw.hypergraph import Hypergraph

log = structlog.get_logger()

REFUSED_ROOT: Final = H("refused")
"""What a companion commits to where the graph does not take a job's input: no honest trace has it."""


class ProvesNothing(Invalid):
    """The roots differ and no difference was found, or the node passes a question on to nobody."""


@dataclass(frozen=True, slots=True)
class Own:
    """What this machine made of a job."""

    trace: OwnTrace | None
    """None: the graph takes not even the job's symbols or input."""
    root: bytes
    output: bytes


def compute_commitment(root: bytes, account: bytes) -> bytes:
    """keccak256(abi.encode(trace_root, account)): what provider and companion commit to."""
    return keccak256(encode(["bytes32", "address"], [root, account]))


def execute(task: Task, backend: Backend) -> Own:
    """Run a job; one that an operator refuses has a trace up to there."""
    try:
        execution = run(task.graph, task.constants, task.inputs, task.symbols, backend)
    except Invalid as error:
        log.warning("no honest trace exists", reason=str(error))
        trace = OwnTrace.until_refused(task.graph, task.constants, task.inputs, task.symbols, backend)
        return Own(trace, REFUSED_ROOT, b"")
    trace = OwnTrace(execution, task.constants, task.inputs, backend)
    return Own(trace, trace_root(execution), encode_tensors(list(execution.outputs.values())))


@dataclass(slots=True)
class Trial:
    """A job on trial; keeps the execution and the answers, so that a search goes on where it stopped."""

    job: messages.Job
    graph: Hypergraph
    own: Own
    _answers: dict[bytes, Answer] = field(default_factory=dict)

    @property
    def root(self) -> bytes:
        """The trace root that is right."""
        return self.own.root

    @property
    def facts(self) -> Facts:
        """What the court knows of the revealed job."""
        return Facts(
            graph=self.job.graph,
            trace_root=self.job.trace_root,
            input_hash=keccak256(self.job.input),
            output_hash=keccak256(self.job.output),
            symbols=tuple(self.job.symbols),
        )

    def is_right(self) -> bool:
        """Whether the revealed job is what this machine computed."""
        return self.own.root == self.job.trace_root and self.own.output == self.job.output

    def ask(self, demand: Demand) -> Answer:
        """The accused's side of the search: what has been fetched so far.

        Raises:
            Withheld
        """
        found = self._answers.get(demand.data)
        if found is None:
            raise Withheld(demand)
        return found

    def find_proof(self, client: WorkClient) -> Proof | Demand:
        """Search for the first difference as far as answers have come; the evidence, or what is not answered yet.

        Raises:
            ProvesNothing: there is nothing that could be shown.
            WorkUnreachable
        """
        if self.own.trace is None:
            return prove_refused_job(self.facts, self.graph, self.job.input)
        while True:
            try:
                difference = find_difference(self.facts, self.own.trace, self, self.job.output)
            except Withheld as error:
                demand = error.demand
            except FalseAnswer as error:  # this node did not check what it passed on
                if not isinstance(error.expected, Demand):
                    raise
                demand = error.expected
                self._answers.pop(demand.data, None)
            else:
                if difference is None:
                    raise ProvesNothing(f"job {self.job.id}: no difference is found")
                return build_proof(self.facts, self.own.trace, difference, self.job.input, self.job.output)
            request = messages.DataRequest(job=self.job.id, question=demand.data, signature=demand.signature)
            data = client.get_data(request)
            if data is None:
                return demand
            self._answers[demand.data] = Answer(data.answer, data.signature)


def open_trial(job: messages.Job, graph: Hypergraph, constants: Mapping[bytes, Tensor], backend: Backend) -> Trial:
    """Execute a job; where the result is not the provider's, the reference backend has the last word.

    Raises:
        Malformed: the node does not know the job's input.
    """
    if not job.input:
        raise Malformed("job", f"{job.id}: the node does not know its input")
    try:
        task = read_task(job, graph, constants)
    except Invalid as error:
        log.warning("the graph does not take the job", job=job.id, reason=str(error))
        return Trial(job, graph, Own(None, REFUSED_ROOT, b""))
    own = execute(task, backend)
    if compute_commitment(own.root, job.provider) == job.commitment:
        return Trial(job, graph, own)
    reference = execute(task, NumpyBackend())
    if reference.root != own.root:
        log.error(
            "this machine computes falsely: its backend and the reference differ",
            job=job.id,
            backend=backend.name,
            got="0x" + own.root.hex(),
            expected="0x" + reference.root.hex(),
        )
    return Trial(job, graph, reference)
