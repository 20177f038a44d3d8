"""The pool: what it refuses and in which words, in what order it offers, what a new head changes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.errors import Invalid
from chain.transactions import InsufficientFunds, NonceTooLow, TransactionInvalid
from hyperdust.node import mempool as pool
from tests.small_chain import MINER, OTHER_MINER
from tests.unit.miner_harness import ASKER, WorkChain

TO = "0x" + "77" * 20
GWEI = 10**9
ACCOUNTS = (MINER, OTHER_MINER, ASKER)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[WorkChain]:
    chain = WorkChain(tmp_path / "chain")
    yield chain
    chain.close()


def raw(account: Any = ASKER, nonce: int = 0, **fields: Any) -> bytes:
    transaction = {
        "type": 2,
        "chainId": 48_000_000,
        "nonce": nonce,
        "maxFeePerGas": GWEI,
        "maxPriorityFeePerGas": 1_000,
        "gas": 21_000,
        "to": TO,
        "value": 1,
        "data": b"",
    } | fields
    kept = {name: value for name, value in transaction.items() if value is not None}
    return bytes(account.sign_transaction(kept).raw_transaction)


def legacy(**fields: Any) -> bytes:
    kept = {"nonce": 0, "gasPrice": GWEI, "gas": 21_000, "to": TO, "value": 1, "chainId": 48_000_000} | fields
    return bytes(
        ASKER.sign_transaction({name: value for name, value in kept.items() if value is not None}).raw_transaction
    )


def test_a_transaction_waits_and_is_mined(chain: WorkChain) -> None:
    seen = []
    chain.mempool.subscribe(seen.append)
    transaction = chain.mempool.add(raw())
    assert seen == [transaction]
    assert chain.mempool.get(transaction.hash) is transaction
    assert chain.mempool.pending_nonce(transaction.sender) == 1
    chain.extend(1)
    assert chain.mempool.get(transaction.hash) is None
    assert chain.mempool.counts() == (0, 0)
    assert chain.mempool.pending_nonce(transaction.sender) == 1
    assert chain.store.latest.locate_transaction(transaction.hash) is not None


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (raw(chainId=1), "invalid chain id for signer: have 1 want 48000000"),
        (legacy(chainId=None), r"only replay-protected \(EIP-155\) transactions allowed over RPC"),
        (raw(gas=20_999), "intrinsic gas too low: gas 20999, minimum needed 21000"),
        (raw(gas=21_000, data=b"\1"), "intrinsic gas too low: gas 21000, minimum needed 21016"),
        (raw(gas=22_000 + 16 * 100, data=b"\1" * 100), "insufficient gas for floor data gas cost"),
        (raw(gas=30_000_001), "exceeds block gas limit"),
        (raw(gas=20_000_000), r"transaction gas limit too high \(cap: 16777216, tx: 20000000\)"),
        (raw(value=10**20), r"insufficient funds for gas \* price \+ value: balance 10000000000000000000, tx cost"),
        (raw(maxPriorityFeePerGas=2 * GWEI), "max priority fee per gas higher than max fee per gas"),
        (raw(to=None, data=bytes(49_153), gas=5_000_000), "max initcode size exceeded"),
        (b"\x02" + bytes(pool.MAX_TRANSACTION_BYTES), "oversized data: transaction size 262145, limit 262144"),
    ],
)
def test_refusals_use_geths_words(chain: WorkChain, bad: bytes, words: str) -> None:
    with pytest.raises(TransactionInvalid, match=words):
        chain.mempool.add(bad)
    assert chain.mempool.counts() == (0, 0)


def test_known_replaced_and_stale(chain: WorkChain) -> None:
    chain.mempool.add(raw())
    with pytest.raises(pool.AlreadyKnown, match="already known"):
        chain.mempool.add(raw())
    with pytest.raises(pool.ReplacementUnderpriced, match="replacement transaction underpriced"):
        chain.mempool.add(raw(value=2))
    with pytest.raises(pool.ReplacementUnderpriced):
        chain.mempool.add(raw(value=2, maxFeePerGas=2 * GWEI))
    better = chain.mempool.add(raw(value=2, maxFeePerGas=11 * GWEI // 10, maxPriorityFeePerGas=1_100))
    assert chain.mempool.counts() == (1, 0)
    chain.extend(1)
    assert chain.store.latest.locate_transaction(better.hash) is not None
    with pytest.raises(NonceTooLow, match="nonce too low: next nonce 1, tx nonce 0"):
        chain.mempool.add(raw(value=3))
    with pytest.raises(pool.AlreadyKnown):
        chain.mempool.add(better.raw)


def test_order_by_tip_with_nonces_kept(chain: WorkChain) -> None:
    low = chain.mempool.add(raw(MINER, 0, maxPriorityFeePerGas=1))
    high_behind = chain.mempool.add(raw(MINER, 1, maxPriorityFeePerGas=10**6))
    middle = chain.mempool.add(raw(OTHER_MINER, 0, maxPriorityFeePerGas=500))
    same_later = chain.mempool.add(raw(ASKER, 0, maxPriorityFeePerGas=500))
    assert [one.hash for one in chain.mempool.best(10**6)] == [
        middle.hash, same_later.hash, low.hash, high_behind.hash,
    ]  # fmt: skip
    assert chain.mempool.best(2 * GWEI) == []


def test_a_gap_waits_and_closes(chain: WorkChain) -> None:
    sender = bytes.fromhex(ASKER.address[2:])
    chain.mempool.add(raw(nonce=2))
    assert chain.mempool.counts() == (0, 1)
    assert chain.mempool.pending_nonce(sender) == 0
    pending, queued = chain.mempool.content()
    assert (pending, list(queued[sender])) == ({}, [2])
    chain.mempool.add(raw(nonce=0))
    chain.mempool.add(raw(nonce=1))
    assert chain.mempool.counts() == (3, 0)
    assert [one.nonce for one in chain.mempool.best(1)] == [0, 1, 2]


def test_a_senders_transactions_together_must_be_paid_for(chain: WorkChain) -> None:
    chain.mempool.add(raw(nonce=0, value=6 * 10**18))
    with pytest.raises(InsufficientFunds):
        chain.mempool.add(raw(nonce=1, value=6 * 10**18))


def test_queue_and_pool_are_bounded(chain: WorkChain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_QUEUED_PER_SENDER", 4)
    for nonce in range(1, 6):
        chain.mempool.add(raw(nonce=nonce + 1))
        if nonce == 4:
            break
    with pytest.raises(pool.QueueFull, match="txpool is full"):
        chain.mempool.add(raw(nonce=9))
    monkeypatch.setattr(pool, "MAX_TRANSACTIONS", 6)
    chain.mempool.add(raw(MINER, 0, maxPriorityFeePerGas=5))
    chain.mempool.add(raw(MINER, 1, maxPriorityFeePerGas=900))
    with pytest.raises(pool.Underpriced, match="transaction underpriced"):
        chain.mempool.add(raw(OTHER_MINER, 0, maxPriorityFeePerGas=10))
    chain.mempool.add(raw(OTHER_MINER, 0, maxPriorityFeePerGas=10_000))
    assert sum(chain.mempool.counts()) == 6
    assert [one.nonce for one in chain.mempool.best(1) if one.sender == bytes.fromhex(MINER.address[2:])] == [0]


def test_what_a_reorganisation_abandons_comes_back(chain: WorkChain, tmp_path: Path) -> None:
    other = WorkChain(tmp_path / "other")
    lost = chain.mempool.add(raw())
    both = chain.mempool.add(raw(MINER))
    other.mempool.add(both.raw)
    chain.extend(1)
    assert chain.mempool.counts() == (0, 0)
    for block in [other.extend(1, OTHER_MINER), other.extend(1, OTHER_MINER)]:
        chain.importer.import_block(block)
    assert chain.store.latest.head.hash == other.store.latest.head.hash
    assert chain.mempool.get(lost.hash) is not None
    assert chain.mempool.get(both.hash) is None
    chain.extend(1)
    assert chain.store.latest.locate_transaction(lost.hash) is not None
    other.close()


def test_what_the_sender_can_no_longer_pay_leaves(chain: WorkChain, tmp_path: Path) -> None:
    other = WorkChain(tmp_path / "other")
    other.mempool.add(raw(nonce=0, value=9 * 10**18))
    chain.mempool.add(raw(nonce=1, value=5 * 10**18))
    chain.importer.import_block(other.extend(1))
    assert chain.mempool.counts() == (0, 0)
    other.close()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2), st.integers(0, 6), st.integers(1, 5), st.integers(0, 3)),
        st.tuples(st.just("mine")),
    ),
    max_size=25,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_whatever_happens_the_pool_is_consistent(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    chain = WorkChain(tmp_path_factory.mktemp("chain"))
    for step in steps:
        if step[0] == "mine":
            chain.extend(1)
        else:
            _, who, nonce, price, value = step
            fields = {"maxFeePerGas": price * GWEI, "maxPriorityFeePerGas": price * 1_000, "value": value * 10**18}
            with contextlib.suppress(Invalid):
                chain.mempool.add(raw(ACCOUNTS[who], nonce, **fields))
        pending, queued = chain.mempool.content()
        entries = [one for part in (pending, queued) for senders in part.values() for one in senders.values()]
        assert sum(chain.mempool.counts()) == len(entries) == len(chain.mempool._by_hash) == len(chain.mempool._arrival)
        assert chain.mempool._bytes == sum(len(one.raw) for one in entries)
        following: dict[bytes, int] = {}
        for one in chain.mempool.best(10**6):
            expected = following.get(one.sender)
            if expected is None:
                view = chain.store.latest
                expected = pool.load_account(view.state_at(view.head.hash), one.sender).nonce
            assert one.nonce == expected
            following[one.sender] = expected + 1
    chain.close()
