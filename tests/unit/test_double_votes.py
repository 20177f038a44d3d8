"""Votes of a validator against itself are reported once, for what is locked, whatever is interrupted."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from chain.params import COURT
from hyperdust.companion.double_votes import BLOCKS_A_REPORT, Pair, Reporter, RpcRewards
from hyperdust.contracts_abi import encode_call
from hyperdust.outbox import Outbox
from hyperdust.proto import work_pb2 as messages
from hyperdust.rpc_client import RpcError, Unreachable

ACCOUNT = Account.from_key(b"\x31" * 32)
OWN = bytes.fromhex(ACCOUNT.address[2:])
VOTER, OTHER = b"\x0a" * 20, b"\x0b" * 20


def vote(target: int) -> Any:
    return (b"\1" * 32, 8, bytes([target]) * 32, 16), bytes([target]) * 65


def pair_of(voter: bytes) -> Pair:
    return Pair(voter, vote(2), vote(3))


@dataclass
class Chain:
    """A node that mines what it is sent, when told to."""

    locked: dict[bytes, list[int]] = field(default_factory=lambda: {VOTER: [10, 11, 12]})
    pairs: list[Pair] = field(default_factory=lambda: [pair_of(VOTER)])
    sent: list[bytes] = field(default_factory=list)
    number: int = 100
    nonce: int = 0
    looks: int = 0
    away: bool = False

    def load_pairs(self) -> list[Pair]:
        self.looks += 1
        if self.away:
            raise Unreachable("http://node", "refused")
        return self.pairs

    def load_locked(self, coinbase: bytes) -> list[int]:
        return self.locked.get(coinbase, [])

    def send(self, raw: bytes) -> None:
        if self.away:
            raise RpcError(-32000, "not now")
        self.sent.append(raw)

    def template(self) -> messages.Template:
        return messages.Template(
            chain_id=48_000_000, number=self.number, nonce=self.nonce, pending_nonce=self.nonce, base_fee=b"\1"
        )

    def mine(self) -> None:
        self.nonce += len(self.calls)
        self.sent.clear()
        self.number += 4

    @property
    def calls(self) -> list[bytes]:
        """Data of transactions to the Court, each once."""
        found = {raw: TypedTransaction.from_bytes(HexBytes(raw)).as_dict() for raw in self.sent}
        assert all(bytes(call["to"]) == COURT for call in found.values())
        return [bytes(call["data"]) for call in found.values()]


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def reporter(chain, tmp_path) -> Reporter:
    return born(chain, tmp_path)


def born(chain, folder) -> Reporter:
    return Reporter(OWN, Outbox(ACCOUNT, folder / "outbox.json"), folder / "reports.json", chain)


def report_of(numbers: list[int]) -> bytes:
    return encode_call("Court", "prove_equivocation", *vote(2), *vote(3), numbers)


def test_a_pair_is_reported_once_for_what_is_locked_then(chain, reporter, tmp_path):
    reporter.act(chain.template())
    assert chain.calls == [report_of([10, 11, 12])]
    chain.mine()
    chain.locked[VOTER] = []
    reporter.act(chain.template())
    chain.mine()
    chain.locked[VOTER] = [110, 111]  # mined later
    reporter.act(chain.template())
    chain.mine()
    born(chain, tmp_path).act(chain.template())
    assert chain.sent == []


def test_no_pair_no_report_and_a_look_every_few_blocks(chain, reporter):
    chain.pairs = []
    for chain.number in range(100, 108):
        reporter.act(chain.template())
    assert (chain.looks, chain.sent) == (2, [])


def test_nobody_reports_itself(chain, reporter):
    chain.pairs, chain.locked = [pair_of(OWN)], {OWN: [10]}
    reporter.act(chain.template())
    assert chain.sent == []


def test_a_voter_with_nothing_locked_is_reported_once_it_has_something(chain, reporter):
    chain.locked = {}
    reporter.act(chain.template())
    assert chain.sent == []
    chain.number += 4
    chain.locked = {VOTER: [103]}
    reporter.act(chain.template())
    assert chain.calls == [report_of([103])]


def test_many_blocks_are_many_transactions_a_few_at_once(chain, reporter):
    numbers = list(range(1, 6 * BLOCKS_A_REPORT + 2))
    chain.locked[VOTER] = numbers
    parts = [numbers[start : start + BLOCKS_A_REPORT] for start in range(0, len(numbers), BLOCKS_A_REPORT)]
    reporter.act(chain.template())
    assert chain.calls == [report_of(part) for part in parts[:4]]
    chain.mine()
    chain.locked[VOTER] = [number for part in parts[4:] for number in part]
    reporter.act(chain.template())
    assert chain.calls == [report_of(part) for part in parts[4:]]


def test_an_unfinished_report_goes_on_after_a_restart_with_the_same_transaction(chain, reporter, tmp_path):
    reporter.act(chain.template())
    chain.number += 1
    chain.locked[VOTER] = [11, 12, 101]  # one came free meanwhile, one is new
    born(chain, tmp_path).act(chain.template())
    assert len(chain.sent) == 2
    assert len(set(chain.sent)) == 1


def test_what_somebody_else_reported_first_is_over(chain, reporter):
    reporter.act(chain.template())
    chain.sent.clear()
    chain.number += 1
    chain.locked[VOTER] = []
    reporter.act(chain.template())
    chain.number += 4
    reporter.act(chain.template())
    assert chain.sent == []


def test_a_node_that_is_away_is_asked_again_and_one_voter_does_not_hold_up_the_next(chain, reporter):
    chain.away = True
    reporter.act(chain.template())
    chain.away = False
    chain.pairs = [pair_of(OTHER), pair_of(VOTER)]
    chain.load_locked = lambda coinbase: raises() if coinbase == OTHER else [10]  # type: ignore[method-assign]
    chain.number += 4
    reporter.act(chain.template())
    assert chain.calls == [report_of([10])]


def raises() -> list[int]:
    raise RpcError(-32000, "not now")


def test_a_damaged_file_is_begun_anew(chain, tmp_path):
    (tmp_path / "reports.json").write_text('{"a": 3}')
    born(chain, tmp_path).act(chain.template())
    assert len(chain.sent) == 1


def test_what_the_node_shows_is_read(monkeypatch):
    shown = {
        "voter": "0x" + "0a" * 20,
        "first": {
            "source": {"block": 8, "hash": "0x" + "01" * 32},
            "target": {"block": 16, "hash": "0x" + "02" * 32},
            "signature": "0x" + "02" * 65,
        },
        "second": {
            "source": {"block": 8, "hash": "0x" + "01" * 32},
            "target": {"block": 16, "hash": "0x" + "03" * 32},
            "signature": "0x" + "03" * 65,
        },
    }
    monkeypatch.setattr(
        "hyperdust.companion.double_votes.RpcClient.call", lambda *_: {"equivocations": [shown], "votes": []}
    )
    assert RpcRewards("http://node").load_pairs() == [pair_of(VOTER)]
