"""New signers as blocks carry them: announced, handed over to, taken back with the chain; and the council's rescue."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.custody import Announcement
from bridge.peg_errors import BadSignature, PegFrozen, RotationRefused, SignaturesMissing, VaultNotStill
from bridge.peg_state import Reason
from bridge.rescue import build_rescue
from bridge.scripts import SignerSet, vault_output
from bridge.transactions import Output
from consensus import errors
from consensus.evidence import apply_evidence, decode_evidence_item, encode_evidence_item
from hyperdust.node.evidence import EvidencePool
from tests.peg_chain import NEWCOMER, PegChain
from tests.small_chain import MINER
from tests.unit.node.test_peg import check_books, refused

JOINED = 7


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[PegChain]:
    chain = PegChain(tmp_path / "chain")
    yield chain
    chain.close()


def hand_over(chain: PegChain) -> None:
    """Until the next round pays to those that were announced."""
    chain.bury(chain.rules.notice_blocks + chain.rules.takeover_margin_blocks + 1)
    chain.extend()


def test_a_block_carries_an_announcement_and_the_vault_follows_it(chain: PegChain) -> None:
    chain.fund()
    raw = chain.announce(JOINED)
    block = chain.extend()
    assert block.body.evidence == (raw,)
    (following,) = chain.peg.announced
    height = chain.bitcoin.height_of(block.header.parent_beacon_block_root)
    assert following.starts_at == height + chain.rules.notice_blocks
    assert chain.extend().body.evidence == (), "once"
    old = chain.deposit()
    early = chain.draft(old)
    assert early.outputs[0].script == vault_output(chain.peg.custody, chain.rules).script
    hand_over(chain)
    handed = chain.draft(old)
    assert handed.outputs[0].script == vault_output(following, chain.rules).script
    chain.bitcoin.mine([handed])
    chain.show(handed)
    chain.bury()
    assert [one.address for one in chain.extend().body.withdrawals] == [NEWCOMER]
    assert chain.peg.custody.epoch == 1
    check_books(chain)
    chain.withdraw()
    chain.extend()
    paid = chain.draft(chain.deposit())
    chain.bitcoin.mine([paid])
    chain.show(paid)
    chain.bury()
    assert len(chain.extend().body.withdrawals) == 1
    assert chain.peg.queue == ()
    assert chain.peg.frozen is None
    check_books(chain)


def announcement(raw: bytes, chain: PegChain) -> Announcement:
    item = decode_evidence_item(raw, chain.rules)
    assert isinstance(item, Announcement)
    return item


def test_the_pool_takes_what_fits_the_head(chain: PegChain) -> None:
    chain.fund()
    good = announcement(chain.make_announcement(JOINED), chain)
    (first, second) = good.signatures
    for wrong, rule in (
        (replace(good, signatures=(first,)), SignaturesMissing),
        (replace(good, signatures=((first[0], second[1]), second)), BadSignature),
        (replace(good, valid_until=good.valid_until + 1), BadSignature),
        (replace(good, epoch=2), RotationRefused),
        (replace(good, by_council=True), VaultNotStill),
    ):
        with pytest.raises(rule):
            chain.pool.add(encode_evidence_item(wrong))
    assert len(chain.pool.items) == 1
    chain.pool.add(encode_evidence_item(good))
    chain.extend()
    with pytest.raises(RotationRefused, match="epoch"):
        chain.pool.add(chain.make_announcement(JOINED + 1, epoch=1))
    other = EvidencePool(chain.params, chain.store, chain.bitcoin)
    assert {one.raw for one in other.items} == {one.raw for one in chain.pool.items}, "kept over a restart"


def test_a_block_with_an_announcement_that_breaks_a_rule_is_refused(chain: PegChain) -> None:
    chain.fund()
    good = announcement(chain.make_announcement(JOINED), chain)
    wrong = replace(good, signatures=good.signatures[:1])
    refused(chain, errors.EvidenceRefused, SignaturesMissing, evidence=(encode_evidence_item(wrong),))
    raw = encode_evidence_item(good)
    refused(chain, errors.EvidenceRefused, RotationRefused, evidence=(raw, raw))
    refused(chain, errors.EvidenceRefused, evidence=(raw[:-1],))
    assert chain.peg.announced == ()


def test_two_in_one_block_and_the_second_counts(chain: PegChain) -> None:
    chain.fund()
    raws = chain.announce(JOINED), chain.make_announcement(JOINED + 1, epoch=2)
    origin = chain.bitcoin.hash_at(chain.bitcoin.height - 6)
    both = apply_evidence(chain.peg, raws, chain.bitcoin, origin, chain.rules)
    assert [one.epoch for one in both.announced] == [1, 2]
    with pytest.raises(RotationRefused):
        chain.pool.add(raws[1])
    chain.extend()
    chain.pool.add(raws[1])
    chain.extend()
    assert [one.epoch for one in chain.peg.announced] == [1, 2]
    hand_over(chain)
    assert chain.draft(chain.deposit()).outputs[0].script == vault_output(chain.peg.custodies[2], chain.rules).script


def test_nothing_is_announced_while_the_peg_is_frozen(chain: PegChain) -> None:
    chain.fund()
    raw = chain.announce(JOINED)
    chain.bitcoin.drop(8)
    chain.bury(9)
    block = chain.extend()
    assert block.body.evidence == ()
    assert chain.peg.frozen.reason is Reason.REORGANISED
    refused(chain, errors.EvidenceRefused, PegFrozen, evidence=(raw,))
    with pytest.raises(PegFrozen):
        chain.pool.add(chain.make_announcement(JOINED + 1))


def test_a_reorganisation_of_the_l2_takes_an_announcement_back_and_it_comes_again(
    chain: PegChain, tmp_path: Path
) -> None:
    chain.bury(1)
    other = PegChain(tmp_path / "other")
    other.importer._bitcoin = other.builder._bitcoin = other.pool._bitcoin = other.bitcoin = chain.bitcoin
    raw = chain.announce(JOINED)
    assert chain.extend().body.evidence == (raw,)
    blocks = []
    for _ in range(2):
        blocks.append(other.mine(MINER))
        other.importer.import_block(blocks[-1])
    for block in blocks:
        chain.clock.now = block.header.timestamp
        chain.importer.import_block(block)
    assert chain.store.latest.head.hash == blocks[-1].header.hash
    assert chain.peg.announced == ()
    assert chain.extend().body.evidence == (raw,)
    assert len(chain.peg.announced) == 1
    other.close()


def test_the_council_brings_the_vault_back(chain: PegChain) -> None:
    chain.fund()
    chain.withdraw(50_000)
    chain.send("", value=10**14)
    chain.extend()
    with pytest.raises(VaultNotStill):
        chain.announce(by_council=True)
    chain.bury(chain.rules.emergency_blocks)
    chain.extend()
    raw = chain.announce(by_council=True)
    assert chain.extend().body.evidence == (raw,)
    before = chain.peg
    (named,) = before.rescuers
    rescue = build_rescue(before, 1_000, chain.rules)
    chain.bitcoin.mine([rescue.transaction])
    shown = chain.show(rescue.transaction)
    chain.bury()
    assert chain.extend().body.evidence == (shown,)
    assert (chain.peg.frozen, chain.peg.custody) == (None, named)
    check_books(chain)
    paid = chain.draft(chain.deposit())
    chain.bitcoin.mine([paid])
    chain.show(paid)
    chain.bury()
    assert len(chain.extend().body.withdrawals) == 1
    assert chain.peg.queue == ()
    check_books(chain)


def lie_still(chain: PegChain) -> None:
    """Until the council may act."""
    chain.fund()
    chain.send("", value=10**14)
    chain.extend()
    chain.bury(chain.rules.emergency_blocks)
    chain.extend()


def test_announcement_and_rescue_may_come_in_one_block(chain: PegChain) -> None:
    lie_still(chain)
    raw = chain.make_announcement(by_council=True)
    named = announcement(raw, chain)
    vault = chain.peg.vault
    state = replace(chain.peg, custodies=(*chain.peg.custodies, replace(named.custody, named_by=0, rescues=vault.txid)))
    made = build_rescue(state, 1_000, chain.rules).transaction
    chain.bitcoin.mine([made])
    chain.show(made)
    chain.pool.add(raw)
    chain.bury()
    assert len(chain.extend().body.evidence) == 2
    assert (chain.peg.frozen, chain.peg.custody.signers) == (None, named.signers)
    check_books(chain)


def test_anything_else_by_the_council_freezes_as_before(chain: PegChain) -> None:
    lie_still(chain)
    chain.announce(by_council=True)
    chain.extend()
    made = build_rescue(chain.peg, 1_000, chain.rules).transaction
    stolen = replace(made, outputs=(Output(made.outputs[0].sats, b"\x00\x14" + b"\x66" * 20),))
    chain.bitcoin.mine([stolen])
    chain.show(stolen)
    chain.bury()
    chain.extend()
    assert chain.peg.frozen.reason is Reason.UNKNOWN_SPEND
    assert chain.bridge("is_frozen")


def test_what_nobody_took_in_time_makes_room(chain: PegChain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.fund()
    raw = chain.announce(JOINED)
    chain.bury(1_010)
    monkeypatch.setattr("hyperdust.node.evidence.MAX_ITEMS", 1)
    fresh = chain.announce(JOINED + 1)
    assert [one.raw for one in chain.pool.items] == [fresh]
    assert chain.extend().body.evidence == (fresh,)
    assert raw != fresh


def test_what_was_handed_in_may_make_room(chain: PegChain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.fund()
    raw = chain.announce(JOINED)
    chain.extend()
    monkeypatch.setattr("hyperdust.node.evidence.MAX_ITEMS", 1)
    chain.announce(JOINED + 1)
    assert raw not in [one.raw for one in chain.pool.items]
    assert isinstance(chain.peg.announced[0].signers, SignerSet)
