"""What a node says is missing in a frozen peg: as soon as Bitcoin has the gift, so that nothing is paid twice."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.deposits import Outpoint
from bridge.peg_repair import undo
from bridge.peg_state import Freeze, PegState, Reason
from bridge.rounds import Gift
from bridge.rounds import Round as Planned
from bridge.scripts import vault_output
from bridge.shortage import compute_missing
from bridge.taproot import Path as Spending
from bridge.transactions import Output, Transaction
from bridge.vault import build_draft
from hyperdust.node.owing import find_missing
from tests.peg_chain import PegChain


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[PegChain]:
    chain = PegChain(tmp_path / "chain")
    yield chain
    chain.close()


def missing(chain: PegChain, state: PegState | None = None) -> int | None:
    bitcoin = chain.bitcoin
    return find_missing(state or chain.peg, chain.pool.items, bitcoin, bitcoin.height, chain.rules)


def freeze(chain: PegChain) -> Transaction:
    """The second of two vault transactions, and the deposit that it credited, are gone; that sweep."""
    chain.fund()
    chain.bury()
    sweep = chain.draft(chain.deposit(2_000_000))
    chain.bitcoin.mine([sweep])
    chain.show(sweep)
    chain.bury()
    chain.extend()
    assert chain.bitcoin.drop(8) == [sweep]
    chain.bury(9)
    chain.extend()
    assert chain.peg.frozen.reason is Reason.REORGANISED
    return sweep


def give(chain: PegChain, state: PegState, sats: int) -> Transaction:
    """A round of a gift on that state, as signers build it, mined."""
    script = vault_output(state.custody, chain.rules).script
    paid = chain.bitcoin.pay(Output(sats, script))
    chain.bitcoin.mine([paid])
    gift = Gift(Outpoint(paid.txid, 0), sats, state.custody.epoch)
    planned = Planned(1_000, Spending.SCRIPT, chain.bitcoin.height, (), (), None, (gift,))
    made = build_draft(state, planned, chain.rules).transaction
    chain.bitcoin.mine([made])
    chain.show(made, claimed=False)
    return made


def test_nothing_is_missing_while_it_runs(chain: PegChain) -> None:
    chain.fund()
    assert missing(chain) == 0


def test_what_bitcoin_dropped_is_missing_until_a_gift_stands_in_its_place(chain: PegChain) -> None:
    freeze(chain)
    lost = undo(chain.peg, 1)
    wanted = compute_missing(lost, chain.bitcoin.height, chain.rules)
    assert missing(chain) == wanted
    assert wanted > 1_990_000
    made = give(chain, lost, wanted)
    assert missing(chain) == 0, "it is mined: no second gift, though no block can take it yet"
    assert chain.peg.frozen is not None
    chain.bury()
    chain.extend()
    assert chain.peg.frozen is None
    assert chain.peg.vault.txid == made.txid
    assert chain.peg.surplus_sats >= 0


def test_a_gift_that_is_too_little_leaves_the_rest(chain: PegChain) -> None:
    freeze(chain)
    lost = undo(chain.peg, 1)
    wanted = compute_missing(lost, chain.bitcoin.height, chain.rules)
    give(chain, lost, 1_000_000)
    assert 0 < missing(chain) < wanted - 990_000


def test_what_is_back_is_not_missing(chain: PegChain) -> None:
    sweep = freeze(chain)
    chain.bitcoin.mine([sweep])
    chain.show(sweep)
    assert missing(chain) == 0


def test_a_theft_and_a_lost_first_round_are_beyond_gifts(chain: PegChain) -> None:
    sweep = chain.fund()
    vault = chain.peg.vault
    stolen = Freeze(Reason.UNKNOWN_SPEND, vault.txid, chain.bitcoin.hash_at(3), 3)
    assert missing(chain, replace(chain.peg, frozen=stolen)) is None
    assert chain.bitcoin.drop(8) == [sweep]
    chain.bury(9)
    chain.extend()
    assert chain.peg.frozen is not None
    assert missing(chain) is None
