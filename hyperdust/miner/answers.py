"""Answers to questions about the miner's own jobs: it executes them again and says what it committed to.

Relayed questions are answered over the work API, demands on chain by a transaction. A thread of its own computes, one
execution at a time, so that neither draws nor jobs wait; the miner's loop sends.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
from eth_account.signers.local import LocalAccount

from chain.errors import HyperdustError, Malformed
from chain.params import COURT
from hyperdust.contracts_abi import encode_call
from hyperdust.court import operators_digest, sign_operators
from hyperdust.miner.fault import Liar
from hyperdust.miner.jobs import Served
from hyperdust.outbox import Call, Outbox
from hyperdust.proto import work_pb2 as messages
from hyperdust.task import read_task
from hyperdust.work_client import WorkClient, WorkUnreachable
from pouw.execution import Backend, run
from pouw.fraud import Question, QuestionKind
from pouw.fraud_own import OwnTrace, list_hash

log = structlog.get_logger()

_ANSWER_GAS: Final = 1 << 24  # EIP-7825: all that a transaction may have; what is left comes back
_MAX_DONE: Final = 1_024
_TRACES: Final = 2  # executions kept in memory


@dataclass(slots=True)
class Answers:
    """Answers what templates ask. `answer` belongs to one thread, `send_demanded` to the miner's loop."""

    account: LocalAccount
    served: Mapping[bytes, Served]
    backend: Backend
    client: WorkClient
    liar: Liar | None = None
    _traces: OrderedDict[int, OwnTrace] = field(default_factory=OrderedDict)
    """Executions by job, the last used last: a search asks many questions, two searches ask in turns."""
    _published: dict[int, bytes] = field(default_factory=dict)
    """Demand -> what the transaction says; written by the thread, read by the loop."""
    _refused: set[tuple[int, bytes]] = field(default_factory=set)
    """Questions that cannot be answered; kept so that they cost one try each."""

    def answer(self, template: messages.Template) -> None:
        """Answer what a template asks and was not answered before; what fails is logged and left."""
        for asked in template.questions:
            key = (asked.job, bytes(asked.question))
            if key in self._refused or asked.demand in self._published:
                continue
            if self.liar is not None and self.liar.withholds(asked.job):
                continue
            try:
                self._answer(asked, template)
            except WorkUnreachable as error:
                log.warning("answer waits for the node", job=asked.job, reason=str(error))
                return
            except HyperdustError as error:
                log.warning("question cannot be answered", job=asked.job, demand=asked.demand, reason=str(error))
                if len(self._refused) >= _MAX_DONE:
                    self._refused.clear()
                self._refused.add(key)

    def send_demanded(self, template: messages.Template, outbox: Outbox) -> None:
        """Bring the answers to demands into the chain."""
        demands = {asked.demand: asked for asked in template.questions if asked.demand}
        outbox.keep_only("answer", {str(demand) for demand in demands})
        for demand in [demand for demand in self._published if demand not in demands]:
            del self._published[demand]
        for demand, asked in demands.items():
            data = self._published.get(demand)
            if data is not None:
                call = Call(COURT, encode_call("Court", "answer", demand, bytes(asked.question), data), _ANSWER_GAS)
                outbox.deliver(f"answer:{demand}", call, template, partial(self._send, asked.job))

    def _answer(self, asked: messages.DataRequest, template: messages.Template) -> None:
        question = Question.decode(asked.question)
        data = self._load_trace(asked.job).answer(question).data
        if asked.demand:
            self._published[asked.demand] = data
            log.info("demand answered", job=asked.job, demand=asked.demand, question=question.kind.name)
            return
        signature = b""
        if question.kind is QuestionKind.OPERATOR_ROOTS:
            place = (question.step, question.subgraph)
            digest = operators_digest(template.chain_id, asked.job, *place, list_hash(data))
            signature = sign_operators(self.account, digest)
        answer = messages.Data(job=asked.job, question=asked.question, answer=data, signature=signature)
        verdict = self.client.submit_data(answer)
        if not verdict.accepted and verdict.rule != "NotAsked":
            raise Malformed("answer", f"{verdict.rule}: {verdict.text}")

    def _load_trace(self, job: int) -> OwnTrace:
        """Execute a job as it was executed for its result: with the same fault, if any."""
        trace = self._traces.get(job)
        if trace is None:
            while len(self._traces) >= _TRACES:  # memory of the oldest goes before the new one is computed
                self._traces.popitem(last=False)
            message = self.client.get_job(job)
            if self.liar is not None and (source := self.liar.source_of(message.graph, job)) != job:
                message = self.client.get_job(source)
            served = self.served.get(message.graph)
            if served is None:
                raise Malformed("job", f"of graph 0x{message.graph.hex()}, which this provider does not serve")
            task = read_task(message, served.graph, served.constants)
            fault = None if self.liar is None else self.liar.fault_of(task, self.backend, job)
            hook = None if fault is None else fault.hook()
            execution = run(task.graph, task.constants, task.inputs, task.symbols, self.backend, on_output=hook)
            apply = None if fault is None else fault.apply
            trace = self._traces[job] = OwnTrace(execution, task.constants, task.inputs, self.backend, apply)
            log.info("job executed again", job=job)
        self._traces.move_to_end(job)
        return trace

    def _send(self, job: int, raw: bytes) -> None:
        try:
            verdict = self.client.submit_result(messages.Result(job=job, transactions=[raw]))
        except WorkUnreachable as error:
            log.warning("answer waits for the node", job=job, reason=str(error))
            return
        if not verdict.accepted:
            log.warning("answer refused", job=job, rule=verdict.rule, reason=verdict.text)
