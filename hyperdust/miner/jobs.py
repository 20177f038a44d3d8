"""A provider's side of a job: execute it, submit, reveal, settle. Every step may be cut short and is taken up again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import structlog
from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount

from chain.errors import HyperdustError, Malformed
from chain.hashing import keccak256
from chain.params import JOB_MARKET
from hyperdust.contracts_abi import encode_call
from hyperdust.journal import Journal
from hyperdust.lies import ProviderLie
from hyperdust.miner.draw import Drawer, Found
from hyperdust.miner.fault import Liar
from hyperdust.outbox import Call, Outbox
from hyperdust.proto import work_pb2 as messages
from hyperdust.task import read_task
from hyperdust.work_client import WorkClient, WorkUnreachable
from pouw.execution import Backend, Tensor, encode_tensors, run, trace_children, trace_root
from pouw.hypergraph import Hypergraph
from pouw.operators.rules import MATMUL

log = structlog.get_logger()

REQUESTED, CLAIMED, REVEALED = 1, 2, 3
MAX_WAIT_FOR_TEMPLATE_MS: Final = 15_000
_MAX_TRANSACTION_GAS: Final = 1 << 24  # EIP-7825
_SUBMIT_GAS: Final = (600_000, 24_000)  # fixed; per word of output: a cold slot, its log and its calldata
_STEP_GAS: Final = 1_000_000


@dataclass(slots=True)
class Entry:
    """The journal's notes about one job; bytes as hex, since the file is JSON."""

    job: int
    failed: bool = False
    """It cannot be executed."""
    trace_root: str = ""
    roots: list[str] = field(default_factory=list)
    """Subgraph roots."""
    output: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an execution gave."""

    output: bytes
    trace_root: bytes
    roots: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Served:
    """One graph of a provider's."""

    graph: Hypergraph
    constants: Mapping[bytes, Tensor]
    drawer: Drawer


@dataclass(slots=True)
class Provider:
    """Takes the steps that templates offer. One thread."""

    account: LocalAccount
    served: Mapping[bytes, Served]
    """Graph id -> what it takes to execute and mine it."""
    backend: Backend
    client: WorkClient
    journal: Journal[Entry]
    outbox: Outbox
    hand_in: Callable[[Found], None]
    liar: Liar | None = None

    def act(self, template: messages.Template) -> bool:
        """Take the steps that a template offers, at most one execution; True if another execution waits."""
        self.journal.keep_only({offer.id for offer in template.jobs})
        for kind in ("job", "decline"):
            self.outbox.keep_only(kind, {str(offer.id) for offer in template.jobs})
        unanswered: list[messages.JobOffer] = []
        for offer in sorted(template.jobs, key=lambda offer: -offer.status):
            entry = self.journal.get(offer.id)
            if template.number < offer.ready_at or self._skips(offer):
                continue
            if entry.failed:
                self._decline(offer, entry, template)
                continue
            if offer.status in {REQUESTED, CLAIMED} and not entry.trace_root:
                unanswered.append(offer)
            else:
                self._take_step(offer, template)
        if not unanswered:
            return False
        # A job's products are its draws: the last one in the queue begins when there is a template to draw on.
        if len(unanswered) == 1 and not template.open and template.opens_in_ms <= MAX_WAIT_FOR_TEMPLATE_MS:
            self.client.wait_for_work(template.opens_in_ms / 1_000 + 1)
        self._take_step(unanswered[0], template)
        return len(unanswered) > 1

    def execute(self, job: messages.Job) -> Answer:
        """Run the graph; mine on its products as far as a template is open.

        Raises:
            Invalid: the job is of another graph, or its input is none of this one.
        """
        served = self.served.get(job.graph)
        if served is None:
            raise Malformed("job", f"of graph 0x{job.graph.hex()}, which this provider does not serve")
        task = read_task(job, served.graph, served.constants)
        fault = None if self.liar is None else self.liar.fault_of(task, self.backend, job.id)
        execution = run(
            task.graph,
            task.constants,
            task.inputs,
            task.symbols,
            self.backend,
            matmul_hook=lambda operator, a, b: self._multiply(served.drawer, operator, a, b, job.id),
            on_output=None if fault is None else fault.hook(),
        )
        output = encode_tensors(list(execution.outputs.values()))
        if self.liar is not None:
            output = self.liar.output_of(output, job.id)
        roots = trace_children(execution)
        return Answer(output, trace_root(execution), roots)

    def _take_step(self, offer: messages.JobOffer, template: messages.Template) -> None:
        entry = self.journal.get(offer.id)
        try:
            if offer.status in {REQUESTED, CLAIMED} and not entry.trace_root:
                self._answer(entry)
                template = self.client.latest or template
            name = _step_name(offer)
            if not self.outbox.deliver(name, self._call_of(offer, entry), template, partial(self._send, entry)):
                self._decline(offer, entry, template)  # refused for good: no longer bonded, or not for so much
            if offer.status == REQUESTED and self._submits_twice(offer.id):
                again = self._call_of(offer, entry)
                self.outbox.deliver(f"{name}:again", again, template, partial(self._send, entry))
        except WorkUnreachable as error:
            log.warning("job step waits for the node", job=offer.id, reason=str(error))
        except HyperdustError as error:
            log.warning("job cannot be executed", job=offer.id, reason=str(error))
            entry.failed = True
            self.journal.put(entry)
            self._decline(offer, entry, template)

    def _decline(self, offer: messages.JobOffer, entry: Entry, template: messages.Template) -> None:
        """Give up a job that was asked of this provider: a missed deadline would pause it."""
        if offer.status == REQUESTED and offer.assigned:
            call = Call(JOB_MARKET, encode_call("JobMarket", "decline", offer.id), _STEP_GAS)
            self.outbox.deliver(f"decline:{offer.id}", call, template, partial(self._send, entry))

    def _answer(self, entry: Entry) -> None:
        job = self.client.get_job(entry.job)
        if self.liar is not None and self.liar.lies(entry.job):
            source = self.liar.source_of(job.graph, entry.job)
            log.warning("lying", job=entry.job, kind=self.liar.kind.value, result_of=source)
            job = job if source == entry.job else self.client.get_job(source)
        answer = self.execute(job)
        entry.trace_root = answer.trace_root.hex()
        entry.roots = [root.hex() for root in answer.roots]
        entry.output = answer.output.hex()
        self.journal.put(entry)
        log.info("job done", job=entry.job, trace_root="0x" + entry.trace_root)

    def _call_of(self, offer: messages.JobOffer, entry: Entry) -> Call:
        root = bytes.fromhex(entry.trace_root)
        if offer.status == REQUESTED:
            commitment = keccak256(encode(["bytes32", "address"], [root, self.account.address]))
            data = encode_call("JobMarket", "submit", offer.id, bytes.fromhex(entry.output), commitment)
            words = (len(data) + 31) // 32
            return Call(JOB_MARKET, data, min(_SUBMIT_GAS[0] + _SUBMIT_GAS[1] * words, _MAX_TRANSACTION_GAS))
        if offer.status == CLAIMED:
            return Call(JOB_MARKET, encode_call("JobMarket", "reveal", offer.id, root), _STEP_GAS)
        return Call(JOB_MARKET, encode_call("JobMarket", "settle", offer.id), _STEP_GAS)

    def _send(self, entry: Entry, raw: bytes) -> None:
        result = messages.Result(
            job=entry.job,
            output=bytes.fromhex(entry.output),
            trace_root=bytes.fromhex(entry.trace_root),
            subgraph_roots=[bytes.fromhex(root) for root in entry.roots],
            transactions=[raw],
        )
        verdict = self.client.submit_result(result)
        if not verdict.accepted:
            log.warning("result refused", job=entry.job, rule=verdict.rule, reason=verdict.text)

    def _skips(self, offer: messages.JobOffer) -> bool:
        if self.liar is None or offer.status not in {REQUESTED, CLAIMED}:
            return False
        return self.liar.skips(offer.id, is_submitted=offer.status == CLAIMED)

    def _submits_twice(self, job: int) -> bool:
        return self.liar is not None and self.liar.kind is ProviderLie.DOUBLE and self.liar.lies(job)

    def _multiply(self, drawer: Drawer, operator: int, a: Tensor, b_transposed: Tensor, job: int) -> Tensor:
        work = self.client.work()
        if work is None or operator not in drawer.operands:
            return self.backend.compute(MATMUL, (a, b_transposed), (1,))
        product, found = drawer.multiply(work, operator, a.astype(np.int8, copy=False), job)
        if found is not None:
            self.hand_in(found)
        return product


def _step_name(offer: messages.JobOffer) -> str:
    return f"job:{offer.id}:{offer.status}"
