"""Which scheduled calls a miner runs: those that pay, which nobody else runs, each once, through its one outbox."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chain.params import SCHEDULER
from hyperdust import scheduler
from hyperdust.miner.due import Runner
from hyperdust.outbox import Outbox
from hyperdust.proto import work_pb2 as messages
from hyperdust.rpc_client import RpcError, Unreachable
from hyperdust.scheduler import compute_pay, list_paying
from tests.small_chain import MINER

BASE_FEE, TIP = 10**6, 10**5
GAS_LIMIT = 200_000
COST = (GAS_LIMIT + 100_000) * BASE_FEE
HEAD = 100


@dataclass
class Node:
    """What `list_paying` asks: one due call."""

    balance: int
    due_block: int = HEAD
    times: int = 1
    used: int = GAS_LIMIT
    taken: bool = False
    reverts: bool = False
    asked: list[str] = field(default_factory=list)

    def quantity(self, method: str, *_: object) -> int:
        if method == "eth_blockNumber":
            return HEAD
        assert method == "eth_estimateGas"
        if self.reverts:
            raise RpcError(3, "reverted")
        return self.used

    def call(self, method: str, _call: object, block: str) -> str:
        assert (method, block) == ("eth_call", "pending")
        if self.taken:
            raise RpcError(3, "Scheduler: no such call")
        return "0x"


@pytest.fixture(autouse=True)
def views(monkeypatch: pytest.MonkeyPatch) -> None:
    def view(node: Node, function: str, *_: object) -> tuple[Any, ...]:
        target = "0x" + 40 * "1"
        call = ("0x0", "0x0", target, GAS_LIMIT, node.balance, node.times, 7, 0, 0, 0)
        return {"open_count": (1,), "due": ([5],), "call_of": (call, b"data"), "due_block": (node.due_block,)}[function]

    monkeypatch.setattr(scheduler, "_view", view)


def find(node: Node) -> list[Any]:
    return list_paying(node, "0x" + 40 * "2", BASE_FEE, TIP)  # type: ignore[arg-type]


def test_a_call_is_run_once_its_tip_is_more_than_the_gas_price_takes() -> None:
    assert find(Node(2 * COST, due_block=HEAD)) == []  # a sixteenth of what was left, less than a tenth for the tip
    (due,) = find(Node(2 * COST, due_block=HEAD - 3))
    assert (due.id, due.next_block) == (5, 7)
    assert due.profit == compute_pay(2 * COST, COST, 4) - COST * 11 // 10 > 0
    assert due.gas > GAS_LIMIT * 64 // 63 + 160_000


def test_what_was_prepaid_for_is_shared_among_its_times() -> None:
    assert find(Node(2 * COST, due_block=HEAD - 3, times=2)) == []
    assert find(Node(4 * COST, due_block=HEAD - 3, times=2)) != []


def test_a_call_that_does_not_cover_its_gas_waits_for_ever() -> None:
    assert find(Node(COST, due_block=0)) == []


def test_a_light_target_pays_earlier_and_one_that_reverts_counts_whole() -> None:
    assert find(Node(2 * COST, used=50_000)) != []
    assert find(Node(2 * COST, used=50_000, reverts=True)) == []


def test_what_somebody_else_runs_is_left_alone() -> None:
    assert find(Node(2 * COST, due_block=HEAD - 10, taken=True)) == []


def template(number: int = HEAD + 1, nonce: int = 3) -> messages.Template:
    return messages.Template(
        number=number, nonce=nonce, pending_nonce=nonce, base_fee=BASE_FEE.to_bytes(4, "big"), chain_id=48_000_000
    )


@pytest.fixture
def runner() -> Runner:
    return Runner("http://none.invalid", MINER.address)


class Wire:
    """Takes what is sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def call(self, method: str, raw: str) -> str:
        assert method == "eth_sendRawTransaction"
        self.sent.append(raw)
        if len(self.sent) == 1:
            raise Unreachable("http://none.invalid", "gone")
        return "0x"


def test_what_was_found_is_signed_once_and_for_its_block_alone(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperdust.miner.due.list_paying", lambda *_: find(Node(2 * COST, due_block=HEAD - 3)))
    outbox, wire = Outbox(MINER, tmp_path / "outbox.json"), Wire()
    runner.look(wire, template())  # type: ignore[arg-type]
    runner.run_due(template(HEAD + 2), outbox)
    assert outbox.get("run:5:7") is None  # what was due then may be run by now
    runner.run_due(template(), outbox)
    runner.run_due(template(), outbox)
    letter = outbox.get("run:5:7")
    assert letter is not None
    assert letter.nonce == 3
    assert SCHEDULER.hex() in letter.raw
    runner._send(wire)  # type: ignore[arg-type]
    assert set(wire.sent) == {"0x" + letter.raw}
    monkeypatch.setattr("hyperdust.miner.due.list_paying", lambda *_: [])
    runner.look(wire, template(HEAD + 2, nonce=4))  # type: ignore[arg-type]
    runner.run_due(template(HEAD + 2, nonce=4), outbox)
    assert outbox.get("run:5:7") is None


def test_on_an_idle_chain_the_tip_does_not_eat_the_pay(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = template()
    idle.base_fee = bytes((7,))
    node = Node(2 * 7 * (GAS_LIMIT + 100_000))
    monkeypatch.setattr(
        "hyperdust.miner.due.list_paying", lambda _, account, *prices: list_paying(node, account, *prices)
    )  # type: ignore[arg-type]
    runner.look(Wire(), idle)  # type: ignore[arg-type]
    outbox = Outbox(MINER, tmp_path / "outbox.json")
    runner.run_due(idle, outbox)
    letter = outbox.get("run:5:7")
    assert letter is not None
    assert letter.tip == 0
