"""The one transaction of a round: the same bytes for everybody, and who pays what."""

from dataclasses import replace

import pytest
from btclib.script.engine import verify_transaction
from btclib.tx.tx import Tx
from btclib.tx.tx_out import TxOut

from bridge.anchors import Anchor
from bridge.custody import announce_custody
from bridge.deposits import Outpoint
from bridge.peg import refuse_withdrawal
from bridge.peg_errors import (
    AnchorMismatch,
    BadSignature,
    FeeAboveCap,
    FeeTooLow,
    NoGroupKey,
    NothingToDo,
    PegFrozen,
    SignaturesMissing,
    SurplusTooSmall,
    UnknownWithdrawal,
    WithdrawalInvalid,
    WrongDepositScript,
)
from bridge.peg_state import Freeze, Reason
from bridge.planning import plan_round
from bridge.rounds import Gift
from bridge.scripts import Custody, vault_output
from bridge.taproot import Path, vsize_of
from bridge.transactions import Output
from bridge.vault import build_draft, highest_rate, raise_rate
from tests.unit.bridge.keys import make_custody, make_key, sign_draft, sign_tweaked
from tests.unit.bridge.peg_story import (
    PAY_TO,
    RATE,
    RULES,
    draft_of,
    make_deposit,
    make_genesis,
    make_vault,
    with_surplus,
    with_withdrawals,
)

ANCHOR = Anchor(0, 10, bytes(32))


def verify(draft, signed):
    verify_transaction([TxOut(one.coin.sats, one.coin.script) for one in draft.inputs], Tx.parse(signed.encode()))


def test_everything_in_one_transaction():
    state = with_withdrawals(with_surplus(make_vault(), 5_000), 100_000, 200_000)
    deposits = [make_deposit(state.custody, user=at) for at in (9, 3, 5)]
    draft = draft_of(state, deposits, ANCHOR)
    assert draft == draft_of(state, deposits[::-1], ANCHOR)
    made = draft.transaction
    assert [one.txid for one in made.inputs] == [state.vault.txid, *(bytes([at]) * 32 for at in (3, 5, 9))]
    assert made.outputs[0].script == vault_output(state.custody, RULES).script
    assert made.outputs[1] == Output(0, ANCHOR.script)
    assert made.outputs[2:] == (Output(100_000, PAY_TO), Output(200_000, PAY_TO))
    assert sum(one.coin.sats for one in draft.inputs) - sum(one.sats for one in made.outputs) == draft.fee
    assert draft.fee == -(-RATE * draft.vsize // 1000)
    signed = sign_draft(draft)
    assert vsize_of(signed) == draft.vsize
    verify(draft, signed)


def test_the_key_path_is_smaller():
    custody = make_custody(group=True)
    state = with_withdrawals(make_vault(custody=custody), 100_000)
    draft = draft_of(state, [make_deposit(custody, user=4)], path=Path.KEY)
    signatures = [
        {one.output.output_key: sign_tweaked(custody.signers.group_key, one.output.merkle_root, message)}
        for one, message in zip(draft.inputs, draft.compute_sighashes(), strict=True)
    ]
    signed = draft.complete(signatures)
    verify(draft, signed)
    assert vsize_of(signed) == draft.vsize < draft_of(state, [make_deposit(custody, user=4)]).vsize
    with pytest.raises(BadSignature):
        draft.complete([signatures[0], {}])
    with pytest.raises(NoGroupKey):
        draft_of(with_surplus(make_vault(), 9_000), anchor=ANCHOR, path=Path.KEY)


def test_too_few_signatures():
    draft = draft_of(make_genesis(make_custody(), 0), [make_deposit(make_custody())])
    with pytest.raises(SignaturesMissing):
        draft.complete([{}])


def test_deposits_pay_their_place_and_the_shared_part_up_to_their_cap():
    state = make_genesis(make_custody(), 0)
    alone = draft_of(state, [make_deposit(state.custody)])
    assert 0 <= alone.charge - alone.fee <= 1, "rounded up, into the surplus"
    two = draft_of(state, [make_deposit(state.custody, user=at) for at in (1, 2)])
    assert two.charge < alone.charge
    assert two.fee <= 2 * two.charge <= two.fee + 4
    stingy = make_deposit(state.custody, user=3, max_fee=two.charge - 60)
    assert len(draft_of(state, [*two.round.deposits, stingy]).round.deposits) == 2
    exact = make_deposit(state.custody, max_fee=alone.charge)
    assert draft_of(state, [exact]).charge == alone.charge
    with pytest.raises(NothingToDo):
        draft_of(state, [make_deposit(state.custody, max_fee=alone.charge - 1)])
    short = make_deposit(state.custody, max_fee=alone.charge - 1)
    with pytest.raises(FeeAboveCap, match="deposit"):
        build_draft(state, replace(alone.round, deposits=(short,)), RULES)


def test_a_payout_whose_fee_is_too_small_waits_and_holds_up_no_other():
    state = with_withdrawals(with_withdrawals(make_vault(), 50_000, max_fee=10), 60_000)
    draft = draft_of(state)
    assert [one.number for one in draft.round.payouts] == [1]
    with pytest.raises(FeeAboveCap, match="payout 0"):
        build_draft(state, replace(draft.round, payouts=state.queue), RULES)


def test_a_payout_above_the_vault_waits_and_holds_up_no_other():
    state = with_withdrawals(make_vault(supply_wei=10**19), 500_000_000, 60_000)
    assert [one.number for one in draft_of(state).round.payouts] == [1]
    with pytest.raises(WithdrawalInvalid, match="stays in the vault"):
        build_draft(state, replace(draft_of(state).round, payouts=state.queue), RULES)


def test_the_anchor_waits_for_surplus():
    state = with_withdrawals(make_vault(), 100_000)
    waits = draft_of(state, anchor=ANCHOR)
    assert waits.round.anchor is None
    with pytest.raises(SurplusTooSmall):
        build_draft(state, replace(waits.round, anchor=ANCHOR), RULES)
    price = draft_of(with_surplus(state, 50_000), anchor=ANCHOR).fee - waits.fee
    assert draft_of(with_surplus(state, price), anchor=ANCHOR).round.anchor == ANCHOR
    assert draft_of(with_surplus(state, price - 1 - state.surplus_sats), anchor=ANCHOR).round.anchor is None
    with pytest.raises(NothingToDo):
        draft_of(make_vault(), anchor=ANCHOR)
    assert draft_of(with_surplus(make_vault(), 10_000), anchor=ANCHOR).round.payouts == ()


def test_a_replacement_does_the_same_for_more():
    state = with_withdrawals(with_surplus(make_vault(), 5_000), 100_000)
    draft = draft_of(state, [make_deposit(state.custody, user=4)], ANCHOR)
    higher = raise_rate(state, draft, 2 * RATE, RULES)
    assert [one.outpoint for one in higher.inputs] == [one.outpoint for one in draft.inputs]
    assert higher.transaction.outputs[1:] == draft.transaction.outputs[1:]
    assert higher.fee >= draft.fee + draft.vsize
    with pytest.raises(FeeTooLow):
        raise_rate(state, draft, RATE + 900, RULES)
    top = highest_rate(state, draft.round, RULES)
    raise_rate(state, draft, top, RULES)
    with pytest.raises((FeeAboveCap, SurplusTooSmall)):
        raise_rate(state, draft, top + 1, RULES)
    with pytest.raises(FeeAboveCap, match="rate"):
        raise_rate(state, draft, RULES.max_rate + 1, RULES)


def test_what_is_no_deposit_is_not_swept():
    state = make_genesis(make_custody(), 0)
    good = make_deposit(state.custody)
    for wrong in (
        make_deposit(state.custody, 9_999),
        make_deposit(state.custody, from_coinbase=True),
        make_deposit(state.custody, funding_bytes=RULES.max_funding_bytes + 1),
        replace(good, binding=replace(good.binding, address=bytes(20))),
        replace(good, binding=replace(good.binding, epoch=1)),
    ):
        with pytest.raises(NothingToDo):
            draft_of(state, [wrong])
    forged = replace(good, binding=replace(good.binding, address=bytes(20)))
    with pytest.raises(WrongDepositScript):
        build_draft(state, replace(draft_of(state, [good]).round, deposits=(forged,)), RULES)


def test_a_round_fits_into_its_evidence():
    state = make_genesis(make_custody(), 0)
    many = [make_deposit(state.custody, user=1, index=at, funding_bytes=90_000) for at in range(6)]
    assert len(plan_round(state, many, None, RATE, Path.SCRIPT, 100, RULES).deposits) == 4
    small = [make_deposit(state.custody, user=1, index=at) for at in range(103)]
    assert len(plan_round(state, small, None, RATE, Path.SCRIPT, 100, RULES).deposits) == RULES.max_sweeps


def test_bait_keeps_nobody_out():
    state = make_genesis(make_custody(), 0)
    good = make_deposit(state.custody, user=200)
    bait = [make_deposit(state.custody, user=1, index=at, max_fee=0) for at in range(RULES.max_sweeps + 1)]
    heavy = [make_deposit(state.custody, user=2, index=at, funding_bytes=99_000) for at in range(4)]
    assert good in draft_of(state, [*bait, *heavy, good]).round.deposits
    state = make_vault(400_000_000)
    for _ in range(RULES.max_payouts + 1):
        state = with_withdrawals(state, 10_000, max_fee=0)
    state = with_withdrawals(state, 20_000)
    assert [one.sats for one in draft_of(state).round.payouts] == [20_000]


def test_refused_and_unknown_withdrawals_are_not_paid():
    state = with_withdrawals(make_vault(), 100_000, 50_000)
    planned = draft_of(state).round
    refused = refuse_withdrawal(state, 0, 5)
    assert [one.number for one in draft_of(refused).round.payouts] == [1]
    for wrong in (
        (replace(state.queue[0], sats=100_001),),
        (replace(state.queue[0], number=7),),
        state.queue[::-1],
        (state.queue[0], state.queue[0]),
    ):
        with pytest.raises(UnknownWithdrawal):
            build_draft(state, replace(planned, payouts=wrong), RULES)


def test_the_anchor_names_its_signers_and_goes_on():
    state = with_withdrawals(with_surplus(make_vault(), 50_000), 100_000)
    for wrong in (replace(ANCHOR, epoch=1),):
        with pytest.raises(AnchorMismatch):
            draft_of(state, anchor=wrong)


def test_nobody_signs_while_the_peg_is_frozen():
    state = replace(make_vault(), frozen=Freeze(Reason.REORGANISED, bytes(32), bytes(32), 1))
    with pytest.raises(PegFrozen):
        plan_round(state, [], ANCHOR, RATE, Path.SCRIPT, 100, RULES)
    with pytest.raises(PegFrozen):
        build_draft(state, draft_of(with_surplus(make_vault(), 50_000), anchor=ANCHOR).round, RULES)


def test_no_payouts_without_a_vault():
    state = with_withdrawals(make_genesis(make_custody(), 10**18), 20_000)
    with pytest.raises(NothingToDo):
        draft_of(state)
    deposit = make_deposit(state.custody)
    assert draft_of(state, [deposit]).round.payouts == ()
    with pytest.raises(UnknownWithdrawal):
        build_draft(state, replace(draft_of(state, [deposit]).round, payouts=state.queue), RULES)


def test_gifts_are_taken_in_and_pay_for_themselves():
    state = make_vault()
    gift = Gift(Outpoint(b"\x44" * 32, 0), 50_000, 0)
    draft = draft_of(state, gifts=[gift])
    assert draft.inputs[-1].outpoint == gift.outpoint
    verify(draft, sign_draft(draft))
    assert draft_of(state, anchor=ANCHOR, gifts=[gift]).round.anchor == ANCHOR
    with pytest.raises(NothingToDo):
        draft_of(state, gifts=[replace(gift, sats=300)])
    dust = Gift(Outpoint(b"\x45" * 32, 0), 200, 0)
    assert draft_of(with_surplus(state, 90_000), gifts=[gift, dust]).round.gifts == (gift,)


def test_the_next_signers_take_over_some_time_after_the_notice():
    state = with_surplus(make_vault(), 50_000)
    keys = tuple(sorted((*state.custody.signers.keys[1:], make_key(555))))
    following = Custody(1, replace(state.custody.signers, keys=keys), state.custody.council)
    state = announce_custody(state, following, 100, RULES)
    later = state.custodies[1].starts_at + RULES.takeover_margin_blocks
    before = draft_of(state, anchor=ANCHOR, height=later - 1)
    assert before.transaction.outputs[0].script == vault_output(state.custodies[0], RULES).script
    after = draft_of(state, anchor=replace(ANCHOR, epoch=1), height=later)
    assert after.transaction.outputs[0].script == vault_output(following, RULES).script
    verify(after, sign_draft(after))
