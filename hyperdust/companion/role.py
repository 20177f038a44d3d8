"""The companion's loop, and the same duties for one job that anybody challenges."""

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from eth_account.signers.local import LocalAccount

from chain.errors import HyperdustError
from chain.hashing import keccak256
from hyperdust.backend_choice import choose_backend
from hyperdust.bonding import Service, keep_bonding
from hyperdust.companion.config import ChallengeConfig, CompanionConfig
from hyperdust.companion.double_votes import Reporter, Rewards, RpcRewards
from hyperdust.companion.duty import Court, Duty, Note
from hyperdust.contracts_abi import ADDRESSES, decode_output, encode_call
from hyperdust.graph import LoadedGraph, load_graph
from hyperdust.journal import Journal
from hyperdust.lies import CompanionLie, check_devnet
from hyperdust.outbox import Outbox
from hyperdust.proto import work_pb2 as messages
from hyperdust.rpc_client import RpcClient
from hyperdust.work_client import WorkClient
from pouw.execution import Backend

log = structlog.get_logger()

_IDLE_S: Final = 1.0
_ASKED_S: Final = 0.1  # between two looks for an answer
_REVEALED, _SLASHED = 3, 6


class ChallengeFailed(HyperdustError):
    """A job that cannot be challenged, or no verdict in time; says why."""


def run_companion(config: CompanionConfig, stop: threading.Event | None = None) -> None:
    """Check jobs until SIGINT, SIGTERM or `stop`.

    Raises:
        NodeFault: graph, weights or backend are not on this machine.
    """
    ended = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: ended.set())
    graphs = {loaded.graph_id: loaded for loaded in map(load_graph, config.graphs)}
    backend = choose_backend(config.backend)
    client = WorkClient(config.work_grpc, config.address, tuple(graphs), ended, companion=True)
    court = RpcCourt(config.rpc, config.account)
    rewards = RpcRewards(config.rpc)
    duties = Duties(config.account, court, config.data_dir, graphs, backend, client, config.lie, rewards)
    log.info("companion", address=config.account.address, graphs=list(config.graphs), backend=backend.name)
    if config.bond:
        arguments = (config.rpc, config.account, tuple(graphs), Service.COMPANION, ended)
        threading.Thread(target=keep_bonding, args=arguments, name="bonding", daemon=True).start()
    client.start()
    try:
        _follow(client, duties, ended.is_set)
    finally:
        ended.set()
        client.close()
        log.info("companion stopped")


def run_challenge(config: ChallengeConfig) -> dict[str, Any]:
    """Check one revealed job and, where it is false, prove it: `{"job", "verdict", "kind", "operator", …}`.

    Raises:
        ChallengeFailed: it is not revealed, or no verdict came in time.
        NodeFault: graph, weights or backend are not on this machine.
    """
    stop = threading.Event()
    loaded = load_graph(config.graph)
    client = WorkClient(config.work_grpc, config.address, (), stop, companion=True, watch=(config.job,))
    graphs = {loaded.graph_id: loaded}
    duties = Duties(
        config.account,
        RpcCourt(config.rpc, config.account),
        config.data_dir,
        graphs,
        choose_backend(config.backend),
        client,
    )
    status = client.get_job(config.job).status
    if status != _REVEALED:
        raise ChallengeFailed(
            f"job {config.job} is {messages.JobStatus.Name(status)}; only a revealed job can be proven"
        )
    deadline = time.monotonic() + config.timeout_s
    notes: list[Note] = []

    def is_over() -> bool:
        note = duties.note(config.job)
        if note is not None:
            notes[:] = [note]
            if note.is_right or note.failed:
                return True
        return client.get_job(config.job).status != _REVEALED or time.monotonic() > deadline

    client.start()
    try:
        _follow(client, duties, is_over)
        status = client.get_job(config.job).status
    finally:
        stop.set()
        client.close()
    note = notes[0] if notes else Note(config.job)
    if note.is_right:
        return {"job": config.job, "verdict": "right"}
    if status != _SLASHED:
        raise ChallengeFailed(
            f"job {config.job}: no verdict; it is {messages.JobStatus.Name(status)}. The log above says why"
        )
    return {
        "job": config.job,
        "verdict": "guilty",
        "kind": note.kind or "withheld",
        "operator": note.operator,
        "element": note.element,
        "transaction": duties.transaction(f"prove:{config.job}"),
    }


class Duties:
    """One key's duties on the chain that the node follows: notes of different chains never mix."""

    def __init__(
        self,
        account: LocalAccount,
        court: Court,
        data_dir: Path,
        graphs: Mapping[bytes, LoadedGraph],
        backend: Backend,
        client: WorkClient,
        lie: CompanionLie | None = None,
        rewards: Rewards | None = None,
    ) -> None:
        self._rewards = rewards
        self._lie = lie
        self._account = account
        self._court = court
        self._data_dir = data_dir
        self._graphs = graphs
        self._backend = backend
        self._client = client
        self._genesis_hash = b""
        self._duty: Duty | None = None
        self._reporter: Reporter | None = None
        self._sent: dict[str, str] = {}

    def act(self, template: messages.Template) -> bool:
        """Take what steps there are; True while a relayed question waits for its answer."""
        duty = self._duty_on(template)
        waits = duty.act(template)
        for check in template.checks:
            letter = duty.outbox.get(f"prove:{check.job}")
            if letter is not None:
                self._sent[letter.name] = "0x" + keccak256(bytes.fromhex(letter.raw)).hex()
        if self._reporter is not None:
            self._reporter.act(template)
        return waits

    def note(self, job: int) -> Note | None:
        """What is known of a job."""
        return self._duty.journal.get(job) if self._duty is not None else None

    def transaction(self, step: str) -> str | None:
        """Hash of the transaction that took a step."""
        return self._sent.get(step)

    def _duty_on(self, template: messages.Template) -> Duty:
        if self._duty is None or self._genesis_hash != template.genesis_hash:
            if self._lie is not None:
                check_devnet(template.chain_id, "--fault-kind")
            self._genesis_hash = bytes(template.genesis_hash)
            name = f"{self._genesis_hash.hex()[:16]}-{self._account.address[2:].lower()}"
            outbox = Outbox(self._account, self._data_dir / f"{name}-outbox.json")
            if self._rewards is not None:
                address, path = bytes.fromhex(self._account.address[2:]), self._data_dir / f"{name}-reports.json"
                self._reporter = Reporter(address, outbox, path, self._rewards)
            self._duty = Duty(
                account=self._account,
                graphs=self._graphs,
                backend=self._backend,
                client=self._client,
                journal=Journal(self._data_dir / f"{name}.json", Note),
                outbox=outbox,
                court=self._court,
                lie=self._lie,
            )
        return self._duty


class RpcCourt:
    """The court, over JSON-RPC."""

    def __init__(self, rpc: str, account: LocalAccount) -> None:
        self._rpc = rpc
        self._account = account

    def load_deposit(self) -> int:
        """Wei that a demand takes."""
        return int(self._view("demand_deposit")[0])

    def load_announced(self, job: int) -> bytes:
        """Hash of this key's last announcement about a job; 32 zeros for none."""
        (commitment,) = self._view("commitment_of", job, self._account.address)
        return bytes(commitment[0])

    def _view(self, function: str, *args: object) -> tuple[Any, ...]:
        with RpcClient(self._rpc) as client:
            raw = client.view(ADDRESSES["Court"], encode_call("Court", function, *args))
        return decode_output("Court", function, raw)


def _follow(client: WorkClient, duties: Duties, is_over: Callable[[], bool]) -> None:
    acted: messages.Template | None = None
    while not is_over():
        template = client.latest
        if template is None or template is acted:
            client.wait(acted, _IDLE_S)
        elif duties.act(template):
            client.wait(template, _ASKED_S)
        else:
            acted = template


__all__: Sequence[str] = ["ChallengeFailed", "Duties", "run_challenge", "run_companion"]
