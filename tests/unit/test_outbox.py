"""Transactions of a role: signed once, sent until they are mined, replaced when they pay too little, then given up."""

from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from hyperdust.outbox import MAX_ATTEMPTS, Call, Outbox
from hyperdust.proto import work_pb2 as messages

ACCOUNT = Account.from_key(b"\x31" * 32)
CALL = Call(bytes(19) + b"\7", b"data", 100_000)


def template(nonce: int = 0, pending: int | None = None, base_fee: int = 1_000) -> messages.Template:
    return messages.Template(
        chain_id=48_000_000,
        nonce=nonce,
        pending_nonce=nonce if pending is None else pending,
        base_fee=base_fee.to_bytes(8, "big"),
    )


def fields(raw: bytes) -> dict[str, Any]:
    return TypedTransaction.from_bytes(HexBytes(raw)).as_dict()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.json"


@pytest.fixture
def sent() -> list[bytes]:
    return []


def test_what_the_pool_has_is_not_sent_again_and_what_it_lost_is(path: Path, sent: list[bytes]) -> None:
    outbox = Outbox(ACCOUNT, path)
    assert outbox.deliver("a:1", CALL, template(), sent.append)
    assert outbox.deliver("a:1", CALL, template(pending=1), sent.append)
    assert len(sent) == 1
    assert Outbox(ACCOUNT, path).deliver("a:1", CALL, template(), sent.append)  # another life
    assert sent == [sent[0]] * 2


def test_two_steps_on_one_template_have_two_nonces(path: Path, sent: list[bytes]) -> None:
    outbox = Outbox(ACCOUNT, path)
    outbox.deliver("a:1", CALL, template(4), sent.append)
    outbox.deliver("b:1", CALL, template(4), sent.append)
    assert [fields(raw)["nonce"] for raw in sent] == [4, 5]


def test_one_that_pays_too_little_is_replaced_by_a_tenth_more_at_least(path: Path, sent: list[bytes]) -> None:
    outbox = Outbox(ACCOUNT, path)
    outbox.deliver("a:1", CALL, template(), sent.append)
    outbox.deliver("a:1", CALL, template(pending=1, base_fee=10**6), sent.append)
    first, second = map(fields, sent)
    assert first["nonce"] == second["nonce"] == 0
    assert 10 * second["maxFeePerGas"] >= 11 * first["maxFeePerGas"]
    assert second["maxFeePerGas"] >= 10**6
    assert 10 * second["maxPriorityFeePerGas"] >= 11 * first["maxPriorityFeePerGas"]


def test_one_behind_a_gap_that_nobody_fills_moves_into_it(path: Path, sent: list[bytes]) -> None:
    outbox = Outbox(ACCOUNT, path)
    outbox.deliver("a:1", CALL, template(), sent.append)
    outbox.deliver("b:1", CALL, template(), sent.append)
    outbox.keep_only("a", ())
    outbox.deliver("b:1", CALL, template(), sent.append)
    assert [fields(raw)["nonce"] for raw in sent] == [0, 1, 0]


def test_one_that_reverts_is_given_up_and_forgotten_with_its_step(path: Path, sent: list[bytes]) -> None:
    outbox = Outbox(ACCOUNT, path)
    results = [outbox.deliver("a:1", CALL, template(nonce), sent.append) for nonce in range(MAX_ATTEMPTS + 2)]
    assert results == [True] * MAX_ATTEMPTS + [False] * 2
    assert len(sent) == MAX_ATTEMPTS
    outbox.keep_only("b", ())
    assert outbox.get("a:1") is not None
    outbox.keep_only("a", ())
    assert Outbox(ACCOUNT, path).get("a:1") is None


@pytest.mark.parametrize("content", ["", "[", '[{"name": "a:1", "unknown": 2}]', "[3]", "{}"])
def test_a_torn_file_is_no_obstacle(path: Path, sent: list[bytes], content: str) -> None:
    path.write_text(content)
    assert Outbox(ACCOUNT, path).deliver("a:1", CALL, template(), sent.append)
    assert len(sent) == 1
