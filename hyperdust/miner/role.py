"""The miner's loop: jobs first, then draws with rows of its own; tickets leave from a thread of their own."""

import queue
import signal
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from chain.errors import NodeFault
from hyperdust.backend_choice import choose_backend
from hyperdust.bonding import Service, keep_bonding
from hyperdust.graph import LoadedGraph, load_graph
from hyperdust.journal import Journal
from hyperdust.lies import FaultRefused, check_devnet
from hyperdust.miner.answers import Answers
from hyperdust.miner.config import MinerConfig
from hyperdust.miner.draw import Drawer, Effort, Found
from hyperdust.miner.due import Runner
from hyperdust.miner.jobs import Entry, Provider, Served
from hyperdust.miner.votes import keep_voting
from hyperdust.outbox import Outbox
from hyperdust.proto import work_pb2 as messages
from hyperdust.work_client import Work, WorkClient, WorkUnreachable
from pouw.execution import Backend

log = structlog.get_logger()

_IDLE_S: Final = 1.0
_REPORT_S: Final = 30.0
_REFUSED_PAUSE_S: Final = (1.0, 10.0)


class NothingToMine(NodeFault):
    """None of the graphs served has a product that tickets may be drawn from."""


def run_miner(config: MinerConfig, stop: threading.Event | None = None) -> None:
    """Mine and provide until SIGINT, SIGTERM or `stop`.

    Raises:
        NodeFault: graph, weights or backend are not on this machine; a fault is asked for on a real chain.
    """
    ended = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: ended.set())
    loaded = [load_graph(name) for name in config.graphs]
    operators = min(each.graph.operator_count() for each in loaded)
    operator = config.liar.operator if config.liar is not None else None
    if operator is not None and not 0 <= operator < operators:
        raise FaultRefused(f"--fault {operator}: graph {config.graphs[0]} has operators 0 to {operators - 1}")
    if not any(each.graph.mining_operands() for each in loaded):
        raise NothingToMine(f"no product of {', '.join(config.graphs)} can be mined; add --graph minilm")
    miner = Miner(config, loaded, choose_backend(config.backend), ended)
    miner.run()


def bench(graph: str = "minilm", seconds: float = 3.0) -> Effort:
    """Draw for some seconds on a made-up template; returns what was multiplied."""
    drawer = _drawer(load_graph(graph), bytes(31) + b"\1", Effort())
    work = Work(1, bytes(32), bytes(32), 1, 1 << 40)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        drawer.draw(work)
    return drawer.effort


def _drawer(loaded: LoadedGraph, private_key: bytes, effort: Effort) -> Drawer:
    operands = {operand.operator: operand for operand in loaded.graph.mining_operands()}
    return Drawer(loaded.graph_id, operands, loaded.constants, private_key, effort=effort)


class Miner:
    """The role's parts, wired. `run` is called once."""

    def __init__(
        self, config: MinerConfig, loaded: Sequence[LoadedGraph], backend: Backend, stop: threading.Event
    ) -> None:
        self._config = config
        self._effort = Effort()
        key = bytes(config.account.key)
        self._served = {
            each.graph_id: Served(each.graph, each.constants, _drawer(each, key, self._effort)) for each in loaded
        }
        self._drawer = next(served.drawer for served in self._served.values() if served.drawer.operands)
        self._backend = backend
        self._stop = stop
        self._client = WorkClient(config.work_grpc, config.coinbase, tuple(self._served), stop)
        self._tickets: queue.Queue[Found | None] = queue.Queue(maxsize=16)
        self._provider: Provider | None = None
        self._answers: Answers | None = None
        self._runner = Runner(config.rpc, config.account.address) if config.run_due else None
        self._genesis_hash = b""
        self._reported_at = time.monotonic()

    def run(self) -> None:
        """Loop until stopped.

        Raises:
            FaultRefused
        """
        log.info(
            "miner",
            coinbase=self._config.account.address,
            graphs=list(self._config.graphs),
            backend=self._backend.name,
            products=len(self._drawer.operands),
        )
        threads = [threading.Thread(target=self._hand_in_tickets, name="tickets", daemon=True)]
        if self._config.bond:
            arguments = (
                self._config.rpc,
                self._config.account,
                tuple(self._served),
                Service.PROVIDER,
                self._stop,
            )
            bonding = partial(keep_bonding, *arguments, again=self._config.rebond)
            threads.append(threading.Thread(target=bonding, name="bonding", daemon=True))
        voting = (self._client, self._config.account, self._config.data_dir, self._stop)
        threads.append(threading.Thread(target=self._keep_answering, name="answers", daemon=True))
        threads.append(threading.Thread(target=keep_voting, args=voting, name="votes", daemon=True))
        if self._runner is not None:
            running = (self._client, self._stop)
            threads.append(threading.Thread(target=self._runner.keep_looking, args=running, name="due", daemon=True))
        self._client.start()
        for thread in threads:
            thread.start()
        try:
            self._loop()
        finally:
            self._stop.set()
            self._client.close()
            self._tickets.put(None)
            threads[0].join(timeout=5)
            log.info("miner stopped", macs_per_s=self._effort.macs_per_second())

    def _loop(self) -> None:
        acted: messages.Template | None = None
        while not self._stop.is_set():
            template = self._client.latest
            if template is not None and template is not acted:
                provider = self._provider_on(template)
                acted = None if provider.act(template) else template
                self._answers_on(template).send_demanded(template, provider.outbox)
                if self._runner is not None:
                    self._runner.run_due(template, provider.outbox)
                continue
            work = self._client.work()
            if work is None:
                self._client.wait(template, _IDLE_S)
                continue
            found = self._drawer.draw(work)
            if found is not None:
                self._hand_in(found)
            self._report()

    def _provider_on(self, template: messages.Template) -> Provider:
        """The provider on the template's chain: journals of different chains never mix."""
        if self._provider is None or self._genesis_hash != template.genesis_hash:
            if self._config.liar is not None or self._config.rebond:
                check_devnet(template.chain_id, "--fault")
            self._genesis_hash = bytes(template.genesis_hash)
            name = f"{self._genesis_hash.hex()[:16]}-{self._config.coinbase.hex()}"
            self._provider = Provider(
                self._config.account,
                self._served,
                self._backend,
                self._client,
                Journal(self._config.data_dir / f"{name}.json", Entry),
                Outbox(self._config.account, self._config.data_dir / f"{name}-outbox.json"),
                self._hand_in,
                self._config.liar,
            )
            self._answers = Answers(self._config.account, self._served, self._backend, self._client, self._config.liar)
        return self._provider

    def _answers_on(self, template: messages.Template) -> Answers:
        self._provider_on(template)
        if self._answers is None:
            raise AssertionError("a provider without answers")
        return self._answers

    def _keep_answering(self) -> None:
        """Answer what templates ask, until stopped."""
        seen: messages.Template | None = None
        while not self._stop.is_set():
            self._client.wait(seen, _IDLE_S)
            seen, answers = self._client.latest, self._answers
            if seen is not None and answers is not None and seen.genesis_hash == self._genesis_hash:
                answers.answer(seen)

    def _hand_in(self, found: Found) -> None:
        """Queue a ticket and stop drawing on its template: one block is all that it can give."""
        self._client.spend(found.work.template_id)
        try:
            self._tickets.put_nowait(found)
        except queue.Full:
            log.warning("ticket dropped: the node does not answer", number=found.work.number)

    def _hand_in_tickets(self) -> None:
        pause_s = _REFUSED_PAUSE_S[0]
        while (found := self._tickets.get()) is not None:
            try:
                verdict = self._client.submit_ticket(found.work.template_id, found.nonce, found.certificate)
            except WorkUnreachable as error:
                log.warning("ticket not handed in", number=found.work.number, reason=str(error))
                self._client.unspend(found.work.template_id)
                continue
            if verdict.accepted:
                pause_s = _REFUSED_PAUSE_S[0]
                log.info("ticket", number=found.work.number, job=found.label, hash="0x" + verdict.block_hash.hex())
            elif verdict.rule in {"Stale", "UnknownTemplate"}:
                log.info("ticket too late", number=found.work.number, reason=verdict.text)
            else:
                log.warning("ticket refused", number=found.work.number, rule=verdict.rule, reason=verdict.text)
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, _REFUSED_PAUSE_S[1])
                self._client.unspend(found.work.template_id)

    def _report(self) -> None:
        if time.monotonic() - self._reported_at >= _REPORT_S:
            self._reported_at = time.monotonic()
            log.info("mining", macs_per_s=self._effort.macs_per_second(), products=self._effort.products)
