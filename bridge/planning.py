"""Which deposits, payouts and gifts the next round takes: what pays for itself, and nobody's bait keeps others out."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bridge.anchors import Anchor
from bridge.deposits import Claim, Outpoint, check_claim
from bridge.peg_errors import NothingToDo
from bridge.peg_state import PegState, Withdrawal
from bridge.rounds import Bill, Deposit, Gift, Round, check_not_empty, compute_bill, cost_of, prepare, surplus_of
from bridge.rules import PegRules
from bridge.taproot import Path
from chain.errors import Invalid

_EVIDENCE_RESERVE: Final = 40_000
"""Bytes of the evidence's bound for the vault transaction, claims and branch."""

_WITNESS_MARGIN: Final = 120  # control block, count, sizes and the end of the leaf script
_LARGE_FUNDING_BYTES: Final = 10_000


def plan_round(
    state: PegState,
    deposits: Sequence[Deposit],
    anchor: Anchor | None,
    rate: int,
    path: Path,
    height: int,
    rules: PegRules,
    gifts: Sequence[Gift] = (),
) -> Round:
    """The next round: every deposit and payout that pays for itself at this rate, oldest payouts first.

    On a state that owes more than it has (`peg.preview_restore`) only gifts are taken in.

    Raises:
        PegFrozen: no signature while it is.
        NothingToDo: no deposit, no payout, and no anchor that the surplus pays.
        NoGroupKey: the vault has no key path.
    """
    state.check_running()
    bare = compute_bill(state, Round(rate, path, height, (), (), None), {}, rules).fee
    ready = _order_deposits(
        [one for one in deposits if _is_sweepable(state, one, path, rules)], rate, path, bare, state
    )
    payouts = _choose_payouts(state, rate, bare, rules)
    given = tuple(sorted(gifts, key=lambda one: one.outpoint))[: rules.max_sweeps]
    if state.surplus_sats < 0:
        ready, payouts, anchor = (), (), None
    chosen = _fit_evidence(ready, rules)
    planned = Round(rate, path, height, chosen, payouts, anchor, given)
    prepared = {one.outpoint: prepare(state, one, rules) for one in planned.deposits}
    while True:
        check_not_empty(state, planned, rules)
        bill = compute_bill(state, planned, prepared, rules)
        fitting = _keep_what_fits(state, planned, bill, rules)
        if fitting == planned:
            break
        planned = fitting
    if bill.surplus > (there := surplus_of(state, planned)):  # nothing but the vault's own move is left
        raise NothingToDo(f"moving the vault costs {bill.surplus} sats, and the surplus has {there}")
    return planned


def _keep_what_fits(state: PegState, planned: Round, bill: Bill, rules: PegRules) -> Round:
    """Without all that does not pay for itself: with fewer, each pays more, so none of them would fit later."""
    deposits = tuple(
        one for one in planned.deposits if bill.charge <= one.binding.max_fee and bill.charge < one.spent.output.sats
    )
    payouts = tuple(one for one, cost in zip(planned.payouts, bill.payouts, strict=True) if cost <= one.max_fee)
    can_pay = bill.surplus <= surplus_of(state, planned)
    anchor = planned.anchor if can_pay else None
    gifts = tuple(
        one
        for one, cost in zip(planned.gifts, bill.gifts, strict=True)
        if cost <= one.sats and (can_pay or planned.anchor)
    )
    if len(payouts) == len(planned.payouts) and bill.left < rules.min_vault_sats:
        anchor = anchor if payouts else None
        deposits = deposits if payouts or planned.anchor else ()
        payouts = _affordable(payouts, bill.left + sum(one.sats for one in payouts) - rules.min_vault_sats)
    return replace(planned, deposits=deposits, payouts=payouts, anchor=anchor, gifts=gifts)


def _affordable(payouts: tuple[Withdrawal, ...], sats: int) -> tuple[Withdrawal, ...]:
    """In their order, each that what is left pays: one that is too large holds up no other."""
    chosen: list[Withdrawal] = []
    for one in payouts:
        if one.sats <= sats:
            sats -= one.sats
            chosen.append(one)
    return tuple(chosen)


def _is_sweepable(state: PegState, one: Deposit, path: Path, rules: PegRules) -> bool:
    try:
        check_claim(Claim(one.outpoint, one.binding), one.spent, 0, state.custodies, rules)
    except Invalid:
        return False
    if path is Path.KEY and not state.custodies[one.binding.epoch].signers.group_key:
        return False
    return one.funding_bytes <= rules.max_funding_bytes


def _fit_evidence(deposits: Sequence[Deposit], rules: PegRules) -> tuple[Deposit, ...]:
    """As many as one block's evidence can carry with the transactions that made them, by outpoint."""
    left, chosen = rules.max_evidence_bytes - _EVIDENCE_RESERVE, list[Deposit]()
    for one in deposits:
        if one.funding_bytes <= left and len(chosen) < rules.max_sweeps:
            left -= one.funding_bytes
            chosen.append(one)
    return tuple(sorted(chosen, key=lambda one: one.outpoint))


def _order_deposits(
    deposits: Sequence[Deposit], rate: int, path: Path, bare: int, state: PegState
) -> tuple[Deposit, ...]:
    """First those that could pay for a transaction alone, then small evidence: nobody's bait keeps others out."""

    def order(one: Deposit) -> tuple[bool, int, Outpoint]:
        custody = state.custodies[one.binding.epoch]
        weight = _WITNESS_MARGIN + 34 * len(custody.signers.keys) + 65 * custody.signers.threshold
        own = cost_of(rate, 4 * 41 + (66 if path is Path.KEY else weight))
        return one.binding.max_fee < own + bare, one.funding_bytes // _LARGE_FUNDING_BYTES, one.outpoint

    return tuple(sorted(deposits, key=order))


def _choose_payouts(state: PegState, rate: int, bare: int, rules: PegRules) -> tuple[Withdrawal, ...]:
    """The oldest that could pay for a transaction alone, then the oldest of the others: no cheap ones keep them out."""
    if state.vault is None:
        return ()
    open_ = [one for one in state.queue if not one.refused_at]
    cheap = [one.max_fee < bare + cost_of(rate, 4 * (9 + len(one.script))) for one in open_]
    order = sorted(zip(cheap, open_, strict=True), key=lambda pair: (pair[0], pair[1].number))
    return tuple(sorted((one for _, one in order[: rules.max_payouts]), key=lambda one: one.number))
