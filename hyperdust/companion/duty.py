"""A companion's duties: commit to its own trace root, open it, and where the provider's differs, prove or demand.

Every step may be cut short and is taken up again: notes and transactions are on disk before they matter.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import structlog
from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount

from chain.errors import HyperdustError, Invalid
from chain.hashing import H, keccak256
from chain.params import COURT, JOB_MARKET
from hyperdust.companion.trial import Trial, compute_commitment, open_trial
from hyperdust.contracts_abi import encode_call
from hyperdust.graph import LoadedGraph
from hyperdust.journal import Journal
from hyperdust.lies import CompanionLie
from hyperdust.outbox import Call, Outbox
from hyperdust.proto import work_pb2 as messages
from hyperdust.work_client import QuestionRefused, WorkClient, WorkUnreachable
from pouw.execution import Backend
from pouw.fraud_types import Demand

log = structlog.get_logger()

COMMIT, REVEAL, PROVE, REFUND = 1, 2, 3, 4
_KINDS: Final = ("commit", "reveal", "refund", "announce", "prove", "demand", "expire")
_STEP_GAS: Final = 1_000_000
_DEMAND_GAS: Final = 1 << 23  # 64 KiB of calldata at 40 gas a byte, judged and logged
_PROVE_GAS: Final = 1 << 24  # EIP-7825: all that a transaction may have; what is left comes back
_TRIALS: Final = 2  # executions kept in memory: one on trial, one that was just committed to
_PATIENCE: Final = 3  # a relayed question waits for a third of what is left of the window, or so many blocks


class NotServed(Invalid):
    """A job of a graph that this companion was not told to check."""


@dataclass(slots=True)
class Note:
    """The journal's notes about one job; bytes as hex, since the file is JSON."""

    job: int
    root: str = ""
    """The trace root that is right, and that was committed to."""
    differs: bool = False
    """The provider committed to another one."""
    is_right: bool = False
    """The revealed job was checked whole: nothing is left to do."""
    failed: bool = False
    """It cannot be checked here; the log says why."""
    evidence: str = ""
    signature: str = ""
    kind: str = ""
    """Of the verdict that the evidence asks for."""
    operator: int = 0
    element: int = 0


class Court(Protocol):
    """What is asked of the court, beside its steps."""

    def load_deposit(self) -> int:
        """Wei that a demand takes."""
        ...

    def load_announced(self, job: int) -> bytes:
        """Hash of this key's last announcement about a job; 32 zeros for none."""
        ...


@dataclass(slots=True)
class Duty:
    """Takes the steps that templates offer. One thread."""

    account: LocalAccount
    graphs: Mapping[bytes, LoadedGraph]
    backend: Backend
    client: WorkClient
    journal: Journal[Note]
    outbox: Outbox
    court: Court
    lie: CompanionLie | None = None
    _trials: OrderedDict[int, Trial] = field(default_factory=OrderedDict)
    _patience: dict[bytes, int] = field(default_factory=dict)
    """Question -> last block in which its answer may come by the relay."""

    def act(self, template: messages.Template) -> bool:
        """Take the steps that a template offers; True while a relayed question waits for its answer."""
        jobs = {check.job for check in template.checks}
        self.journal.keep_only(jobs)
        for kind in _KINDS:
            self.outbox.keep_only(kind, {str(job) for job in jobs})
        for job in [job for job in self._trials if job not in jobs]:
            del self._trials[job]
        waits = False
        for check in template.checks:
            note = self.journal.get(check.job)
            if template.number < check.ready_at or note.failed:
                continue
            try:
                if check.step == PROVE:
                    waits = self._prove(check, note, template, may_search=not waits) or waits
                else:
                    self._take_step(check, note, template)
            except WorkUnreachable as error:
                log.warning("check waits for the node", job=check.job, reason=str(error))
                return False
            except HyperdustError as error:
                log.warning("job cannot be checked", job=check.job, reason=str(error))
                note.failed = True
                self.journal.put(note)
        if not waits:
            self._patience.clear()
        return waits

    def _take_step(self, check: messages.Check, note: Note, template: messages.Template) -> None:
        if not note.root:
            self._compute(note)
        root = bytes.fromhex(note.root)
        if check.step == COMMIT:
            commitment = compute_commitment(root, self._address)
            if self.lie is CompanionLie.COPY:
                commitment = self.client.get_job(check.job).commitment
            data = encode_call("JobMarket", "commit", check.job, commitment)
            self._deliver(f"commit:{check.job}", Call(JOB_MARKET, data, _STEP_GAS), template, check.job)
        elif check.step == REVEAL:
            # Before the provider's own reveal there is a point in it only against one that hides another root.
            if note.differs or self.client.get_job(check.job).trace_root:
                data = encode_call("JobMarket", "companion_reveal", check.job, root)
                self._deliver(f"reveal:{check.job}", Call(JOB_MARKET, data, _STEP_GAS), template, check.job)
        elif check.step == REFUND:
            data = encode_call("JobMarket", "refund", check.job)
            self._deliver(f"refund:{check.job}", Call(JOB_MARKET, data, _STEP_GAS), template, check.job)

    def _compute(self, note: Note) -> None:
        trial = self._load_trial(note.job)
        root = trial.root
        if self.lie is not None:
            log.warning("lying", job=note.job, kind=self.lie.value)
        if self.lie is CompanionLie.ACCUSE:
            root = H("accusation", root)
        note.root = root.hex()
        note.differs = compute_commitment(root, trial.job.provider) != trial.job.commitment
        self.journal.put(note)
        log.info("job checked", job=note.job, trace_root="0x" + note.root, differs=note.differs)

    def _prove(self, check: messages.Check, note: Note, template: messages.Template, *, may_search: bool) -> bool:
        """One step nearer to the verdict; True while a relayed question waits."""
        if note.is_right:
            return False
        if not note.evidence:
            for demand in check.demands:
                if template.number >= demand.expires_at:
                    call = Call(COURT, encode_call("Court", "expire", demand.id), _STEP_GAS)
                    self._deliver(f"expire:{check.job}:{demand.id}", call, template, check.job)
            if check.demands or not may_search:
                return False
            withheld = self._search(note)
            if withheld is not None:
                return self._wait_or_demand(check, withheld, template)
        if note.evidence:
            self._send_proof(note, self.client.latest or template)
        return False

    def _search(self, note: Note) -> Demand | None:
        """Look for evidence; what is not answered yet, or None."""
        trial = self._load_trial(note.job)
        if not trial.job.trace_root:
            trial.job = self.client.get_job(note.job)
        if trial.is_right():
            note.is_right = True
            self.journal.put(note)
            log.info("job is right", job=note.job)
            return None
        found = trial.find_proof(self.client)
        if isinstance(found, Demand):
            return found
        verdict = found.verdict
        note.evidence, note.signature = found.evidence.hex(), found.signature.hex()
        note.kind, note.operator, note.element = verdict.kind.name.lower(), verdict.operator, verdict.element
        self.journal.put(note)
        log.info(
            "fault found",
            job=note.job,
            kind=note.kind,
            operator=note.operator,
            element=note.element,
            evidence_bytes=len(found.evidence),
        )
        return None

    def _wait_or_demand(self, check: messages.Check, demand: Demand, template: messages.Template) -> bool:
        left = max(check.until - template.number, 0)
        last = self._patience.setdefault(demand.data, template.number + max(left // 3, _PATIENCE))
        if template.number < last:
            return True
        name = f"demand:{check.job}:{keccak256(demand.data).hex()[:16]}"
        if self.outbox.get(name) is None:
            log.warning("data is withheld, demanding it", job=check.job, question=demand.question.kind.name)
        call = Call(
            COURT,
            encode_call("Court", "demand", check.job, demand.data, demand.signature),
            _DEMAND_GAS,
            self.court.load_deposit(),
        )
        self._deliver(name, call, template, check.job)
        return True

    def _send_proof(self, note: Note, template: messages.Template) -> None:
        """Announce it, and a block later show it: nobody can take it from the pool."""
        evidence, announced = bytes.fromhex(note.evidence), f"announce:{note.job}"
        hidden = keccak256(encode(["bytes32", "address"], [keccak256(evidence), self.account.address]))
        if not self.outbox.is_mined(announced, template) and not self._is_announced(announced, note.job, hidden):
            call = Call(COURT, encode_call("Court", "commit", note.job, hidden), _STEP_GAS)
            self._deliver(announced, call, template, note.job)
            return
        data = encode_call("Court", "prove", note.job, evidence, bytes.fromhex(note.signature))
        self._deliver(f"prove:{note.job}", Call(COURT, data, _PROVE_GAS), template, note.job)

    def _is_announced(self, letter: str, job: int, hidden: bytes) -> bool:
        """Whether an earlier life announced this and lost its notes."""
        return self.outbox.get(letter) is None and self.court.load_announced(job) == hidden

    def _load_trial(self, job: int) -> Trial:
        found = self._trials.get(job)
        if found is None:
            while len(self._trials) >= _TRIALS:  # memory of the oldest goes before the new one is computed
                self._trials.popitem(last=False)
            message = self.client.get_job(job)
            loaded = self.graphs.get(message.graph)
            if loaded is None:
                raise NotServed(f"job {job} is of graph 0x{message.graph.hex()}; give --graph NAME for it")
            found = self._trials[job] = open_trial(message, loaded.graph, loaded.constants, self.backend)
        self._trials.move_to_end(job)
        return found

    def _deliver(self, name: str, call: Call, template: messages.Template, job: int) -> None:
        self.outbox.deliver(name, call, self.client.latest or template, partial(self._send, job))

    def _send(self, job: int, raw: bytes) -> None:
        verdict = self.client.submit_result(messages.Result(job=job, transactions=[raw]))
        if not verdict.accepted:
            log.warning("transaction refused", job=job, rule=verdict.rule, reason=verdict.text)

    @property
    def _address(self) -> bytes:
        return bytes.fromhex(self.account.address[2:])


__all__ = ["Duty", "NotServed", "Note", "QuestionRefused"]
