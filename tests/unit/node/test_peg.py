"""The peg as blocks carry it: deposits credited, withdrawals paid, whatever else refused by name."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.anchors import Anchor
from bridge.deposits import Claim, Evidence
from bridge.errors import AmbiguousTransaction
from bridge.inclusion import build_branch
from bridge.peg_errors import AlreadyClaimed, NoVaultTransaction, SweepNotOnBranch, WrongDepositScript
from bridge.peg_state import Reason
from bridge.transactions import Input, Output, Transaction
from chain.blocks import Block, Withdrawal, certificate_commitment
from consensus import errors
from consensus.evidence import encode_evidence_item
from hyperdust.node.builder import Template
from hyperdust.node.evidence import EvidencePoolFull
from tests.peg_chain import NEWCOMER, USER, WITNESS_SCRIPT, PegChain, decode_requests
from tests.small_chain import MINER

WEI = 10**10


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[PegChain]:
    chain = PegChain(tmp_path / "chain")
    yield chain
    chain.close()


def check_books(chain: PegChain) -> None:
    """Supply is what accounts hold, and never more than vault and genesis."""
    peg = chain.peg
    header = chain.store.latest.head.header
    fees = header.base_fee_per_gas * header.gas_used  # burned by the head, told by the next block
    assert chain.bridge("supply_wei") == chain.all_balances() + fees
    assert chain.bridge("supply_wei") <= peg.vault_sats * WEI + chain.params.genesis_supply_wei
    assert peg.surplus_sats >= 0
    assert chain.bridge("vault_sats") == peg.vault_sats


def test_a_deposit_is_credited_once_its_sweep_lies_below_the_origin(chain: PegChain) -> None:
    one = chain.deposit()
    sweep = chain.draft(one)
    swept = chain.bitcoin.mine([sweep])
    raw = chain.show(sweep)
    chain.bury(5)
    early = chain.extend()
    assert early.body.evidence == () == early.body.withdrawals
    chain.bury(1)
    block = chain.extend()
    assert chain.bitcoin.height_of(block.header.parent_beacon_block_root) == swept.height, "6 on top, to the block"
    charge = sweep.inputs[0].sequence - (1 << 31)
    assert block.body.evidence == (raw,)
    assert block.body.withdrawals == (Withdrawal(0, 0, NEWCOMER, (500_000 - charge) * 10),)
    assert chain.balance(NEWCOMER) == (500_000 - charge) * WEI
    assert chain.peg.vault.txid == sweep.txid
    assert chain.bridge("vault_sats") == sweep.outputs[0].sats
    check_books(chain)
    assert chain.extend().body.withdrawals == ()
    check_books(chain)


def test_what_is_late_to_be_claimed_is_credited_when_it_is(chain: PegChain) -> None:
    chain.fund()
    one = chain.deposit()
    sweep = chain.draft(one)
    chain.bitcoin.mine([sweep])
    chain.show(sweep, claimed=False)
    chain.bury()
    assert chain.extend().body.withdrawals == ()
    with pytest.raises(Exception, match="UnknownSweep"):
        chain.pool.add(encode_evidence_item(Claim(replace(one.outpoint, index=1), one.binding)))
    chain.pool.add(encode_evidence_item(Claim(one.outpoint, one.binding)))
    assert [credit.address for credit in chain.extend().body.withdrawals] == [NEWCOMER]
    check_books(chain)
    again = encode_evidence_item(Claim(one.outpoint, one.binding))
    refused(chain, errors.EvidenceRefused, AlreadyClaimed, evidence=(again,))


def test_a_large_deposit_waits_deeper(chain: PegChain) -> None:
    one = chain.deposit(1_100_000_000)
    sweep = chain.draft(one)
    chain.bitcoin.mine([sweep])
    chain.show(sweep)
    chain.bury(11)
    block = chain.extend()
    assert block.body.evidence
    assert block.body.withdrawals == ()
    chain.bury(1)
    assert len(chain.extend().body.withdrawals) == 1
    check_books(chain)


# --- blocks that are refused


def altered(chain: PegChain, **body: object) -> Block:
    """A sealed block whose body is another, and whose header commits to that."""

    def change(template: Template) -> Template:
        peg = template.peg
        if "withdrawals" in body:
            peg = replace(peg, withdrawals=body["withdrawals"])
        return replace(template, peg=peg, evidence=body.get("evidence", template.evidence))

    return chain.mine(change=change)


def refused(chain: PegChain, rule: type[Exception], cause: type[Exception] | None = None, **body: object) -> None:
    block = altered(chain, **body)
    before = chain.store.latest.head
    with pytest.raises(rule) as caught:
        chain.importer.import_block(block)
    if cause is not None:
        assert isinstance(caught.value.__cause__, cause), caught.value
    assert chain.store.latest.head == before
    chain.extend()


def ready(chain: PegChain) -> bytes:
    """A deposit that the next block has to credit; the evidence."""
    sweep = chain.draft(chain.deposit())
    chain.bitcoin.mine([sweep])
    raw = chain.show(sweep)
    chain.bury()
    return raw


def test_a_credit_that_is_not_due_is_refused(chain: PegChain) -> None:
    chain.extend()
    refused(chain, errors.WithdrawalsRefused, withdrawals=(Withdrawal(0, 0, NEWCOMER, 10),))


def test_a_due_credit_that_is_missing_or_another_is_refused(chain: PegChain) -> None:
    ready(chain)
    good = chain.template().peg.withdrawals
    assert len(good) == 1
    (credit,) = good
    for wrong in (
        (),
        (*good, replace(credit, index=1)),
        (replace(credit, amount=credit.amount + 10),),
        (replace(credit, address=bytes(20)),),
        (replace(credit, index=1),),
        (replace(credit, validator_index=1),),
    ):
        block = altered(chain, withdrawals=wrong)
        with pytest.raises(errors.WithdrawalsRefused):
            chain.importer.import_block(block)
    assert chain.extend().body.withdrawals == good


def test_evidence_left_out_changes_the_state(chain: PegChain) -> None:
    ready(chain)
    refused(chain, errors.WithdrawalsRefused, evidence=())


def test_the_header_commits_to_evidence(chain: PegChain) -> None:
    raw = ready(chain)
    block = chain.mine()
    with pytest.raises(errors.WrongCommitment):
        chain.importer.import_block(chain.swap(block, evidence=()))
    # Another list with its own commitment: the seal, by the state root, knows which it was.
    other = (raw, encode_evidence_item(Claim(*next((one.outpoint, one.binding) for one in chain.deposits.values()))))
    header = replace(block.header, extra_data=certificate_commitment(block.body.certificate, other))
    with pytest.raises(errors.EvidenceRefused):
        chain.importer.import_block(Block(header, replace(block.body, evidence=other)))
    chain.importer.import_block(block)


def test_evidence_counts_once(chain: PegChain) -> None:
    raw = ready(chain)
    chain.extend()
    refused(chain, errors.EvidenceRefused, NoVaultTransaction, evidence=(raw,))
    assert chain.peg.frozen is None
    assert chain.extend().body.withdrawals == ()


def test_evidence_above_the_origin_or_of_a_stale_block_is_refused(chain: PegChain) -> None:
    chain.extend()
    sweep = chain.draft(chain.deposit())
    chain.bitcoin.mine([sweep])
    raw = chain.show(sweep)
    refused(chain, errors.EvidenceRefused, SweepNotOnBranch, evidence=(raw,))
    chain.bitcoin.drop(1)
    chain.bury(8)
    refused(chain, errors.EvidenceRefused, SweepNotOnBranch, evidence=(raw,))
    assert chain.balance(NEWCOMER) == 0


def test_an_origin_that_bitcoin_has_left_carries_no_evidence(chain: PegChain) -> None:
    """The parent's origin may be kept after a deep reorganisation, but nothing below it is credited any more."""
    sweep = chain.draft(chain.deposit())
    chain.bitcoin.mine([sweep])
    raw = encode_evidence_item(chain.evidence(sweep))
    chain.bury()
    origin = chain.extend().header.parent_beacon_block_root
    chain.bitcoin.drop(8)
    chain.bury(6)
    block = altered(chain, evidence=(raw,))
    assert block.header.parent_beacon_block_root == origin, "a lower one is not allowed"
    with pytest.raises(errors.OriginStale):
        chain.importer.import_block(block)
    assert chain.extend().header.parent_beacon_block_root == origin, "blocks go on"
    assert chain.balance(NEWCOMER) == 0


def test_a_wrong_binding_is_refused(chain: PegChain) -> None:
    one = chain.deposit()
    sweep = chain.draft(one)
    chain.bitcoin.mine([sweep])
    evidence = chain.evidence(sweep)
    chain.bury()
    stolen = replace(evidence.claims[0], binding=replace(one.binding, address=b"\x66" * 20))
    raw = encode_evidence_item(replace(evidence, claims=(stolen,)))
    refused(chain, errors.EvidenceRefused, WrongDepositScript, evidence=(raw,))


def test_a_transaction_of_64_bytes_is_refused(chain: PegChain) -> None:
    paid = chain.bitcoin.pay(Output(10_000, b"\x51"))
    small = Transaction(2, (Input(paid.txid, 0, b"", 0xFFFFFFFD),), (Output(9_000, b"\x51" * 4),), 0)
    assert len(small.encode_stripped()) == 64
    chain.bitcoin.mine([paid])
    made = chain.bitcoin.mine([small])
    chain.bury()
    txids = tuple(one.txid for one in made.transactions)
    evidence = Evidence(made.hash, build_branch(txids, txids.index(small.txid)), small, True, (paid,), ())
    refused(chain, errors.EvidenceRefused, AmbiguousTransaction, evidence=(encode_evidence_item(evidence),))


@pytest.mark.parametrize("raw", [b"\x03", b"\x01", b"\x02" + bytes(3), b"\x02" + bytes(100)])
def test_what_is_no_evidence_is_refused(chain: PegChain, raw: bytes) -> None:
    chain.extend()
    refused(chain, errors.EvidenceRefused, evidence=(raw,))


def test_without_an_origin_there_is_no_evidence(tmp_path: Path) -> None:
    chain = PegChain(tmp_path / "chain", blocks=2)
    refused(chain, errors.EvidenceUnexpected, evidence=(b"\x01",))
    chain.close()


# --- withdrawals


def test_a_withdrawal_is_queued_paid_and_proven(chain: PegChain) -> None:
    chain.fund()
    supply = chain.bridge("supply_wei")
    block = chain.withdraw(100_000, 20_000)
    assert chain.bridge("supply_wei") == supply - 120_000 * WEI, "fees of this block are counted in the next"
    assert chain.peg.queue == (), "the peg takes it in with the next block"
    check_books(chain)
    after = chain.extend()
    assert after.header.requests_hash != block.header.requests_hash
    (waiting,) = chain.peg.queue
    assert (waiting.number, waiting.script, waiting.sats, waiting.max_fee) == (0, WITNESS_SCRIPT, 100_000, 20_000)
    check_books(chain)
    payout = chain.draft()
    assert payout.outputs[1] == Output(100_000, WITNESS_SCRIPT)
    chain.bitcoin.mine([payout])
    chain.show(payout)
    chain.bury()
    assert chain.extend().body.withdrawals == ()
    assert chain.peg.queue == ()
    assert chain.bridge("withdrawal_of", 0)[4] == 3, "paid"
    assert chain.peg.surplus_sats > 0, "what is left of the maximum fee"
    check_books(chain)


def test_without_bitcoin_withdrawals_are_queued_and_nothing_else_changes(chain: PegChain) -> None:
    chain.builder._bitcoin = chain.importer._bitcoin = None
    assert chain.extend().header.parent_beacon_block_root == bytes(32)
    assert not chain.template().peg.opening
    chain.withdraw()
    chain.extend(2)
    assert [one.sats for one in chain.peg.queue] == [100_000]
    assert chain.peg.vault is None
    check_books(chain)


def test_queued_withdrawals_leave_the_block_as_requests(chain: PegChain) -> None:
    chain.fund()
    chain.send("withdraw", WITNESS_SCRIPT, 5_000, value=50_000 * WEI)
    (request,) = [one for one in chain.template().executed.requests if one[0] == 0xF0]
    assert decode_requests(request[1:]) == [(0, 45_000, 5_000, 3, b"\x07" * 20 + bytes(12))]
    chain.extend()
    assert not [one for one in chain.template().executed.requests if one[0] == 0xF0]


def test_a_frozen_peg_refuses_withdrawals_and_thaws_when_all_is_back(chain: PegChain) -> None:
    sweep = chain.fund()
    assert chain.bitcoin.drop(8) == [sweep]
    chain.bury(9)
    chain.extend()
    assert chain.peg.frozen.reason is Reason.REORGANISED
    assert chain.bridge("is_frozen")
    block = chain.withdraw()
    assert len(block.body.transactions) == 1
    assert chain.peg.next_number == 0, "it reverted"
    chain.bitcoin.mine([sweep])
    chain.bury(3)
    assert chain.extend().body.evidence == ()
    raw = chain.show(sweep)
    chain.bury()
    block = chain.extend()
    assert block.body.evidence == (raw,)
    assert chain.peg.frozen is None
    assert block.body.withdrawals == (), "its credit stands, and comes once"
    assert not chain.bridge("is_frozen")
    check_books(chain)


def test_evidence_is_not_replayed_after_a_reorganisation_of_bitcoin(chain: PegChain) -> None:
    """The sweep is mined anew in another block: its evidence moves it, and credits nothing a second time."""
    sweep = chain.fund()
    chain.bitcoin.drop(3)
    chain.bury(4)
    chain.extend()
    assert chain.peg.frozen is None
    moved = chain.pool.items[0].raw
    refused(chain, errors.EvidenceRefused, NoVaultTransaction, evidence=(moved,))
    assert chain.peg.vault.txid == sweep.txid


def test_what_is_given_up_is_refunded_once_a_deep_anchor_knows(chain: PegChain) -> None:
    chain.fund()
    chain.withdraw(100_000, 0)
    number = chain.store.latest.head.number
    chain.send("give_up", 0)
    chain.extend()
    assert chain.bridge("withdrawal_of", 0)[4] == 2
    chain.extend()
    (given_up,) = chain.peg.queue
    assert given_up.refused_at == number + 2
    chain.send("", value=10**15)  # burned: the surplus that pays for the anchor
    chain.extend(2)
    chain.bury(1)
    chain.extend()
    anchor = Anchor(0, chain.store.latest.head.number, bytes(32))
    anchored = chain.draft(anchor=anchor)
    chain.bitcoin.mine([anchored])
    chain.show(anchored)
    chain.bury()
    assert chain.extend().body.withdrawals == (), "not deep yet"
    chain.bury(chain.rules.refund_depth)
    before = chain.balance(bytes.fromhex(USER.address[2:]))
    (refund,) = chain.extend().body.withdrawals
    assert refund.amount == 100_000 * 10
    assert chain.balance(bytes.fromhex(USER.address[2:])) == before + 100_000 * WEI
    assert chain.bridge("withdrawal_of", 0)[4] == 4
    check_books(chain)
    chain.extend()
    assert chain.peg.queue == ()


def test_all_that_is_burned_becomes_surplus(chain: PegChain) -> None:
    chain.fund()
    before = chain.peg.surplus_sats
    chain.send("", value=7 * 10**15)
    chain.extend()
    check_books(chain)
    chain.bury(1)
    chain.extend()
    check_books(chain)
    assert chain.peg.surplus_sats >= before + 7 * 10**5 - 1


def test_the_pool_takes_what_the_signers_made(chain: PegChain) -> None:
    stranger = chain.bitcoin.pay(Output(10_000, b"\x51"))
    chain.bitcoin.mine([stranger])
    block_hash, branch, _ = chain.bitcoin.prove(stranger.txid)
    funding = (chain.bitcoin.find(stranger.inputs[0].txid)[1],)
    foreign = Evidence(block_hash, branch, stranger, True, funding, ())
    with pytest.raises(NoVaultTransaction):
        chain.pool.add(encode_evidence_item(foreign))
    chain.fund()
    with pytest.raises(NoVaultTransaction):
        chain.pool.add(encode_evidence_item(foreign))
    assert len(chain.pool.items) == 1


def test_evidence_of_blocks_that_bitcoin_dropped_makes_room(chain: PegChain, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = chain.fund()
    stale = chain.pool.items[0]
    monkeypatch.setattr("hyperdust.node.evidence.MAX_ITEMS", 1)
    chain.withdraw()
    chain.extend()
    payout = chain.draft()
    chain.bitcoin.mine([payout])
    above = chain.show(payout)
    assert [one.raw for one in chain.pool.items] == [above], "the sweep's was applied"
    chain.bitcoin.drop(2)
    chain.bitcoin.mine([])
    chain.bitcoin.mine([payout])
    again = chain.show(payout)
    assert [one.raw for one in chain.pool.items] == [again], "the lost block's is not missed"
    with pytest.raises(EvidencePoolFull):
        chain.pool.add(stale.raw)
    assert sweep


def test_a_reorganisation_of_the_l2_takes_the_peg_back_and_credits_again(chain: PegChain, tmp_path: Path) -> None:
    other = PegChain(tmp_path / "other")
    other.importer._bitcoin = other.builder._bitcoin = chain.bitcoin
    other.pool._bitcoin = chain.bitcoin
    other.bitcoin = chain.bitcoin
    ready(chain)
    chain.extend()
    assert chain.balance(NEWCOMER)
    heavier = [other.mine(MINER) for _ in range(1)]
    other.importer.import_block(heavier[0])
    second = other.mine(MINER)
    other.importer.import_block(second)
    assert second.body.evidence == ()
    for block in (heavier[0], second):
        chain.clock.now = block.header.timestamp
        chain.importer.import_block(block)
    assert chain.store.latest.head.hash == second.header.hash
    assert chain.balance(NEWCOMER) == 0
    assert chain.peg.vault is None
    block = chain.extend()
    assert len(block.body.evidence) == len(block.body.withdrawals) == 1
    check_books(chain)
    other.close()
