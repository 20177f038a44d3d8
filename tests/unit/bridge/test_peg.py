"""What changes the peg, one rule at a time; any order of them: tests/properties/test_peg.py."""

from contextlib import suppress
from dataclasses import replace

import pytest

from bridge.anchors import Anchor
from bridge.custody import announce_custody
from bridge.deposits import CHARGE_FLAG, Claim, Outpoint, Spent
from bridge.peg import (
    apply_credits,
    apply_vault_transaction,
    burn,
    claim_sweep,
    compute_peg_out_root,
    due_credits,
    make_genesis,
    queue_withdrawal,
    refund_withdrawal,
    refuse_withdrawal,
)
from bridge.peg_codec import decode_state, encode_state
from bridge.peg_errors import (
    AlreadyClaimed,
    BurnTooLarge,
    NotMadeGood,
    NotRefundable,
    NoVaultTransaction,
    PayoutScriptRefused,
    PegFrozen,
    RotationRefused,
    SignerSetInvalid,
    StateMalformed,
    SurplusTooSmall,
    UnknownSweep,
    UnknownWithdrawal,
    VaultSpendRefused,
    WithdrawalInvalid,
    WrongDepositScript,
)
from bridge.peg_repair import apply_row, confirm_again, follow_origin, preview_restore, restore, undo
from bridge.peg_state import Freeze, Reason, SweepStatus
from bridge.rounds import Gift
from bridge.rules import WEI_PER_SAT
from bridge.scripts import Custody, SignerSet, vault_output
from bridge.transactions import MAX_SATS, Input, Output, Transaction
from bridge.vault import build_draft
from bridge.vault_reading import read_vault_transaction
from tests.unit.bridge.fake_bitcoin import FakeBitcoin
from tests.unit.bridge.keys import make_binding, make_custody, make_key, make_signers
from tests.unit.bridge.peg_story import (
    PAY_TO,
    RULES,
    draft_of,
    make_deposit,
    make_vault,
    proven_of,
    with_surplus,
    with_withdrawals,
)

ANCHOR = Anchor(0, 10, bytes(32))
FROZEN = Freeze(Reason.REORGANISED, bytes(32), bytes(32), 1)


def successor(custody, *, threshold=None, replaced=1):
    keys = custody.signers.keys[replaced:] + tuple(make_key(600 + at) for at in range(replaced))
    signers = SignerSet(threshold or custody.signers.threshold, tuple(sorted(keys)))
    return Custody(custody.epoch + 1, signers, custody.council)


# --- vault transactions


def test_a_first_sweep_makes_the_vault_and_waits_for_depth():
    state = make_genesis(make_custody(), 0)
    deposit = make_deposit(state.custody, 1_100_000_000)
    draft = draft_of(state, [deposit])
    state = apply_vault_transaction(state, proven_of(state, draft.transaction, [deposit]), RULES)
    assert state.vault_sats == 1_100_000_000 - draft.fee
    assert state.supply_wei == 0
    assert state.surplus_sats == draft.charge - draft.fee
    assert due_credits(state, 105, RULES) == ()
    (credit,) = due_credits(state, 106, RULES)
    assert credit.sats == 1_100_000_000 - draft.charge
    credited = apply_credits(state, 106, RULES)
    assert credited.supply_sats == credit.sats
    assert credited.surplus_sats == state.surplus_sats
    assert credited.is_credited(deposit.outpoint)
    assert due_credits(credited, 500, RULES) == ()
    assert apply_credits(credited, 500, RULES) == credited


def test_payouts_leave_the_queue_once():
    state = with_withdrawals(with_surplus(make_vault(), 5_000), 100_000, 50_000)
    draft = draft_of(state, anchor=ANCHOR)
    proven = proven_of(state, draft.transaction, height=110)
    reading = read_vault_transaction(state, proven, RULES)
    assert (reading.fee, reading.anchor, len(reading.paid)) == (draft.fee, ANCHOR, 2)
    paid = apply_vault_transaction(state, proven, RULES)
    assert (paid.queue, paid.frozen) == ((), None)
    assert paid.surplus_sats == state.surplus_sats + 2 * 20_000 - draft.fee
    assert (paid.vault.anchor_height, paid.vault.anchor_id) == (10, ANCHOR.id)
    with pytest.raises(NoVaultTransaction):
        apply_vault_transaction(paid, proven, RULES)


def test_what_does_not_touch_the_vault_changes_nothing():
    state = make_vault()
    stranger = Transaction(2, (Input(b"\x66" * 32, 0, b"", CHARGE_FLAG),), (Output(1, PAY_TO),), 0)
    proven = replace(proven_of(state, stranger, claimed=False), spent=(None,))
    with pytest.raises(NoVaultTransaction):
        apply_vault_transaction(state, proven, RULES)


def outputs(transaction, *changed):
    return replace(transaction, outputs=changed)


REFUSED = {
    "another script": lambda made: outputs(made, Output(made.outputs[0].sats, PAY_TO), *made.outputs[1:]),
    "a payout too much": lambda made: outputs(made, *made.outputs, Output(20_000, PAY_TO)),
    "a payout of another amount": lambda made: outputs(made, *made.outputs[:-1], Output(49_999, PAY_TO)),
    "a payout twice": lambda made: outputs(made, *made.outputs, made.outputs[-1]),
    "an anchor that is none": lambda made: outputs(
        made, made.outputs[0], Output(0, b"\x6a\x01\x02"), *made.outputs[2:]
    ),
    "an anchor of other signers": lambda made: outputs(
        made, made.outputs[0], Output(0, replace(ANCHOR, epoch=1).script), *made.outputs[2:]
    ),
    "an anchor that goes back": lambda made: outputs(
        made, made.outputs[0], Output(0, replace(ANCHOR, height=3).script), *made.outputs[2:]
    ),
    "no charge in its sequence": lambda made: replace(
        made, inputs=tuple(replace(one, sequence=0xFFFFFFFD & ~CHARGE_FLAG) for one in made.inputs)
    ),
    "the council's sequence": lambda made: replace(
        made, inputs=tuple(replace(one, sequence=RULES.emergency_blocks) for one in made.inputs)
    ),
}


def state_with_work():
    state = with_surplus(make_vault(), 50_000)
    state = apply_vault_transaction(
        state, proven_of(state, draft_of(state, anchor=replace(ANCHOR, height=5)).transaction, height=105), RULES
    )
    return with_withdrawals(state, 100_000, 50_000, max_fee=5_000)


@pytest.mark.parametrize("name", REFUSED)
def test_a_spend_against_the_rules_freezes_the_peg(name):
    state = state_with_work()
    good = draft_of(state, anchor=ANCHOR).transaction
    assert apply_vault_transaction(state, proven_of(state, good), RULES).frozen is None
    bad = proven_of(state, REFUSED[name](good), height=120)
    frozen = apply_vault_transaction(state, bad, RULES)
    assert frozen.frozen == Freeze(Reason.UNKNOWN_SPEND, bad.txid, bad.block_hash, 120)
    assert replace(frozen, frozen=None) == state, "the book keeps its last good value"
    with pytest.raises(PegFrozen):
        apply_vault_transaction(frozen, proven_of(state, good), RULES)


def test_of_equal_withdrawals_the_one_that_covers_the_fee_counts_as_paid():
    state = with_withdrawals(with_withdrawals(make_vault(), 100_000, max_fee=0), 100_000, max_fee=5_000)
    assert state.surplus_sats <= 1
    draft = draft_of(state)
    assert [one.number for one in draft.round.payouts] == [1]
    paid = apply_vault_transaction(state, proven_of(state, draft.transaction), RULES)
    assert paid.frozen is None
    assert [one.number for one in paid.queue] == [0]


def test_an_overdraft_freezes_the_peg_until_it_is_made_good():
    chain = Chain()
    state = chain.state = with_withdrawals(chain.state, 100_000, max_fee=5_000)
    made = draft_of(state).transaction
    poor = outputs(made, Output(made.outputs[0].sats - 60_000, made.outputs[0].script), *made.outputs[1:])
    proven = chain.put(poor)
    chain.state = apply_vault_transaction(state, proven, RULES)
    assert chain.follow().reason is Reason.OVERDRAWN
    assert replace(chain.state, frozen=None) == state
    tip = chain.bitcoin.best[-1].hash
    with pytest.raises(NotMadeGood):
        restore(chain.state, [proven], chain.bitcoin, tip, RULES)
    owing = preview_restore(chain.state, [proven], chain.bitcoin, tip, RULES)
    gift = Gift(Outpoint(b"\x71" * 32, 0), 70_000, 0)
    draft = draft_of(owing, [make_deposit(state.custody, user=9)], ANCHOR, gifts=[gift])
    assert (draft.round.deposits, draft.round.payouts, draft.round.anchor) == ((), (), None)
    script = vault_output(state.custody, RULES).script
    chain.bitcoin.mine([])
    given = replace(
        proven_of(owing, draft.transaction),
        spent=(None, Spent(Output(70_000, script), from_coinbase=False)),
        block_hash=chain.bitcoin.best[-1].hash,
    )
    chain.state = restore(chain.state, [proven, given], chain.bitcoin, given.block_hash, RULES)
    assert chain.follow() is None
    assert chain.state.surplus_sats >= 0


def test_the_vault_has_to_be_input_0():
    state = make_vault()
    deposit = make_deposit(state.custody, user=4)
    made = draft_of(state, [deposit]).transaction
    turned = replace(made, inputs=made.inputs[::-1])
    proven = replace(proven_of(state, made, [deposit]), transaction=turned)
    with pytest.raises(VaultSpendRefused, match="input 0"):
        read_vault_transaction(state, proven, RULES)


def test_nobody_else_makes_the_first_vault():
    state = make_genesis(make_custody(), 0)
    deposit = make_deposit(state.custody)
    made = draft_of(state, [deposit]).transaction
    with pytest.raises(NoVaultTransaction, match="a deposit that its claim shows"):
        apply_vault_transaction(state, proven_of(state, made, [deposit], claimed=False), RULES)
    reclaimed = replace(made, inputs=(replace(made.inputs[0], sequence=RULES.reclaim_blocks),))
    with pytest.raises(NoVaultTransaction, match="one charge for all"):
        apply_vault_transaction(state, proven_of(state, reclaimed, [deposit]), RULES)
    elsewhere = outputs(made, Output(made.outputs[0].sats, PAY_TO))
    with pytest.raises(NoVaultTransaction, match="output 0"):
        apply_vault_transaction(state, proven_of(state, elsewhere, [deposit]), RULES)


def test_a_coin_paid_to_the_vault_is_surplus():
    state = make_vault()
    script = vault_output(state.custody, RULES).script
    made = draft_of(state, [make_deposit(state.custody, user=4)]).transaction
    proven = proven_of(state, made, [make_deposit(state.custody, user=4)], claimed=False)
    gift = replace(proven.spent[1], output=Output(1_000_000, script))
    given = apply_vault_transaction(state, replace(proven, spent=(None, gift)), RULES)
    assert given.records[-1].sweeps == ()
    assert given.surplus_sats > 990_000


# --- claims


def test_a_sweep_may_be_claimed_later_by_anyone():
    state = make_vault()
    deposit = make_deposit(state.custody, user=4)
    made = draft_of(state, [deposit]).transaction
    state = apply_vault_transaction(state, proven_of(state, made, [deposit], claimed=False), RULES)
    assert state.records[-1].sweeps[0].status is SweepStatus.UNCLAIMED
    assert due_credits(state, 200, RULES) == ()
    wrong = Claim(deposit.outpoint, make_binding(5))
    with pytest.raises(WrongDepositScript):
        claim_sweep(state, wrong, RULES)
    with pytest.raises(UnknownSweep):
        claim_sweep(state, Claim(Outpoint(bytes(32), 9), deposit.binding), RULES)
    claimed = claim_sweep(state, Claim(deposit.outpoint, deposit.binding), RULES)
    (credit,) = due_credits(claimed, 200, RULES)
    assert credit.address == deposit.binding.address
    with pytest.raises(AlreadyClaimed):
        claim_sweep(claimed, Claim(deposit.outpoint, deposit.binding), RULES)
    with pytest.raises(AlreadyClaimed):
        claim_sweep(apply_credits(claimed, 200, RULES), Claim(deposit.outpoint, deposit.binding), RULES)


def test_a_charge_above_the_cap_is_borne_by_the_surplus_or_waits():
    state = make_vault()
    deposit = make_deposit(state.custody, user=4, max_fee=100)
    made = draft_of(state, [make_deposit(state.custody, user=4)]).transaction
    made = replace(made, inputs=(made.inputs[0], replace(made.inputs[1], txid=deposit.outpoint.txid)))
    state = apply_vault_transaction(state, proven_of(state, made, [deposit], claimed=False), RULES)
    with pytest.raises(SurplusTooSmall):
        claim_sweep(state, Claim(deposit.outpoint, deposit.binding), RULES)
    rich = claim_sweep(with_surplus(state, 1_000), Claim(deposit.outpoint, deposit.binding), RULES)
    assert due_credits(rich, 200, RULES)[0].fee_sats == 100


# --- withdrawals


def test_withdrawals_burn_and_queue():
    state = make_vault()
    queued = queue_withdrawal(state, PAY_TO, 10_000, 500, RULES)
    assert queued.supply_wei == state.supply_wei - 10_500 * WEI_PER_SAT
    assert queued.surplus_sats == state.surplus_sats
    assert queued.queue[0].value == 10_500
    assert queued.next_number == 1


@pytest.mark.parametrize(
    ("script", "sats", "max_fee", "error"),
    [
        (b"\x6a\x01\x00", 20_000, 500, PayoutScriptRefused),
        (PAY_TO, 9_999, 500, WithdrawalInvalid),
        (PAY_TO, MAX_SATS + 1, 500, WithdrawalInvalid),
        (PAY_TO, 20_000, -1, WithdrawalInvalid),
        (PAY_TO, 20_000, MAX_SATS + 1, WithdrawalInvalid),
        (PAY_TO, 999_900, 500, WithdrawalInvalid),
    ],
)
def test_withdrawals_out_of_bounds(script, sats, max_fee, error):
    with pytest.raises(error):
        queue_withdrawal(make_vault(), script, sats, max_fee, RULES)


def test_a_refund_needs_a_proven_anchor_above_the_refusal():
    state = refuse_withdrawal(with_withdrawals(with_surplus(make_vault(), 50_000), 100_000), 0, 10)
    with pytest.raises(UnknownWithdrawal):
        refuse_withdrawal(state, 0, 11)
    with pytest.raises(NotRefundable):
        refund_withdrawal(state, 0, 194, RULES)
    for height, comes in ((9, False), (10, True)):
        made = draft_of(state, anchor=replace(ANCHOR, height=height)).transaction
        anchored = apply_vault_transaction(state, proven_of(state, made), RULES)
        if not comes:
            with pytest.raises(NotRefundable):
                refund_withdrawal(anchored, 0, 194, RULES)
            continue
        with pytest.raises(NotRefundable):
            refund_withdrawal(anchored, 0, 193, RULES)
        back = refund_withdrawal(anchored, 0, 194, RULES)
        assert back.supply_wei == state.supply_wei + 120_000 * WEI_PER_SAT
        assert back.surplus_sats == anchored.surplus_sats
        with pytest.raises(UnknownWithdrawal):
            refund_withdrawal(back, 0, 194, RULES)
    with pytest.raises(UnknownWithdrawal):
        refund_withdrawal(with_withdrawals(make_vault(), 20_000), 0, 194, RULES)


def test_a_payout_that_was_on_its_way_takes_the_place_of_a_refund():
    state = with_withdrawals(with_surplus(make_vault(), 50_000), 100_000)
    made = draft_of(state, anchor=ANCHOR).transaction
    refused = refuse_withdrawal(state, 0, 5)
    paid = apply_vault_transaction(refused, proven_of(refused, made), RULES)
    assert paid.queue == ()
    with pytest.raises(UnknownWithdrawal):
        refund_withdrawal(paid, 0, 999, RULES)


def test_burns_become_surplus():
    state = make_vault()
    assert burn(state, 7 * WEI_PER_SAT).surplus_sats == state.surplus_sats + 7
    assert burn(state, WEI_PER_SAT - 1).surplus_sats == state.surplus_sats, "a part of a satoshi is still owed"
    for wei in (-1, state.supply_wei + 1):
        with pytest.raises(BurnTooLarge):
            burn(state, wei)


def test_the_peg_out_root_says_what_is_queued_and_refused():
    state = with_withdrawals(make_vault(), 100_000, 50_000)
    roots = [compute_peg_out_root(one) for one in (make_vault(), state, refuse_withdrawal(state, 0, 3))]
    assert len(set(roots)) == 3
    assert compute_peg_out_root(burn(state, 5)) == roots[1]


# --- signers


def test_one_key_changes_at_a_time_after_a_notice():
    state = make_vault()
    following = successor(state.custody)
    announced = announce_custody(state, following, 100, RULES)
    following = replace(following, starts_at=100 + 4_032)
    assert announced.custodies == (state.custody, following)
    assert announced.may_hold(4_131) == (state.custody,)
    assert announced.may_hold(4_132) == (state.custody, following)
    with pytest.raises(RotationRefused, match="epoch"):
        announce_custody(announced, successor(state.custody), 100, RULES)
    with pytest.raises(RotationRefused, match="keys changed"):
        announce_custody(state, successor(state.custody, replaced=2), 100, RULES)
    with pytest.raises(RotationRefused, match="epoch"):
        announce_custody(state, replace(following, epoch=2), 100, RULES)
    with pytest.raises(RotationRefused, match="council"):
        announce_custody(state, replace(following, council=make_signers(700, 3, 2)), 100, RULES)
    with pytest.raises(SignerSetInvalid):
        announce_custody(state, successor(state.custody, threshold=4), 100, RULES)
    assert announce_custody(state, successor(state.custody, threshold=3), 100, RULES)
    four = make_vault(custody=make_custody(count=4, threshold=1))
    with pytest.raises(RotationRefused, match="threshold"):
        announce_custody(four, successor(four.custody, threshold=3), 100, RULES)


def test_the_vault_goes_to_the_next_signers_and_not_before():
    state = with_surplus(make_vault(), 50_000)
    following = successor(state.custody)
    state = announce_custody(state, following, 100, RULES)
    late = state.custodies[1].starts_at + RULES.takeover_margin_blocks
    made = draft_of(state, anchor=replace(ANCHOR, epoch=1), height=late).transaction
    early = apply_vault_transaction(state, proven_of(state, made, height=state.custodies[1].starts_at - 1), RULES)
    assert early.frozen.reason is Reason.UNKNOWN_SPEND
    moved = apply_vault_transaction(state, proven_of(state, made, height=late), RULES)
    assert moved.custody == state.custodies[1]
    assert moved.custody.signers == following.signers
    deposit = make_deposit(state.custodies[0], user=6)
    swept = draft_of(moved, [deposit], height=late)
    after = apply_vault_transaction(moved, proven_of(moved, swept.transaction, [deposit], height=late), RULES)
    assert due_credits(after, late, RULES), "the old address still works"


def test_a_still_vault_is_to_be_moved_in_time():
    state = make_vault()
    assert not state.is_refresh_due(100 + 6_479, RULES)
    assert state.is_refresh_due(100 + 6_480, RULES)
    assert not make_genesis(make_custody(), 0).is_refresh_due(10**6, RULES)


def test_two_changes_of_signers_may_be_undone_and_done_again():
    state = with_surplus(make_vault(), 90_000)
    state = announce_custody(state, successor(state.custody), 100, RULES)
    height = state.custodies[1].starts_at + RULES.takeover_margin_blocks
    made = draft_of(state, anchor=replace(ANCHOR, epoch=1), height=height).transaction
    moved = apply_vault_transaction(state, proven_of(state, made, height=height), RULES)
    twice = announce_custody(moved, successor(moved.custody, replaced=0, threshold=3), height, RULES)
    undone = replace(twice, records=twice.records[:-1])
    again = apply_vault_transaction(undone, proven_of(undone, made, height=height), RULES)
    assert again.frozen is None
    assert again.custody.epoch == 1


# --- reorganisations


class Chain:
    """A state whose transactions stand in blocks of a fake Bitcoin."""

    def __init__(self):
        self.bitcoin = FakeBitcoin()
        self.state = make_genesis(make_custody(), 0)
        self.deposit = make_deposit(self.state.custody)
        self.apply(draft_of(self.state, [self.deposit]).transaction)
        self.state = apply_credits(self.state, 1_000, RULES)
        self.fork = self.bitcoin.height

    def put(self, transaction):
        self.bitcoin.mine([])
        return replace(
            proven_of(self.state, transaction, [self.deposit]),
            block_hash=self.bitcoin.best[-1].hash,
            height=self.bitcoin.height,
        )

    def apply(self, transaction):
        self.state = apply_vault_transaction(self.state, self.put(transaction), RULES)

    def follow(self):
        self.state = follow_origin(self.state, self.bitcoin, self.bitcoin.best[-1].hash, RULES)
        return self.state.frozen

    def reorganise(self, to):
        self.bitcoin.drop(self.bitcoin.height - to)
        for _ in range(9):
            self.bitcoin.mine([])


def test_the_peg_freezes_until_its_transactions_are_back():
    chain = Chain()
    chain.state = with_withdrawals(with_surplus(chain.state, 5_000), 100_000)
    draft = draft_of(chain.state)
    chain.apply(draft.transaction)
    assert chain.follow() is None
    chain.reorganise(chain.fork)
    assert chain.follow().reason is Reason.REORGANISED
    assert due_credits(chain.state, 2_000, RULES) == ()
    with pytest.raises(PegFrozen):
        queue_withdrawal(chain.state, PAY_TO, 20_000, 500, RULES)
    again = replace(proven_of(chain.state, draft.transaction), block_hash=chain.bitcoin.mine([]).hash, height=50)
    with pytest.raises(NoVaultTransaction):
        confirm_again(chain.state, replace(again, txid=bytes(32)))
    chain.state = confirm_again(chain.state, again)
    assert chain.follow() is None
    assert chain.state.queue == ()
    assert chain.state.vault.height == 50


def test_another_version_on_the_new_branch_pays_once():
    chain = Chain()
    chain.state = with_withdrawals(chain.state, 100_000, 50_000)
    before = chain.state
    chain.apply(draft_of(before).transaction)
    assert chain.state.queue == ()
    chain.reorganise(chain.fork)
    chain.follow()
    one = replace(draft_of(before).round, payouts=before.queue[:1], rate=3_000)
    other = build_draft(before, one, RULES).transaction
    block = chain.bitcoin.mine([])
    proven = replace(proven_of(before, other), block_hash=block.hash, height=block.height)
    chain.state = restore(chain.state, [proven], chain.bitcoin, block.hash, RULES)
    assert chain.state.frozen is None
    assert [one.number for one in chain.state.queue] == [1], "queued again"
    assert chain.state.vault.txid == other.txid
    with pytest.raises(NoVaultTransaction):
        restore(chain.state, [proven], chain.bitcoin, block.hash, RULES)


def test_a_lost_credit_has_to_be_made_good_and_is_never_given_twice():
    chain = Chain()
    state, deposit = chain.state, make_deposit(chain.state.custody, 400_000, user=8)
    both = draft_of(state, [deposit]).transaction
    proven = replace(proven_of(state, both, [deposit]), block_hash=chain.bitcoin.mine([]).hash, height=2)
    chain.state = apply_credits(apply_vault_transaction(state, proven, RULES), 1_000, RULES)
    chain.reorganise(chain.fork)
    chain.follow()
    other = draft_of(with_withdrawals(state, 20_000), []).transaction
    other = replace(other, outputs=(Output(other.outputs[0].sats + 20_000, other.outputs[0].script),))
    block = chain.bitcoin.mine([])
    without = replace(proven_of(state, other), block_hash=block.hash, height=block.height)
    with pytest.raises(NotMadeGood):
        restore(chain.state, [without], chain.bitcoin, block.hash, RULES)
    assert chain.state.frozen is not None
    owing = preview_restore(chain.state, [without], chain.bitcoin, block.hash, RULES)
    assert owing.undone == (deposit.outpoint,)
    swept = draft_of(replace(owing, supply_wei=0), [deposit]).transaction
    later = replace(proven_of(owing, swept, [deposit]), block_hash=block.hash, height=block.height)
    supply = chain.state.supply_wei
    good = restore(burn(chain.state, 10_000 * WEI_PER_SAT), [without, later], chain.bitcoin, block.hash, RULES)
    assert good.frozen is None
    assert good.undone == ()
    assert due_credits(good, 5_000, RULES) == ()
    assert good.supply_wei == supply - 10_000 * WEI_PER_SAT


def test_what_is_undone_is_what_signers_plan_gifts_on():
    """Where nothing stands in the place of what was lost, there is no row yet: signers begin it on this."""
    chain = Chain()
    state, deposit = chain.state, make_deposit(chain.state.custody, 400_000, user=8)
    chain.state = with_withdrawals(state, 100_000)
    proven = proven_of(chain.state, draft_of(chain.state, [deposit]).transaction, [deposit])
    chain.state = apply_credits(apply_vault_transaction(chain.state, proven, RULES), 1_000, RULES)
    lost = undo(chain.state, len(state.records))
    assert (lost.vault, lost.frozen) == (state.vault, None)
    assert lost.undone == (deposit.outpoint,)
    assert [one.number for one in lost.queue] == [0], "queued again"
    assert lost.surplus_sats < 0, "the credit stands"
    assert undo(chain.state, len(chain.state.records)) == chain.state
    gift = Gift(Outpoint(b"\x71" * 32, 0), 500_000, 0)
    draft = draft_of(lost, [make_deposit(state.custody, user=9)], ANCHOR, gifts=[gift])
    assert (draft.round.deposits, draft.round.payouts, draft.round.anchor) == ((), (), None)
    spent = (None, Spent(Output(500_000, vault_output(state.custody, RULES).script), from_coinbase=False))
    made = replace(proven_of(lost, draft.transaction), spent=spent)
    assert apply_row(lost, [made], RULES).surplus_sats >= 0
    with pytest.raises(NoVaultTransaction):
        apply_row(lost, [made, made], RULES)
    with pytest.raises(VaultSpendRefused):
        apply_row(lost, [replace(made, transaction=outputs(draft.transaction, Output(1, PAY_TO)))], RULES)


def test_an_unknown_spend_that_is_reorganised_away_thaws_the_peg():
    chain = Chain()
    draft = draft_of(with_surplus(chain.state, 50_000), anchor=ANCHOR).transaction
    stolen = outputs(draft, Output(draft.outputs[0].sats, PAY_TO))
    chain.apply(stolen)
    assert chain.follow().reason is Reason.UNKNOWN_SPEND
    with pytest.raises(PegFrozen):
        restore(chain.state, [], chain.bitcoin, chain.bitcoin.best[-1].hash, RULES)
    chain.reorganise(chain.fork)
    assert chain.follow() is None


def test_old_records_are_forgotten_once_nothing_in_them_waits():
    chain = Chain()
    for _ in range(RULES.record_blocks + 2):
        chain.bitcoin.mine([])
    waiting = replace(chain.state.records[0].sweeps[0], status=SweepStatus.CLAIMED)
    kept = replace(chain.state, records=(replace(chain.state.records[0], sweeps=(waiting,)),))
    assert follow_origin(kept, chain.bitcoin, chain.bitcoin.best[-1].hash, RULES).records
    vault = chain.state.vault
    chain.follow()
    assert chain.state.records == ()
    assert chain.state.vault == vault


# --- bytes


def test_a_state_has_one_encoding():
    state = replace(state_with_work(), undone=(Outpoint(b"\x01" * 32, 2),), frozen=FROZEN)
    raw = encode_state(state)
    assert decode_state(raw) == state
    for at in range(0, len(raw), 7):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        with suppress(StateMalformed):
            assert encode_state(decode_state(changed)) == changed
    for wrong in (raw[:-1], raw + b"\x00", b"", b"\x01" + raw[1:]):
        with pytest.raises(StateMalformed):
            decode_state(wrong)
