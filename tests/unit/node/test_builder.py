"""Templates: a found ticket makes them valid blocks; bad transactions cost nobody a block; blocks keep their pace."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.params import JOB_MARKET
from consensus.validation import environment_of
from hyperdust.node.builder import Builder
from hyperdust.node.importer import Outcome
from tests.small_chain import MINER, START
from tests.unit.miner_harness import ASKER, WorkChain
from tests.unit.node.test_mempool import raw


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[WorkChain]:
    chain = WorkChain(tmp_path / "chain")
    yield chain
    chain.close()


def test_a_template_with_transactions_becomes_a_valid_block(chain: WorkChain) -> None:
    chain.bond(MINER)
    chain.mempool.add(raw(ASKER, 0))
    template = chain.template()
    assert len(template.transactions) == 3
    assert template.header.gas_used == template.executed.gas_used > 0
    imported = chain.importer.import_block(chain.mine())
    assert imported.outcome is Outcome.HEAD
    assert environment_of(template.header, chain.params).number == 1


def test_a_reverting_transaction_is_included_and_pays(chain: WorkChain) -> None:
    chain.mempool.add(raw(ASKER, 0, to="0x" + JOB_MARKET.hex(), data=b"\1\2\3\4", gas=100_000))
    block = chain.extend(1)
    assert len(block.body.transactions) == 1
    assert block.header.gas_used > 21_000


def test_what_execution_refuses_is_evicted_and_the_rest_goes_in(
    chain: WorkChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperdust.node.mempool._check_against_account", lambda *_: None)
    poor = chain.mempool.add(raw(ASKER, 0, value=10**20))
    behind = chain.mempool.add(raw(ASKER, 1))
    good = chain.mempool.add(raw(MINER, 0))
    template = chain.template()
    assert [one.hash for one in template.included] == [good.hash]
    assert chain.mempool.get(poor.hash) is None
    assert chain.mempool.get(behind.hash) is not None
    chain.extend(1)


def test_a_full_block_leaves_the_rest_waiting(chain: WorkChain) -> None:
    burner = {"data": b"\x5b\x5f\x56", "to": None, "gas": 12_000_000}  # jumpdest, push 0, jump: until all gas is gone
    waiting = [chain.mempool.add(raw(ASKER, nonce, **burner)) for nonce in range(4)]
    block = chain.extend(1)
    assert len(block.body.transactions) == 2
    assert chain.mempool.get(waiting[2].hash) is not None
    assert len(chain.extend(1).body.transactions) == 2


def test_pending_is_built_once_for_each_state_of_head_and_pool(chain: WorkChain) -> None:
    first = chain.builder.pending()
    assert chain.builder.pending() is first
    chain.mempool.add(raw())
    second = chain.builder.pending()
    assert len(second.executed.receipts) == 1
    chain.extend(1)
    assert chain.builder.pending().header.number == 2


def paced(chain: WorkChain, seconds: int) -> Builder:
    return Builder(chain.params, chain.store, chain.mempool, seconds, chain.clock)


def test_without_a_pace_the_template_opens_at_once(chain: WorkChain) -> None:
    chain.extend(1)
    chain.clock.now = START + 100.7
    assert chain.builder.opens_at(chain.store.latest.head.header) == chain.clock.now
    assert chain.builder.build(bytes(20)).header.timestamp == START + 100
    chain.clock.now = START - 50
    assert chain.builder.build(bytes(20)).header.timestamp == chain.store.latest.head.header.timestamp + 1


def test_a_paced_template_opens_as_much_earlier_as_the_search_takes(chain: WorkChain) -> None:
    chain.extend(1)
    parent = chain.store.latest.head.header
    builder = paced(chain, 4)
    assert builder.opens_at(parent) == parent.timestamp + 4
    for _ in range(40):
        builder.note_search(0.5)
    assert builder.opens_at(parent) == pytest.approx(parent.timestamp + 3.5, abs=0.01)
    for _ in range(40):
        builder.note_search(1_000.0)
    assert builder.opens_at(parent) == pytest.approx(parent.timestamp + 2, abs=0.01)
    chain.clock.now = parent.timestamp + 2.5
    assert builder.build(bytes(20)).header.timestamp == parent.timestamp + 4


def test_a_chain_that_lags_takes_the_present(chain: WorkChain) -> None:
    chain.extend(1)
    parent = chain.store.latest.head.header
    chain.clock.now = parent.timestamp + 3_600.9
    assert paced(chain, 4).build(bytes(20)).header.timestamp == parent.timestamp + 3_600


def test_the_first_block_does_not_wait_for_genesis_pace(chain: WorkChain) -> None:
    chain.clock.now = START + 7
    builder = paced(chain, 60)
    assert builder.opens_at(chain.store.latest.head.header) <= chain.clock.now
    assert builder.build(bytes(20)).header.timestamp == START + 7
