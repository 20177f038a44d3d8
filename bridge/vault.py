"""The one transaction of a signing round: sweeps, payouts and the next anchor. Every signer builds the same bytes.

Who pays Bitcoin's fee: each deposit and each payout the place that it takes and an even part of what all share (the
vault's own input and output), at most its maximum fee; the anchor's place is paid from the surplus, or it waits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bridge.anchors import Anchor
from bridge.deposits import CHARGE_FLAG, MAX_CHARGE, Claim, Outpoint, Spent, check_claim
from bridge.peg_errors import (
    AnchorMismatch,
    FeeAboveCap,
    FeeTooLow,
    NoGroupKey,
    NothingToDo,
    SurplusTooSmall,
    UnknownWithdrawal,
    WithdrawalInvalid,
)
from bridge.peg_state import PegState, Withdrawal
from bridge.rules import PegRules
from bridge.scripts import Binding, Custody, deposit_output, vault_output
from bridge.taproot import (
    Leaf,
    Path,
    TaprootOutput,
    blank_witness,
    check_signature,
    compute_sighashes,
    make_threshold_witness,
    vsize_of,
    weight_of_spend,
)
from bridge.transactions import Input, Output, Transaction
from chain.errors import Invalid

_VERSION: Final = 2
_EVIDENCE_RESERVE: Final = 40_000
"""Bytes of the evidence's bound for the vault transaction, claims and branch."""

_WITNESS_MARGIN: Final = 120  # control block, count, sizes and the end of the leaf script
_LARGE_FUNDING_BYTES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Deposit:
    """A confirmed output that nobody has spent, to be swept."""

    outpoint: Outpoint
    spent: Spent
    """The output as it stands on Bitcoin."""
    binding: Binding
    funding_bytes: int
    """Of the transaction that made it, without its witnesses."""


@dataclass(frozen=True, slots=True)
class Gift:
    """A coin that somebody paid to the vault's script, to make good what is missing or to pay for anchors."""

    outpoint: Outpoint
    sats: int
    epoch: int
    """Of the signers whose vault script it was paid to."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one vault transaction is to do; with the state it says every byte."""

    rate: int
    """Sat per 1,000 vB."""
    path: Path
    height: int
    """Of Bitcoin, now: says whether announced signers take over."""
    deposits: tuple[Deposit, ...]
    """By outpoint, ascending."""
    payouts: tuple[Withdrawal, ...]
    """By number, ascending."""
    anchor: Anchor | None
    gifts: tuple[Gift, ...] = ()
    """By outpoint, ascending."""


@dataclass(frozen=True, slots=True)
class SigningInput:
    """An input, and what its signatures need."""

    outpoint: Outpoint
    coin: Output
    """What it spends."""
    output: TaprootOutput
    custody: Custody
    """Whose signers sign."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A vault transaction that waits for signatures."""

    round: Round
    transaction: Transaction
    """Without witnesses."""
    inputs: tuple[SigningInput, ...]
    charge: int
    """Sats that each deposit pays of the fee."""
    fee: int
    """Sats."""
    vsize: int
    """Of the signed transaction, exactly."""

    @property
    def leaves(self) -> tuple[Leaf | None, ...]:
        """The leaf that each input is spent by; None: its key."""
        return tuple(_leaf(one, self.round.path) for one in self.inputs)

    def compute_sighashes(self) -> tuple[bytes, ...]:
        """32 bytes for each input, to be signed; on the key path by the key tweaked by `output.merkle_root`."""
        return compute_sighashes(self.transaction, tuple(one.coin for one in self.inputs), self.leaves)

    def complete(self, signatures: Sequence[Mapping[bytes, bytes]]) -> Transaction:
        """The transaction to send: for each input signatures by x-only key, on the key path by its output key.

        Raises:
            BadSignature, SignaturesMissing: by rule.
        """
        witnesses: list[tuple[bytes, ...]] = []
        for one, message, given in zip(self.inputs, self.compute_sighashes(), signatures, strict=True):
            if (leaf := _leaf(one, self.round.path)) is None:
                signature = given.get(one.output.output_key, b"")
                check_signature(one.output.output_key, message, signature)
                witnesses.append((signature,))
            else:
                signers = one.custody.signers
                witnesses.append(make_threshold_witness(leaf, signers.keys, signers.threshold, message, given))
        return _with_witnesses(self.transaction, witnesses)


@dataclass(frozen=True, slots=True)
class _Bill:
    """What a round costs, and whom."""

    inputs: tuple[SigningInput, ...]
    outputs: tuple[Output, ...]
    vsize: int
    fee: int
    charge: int
    payouts: tuple[int, ...]
    gifts: tuple[int, ...]
    surplus: int
    """What the surplus, gifts included, pays: the anchor's place and the gifts' own; all, where that is all."""
    left: int
    """What stays in the vault."""


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
    bare = _bill(state, Round(rate, path, height, (), (), None), {}, rules).fee
    ready = _order_deposits(
        [one for one in deposits if _is_sweepable(state, one, path, rules)], rate, path, bare, state
    )
    payouts = _choose_payouts(state, rate, bare, rules)
    given = tuple(sorted(gifts, key=lambda one: one.outpoint))[: rules.max_sweeps]
    if state.surplus_sats < 0:
        ready, payouts, anchor = (), (), None
    chosen = _fit_evidence(ready, rules)
    planned = Round(rate, path, height, chosen, payouts, anchor, given)
    prepared = {one.outpoint: _prepare(state, one, rules) for one in planned.deposits}
    while True:
        _check_not_empty(state, planned)
        fitting = _keep_what_fits(state, planned, _bill(state, planned, prepared, rules), rules)
        if fitting == planned:
            return planned
        planned = fitting


def build_draft(state: PegState, planned: Round, rules: PegRules) -> Draft:
    """The transaction of a round, byte for byte; who is asked to sign one builds it anew by this.

    Raises:
        PegFrozen, NothingToDo, NoGroupKey: there is none.
        FeeAboveCap: at this rate a deposit or a payout pays more than its maximum fee; `what` names it.
        SurplusTooSmall: the anchor cannot be paid for.
        WithdrawalInvalid: the vault does not hold enough.
        UnknownWithdrawal, AnchorMismatch, and the rules of `check_claim`: it names what the state does not.
    """
    state.check_running()
    _check_not_empty(state, planned)
    _check_named(state, planned, rules)
    bill = _bill(state, planned, {one.outpoint: _prepare(state, one, rules) for one in planned.deposits}, rules)
    _check_bill(state, planned, bill, rules)
    inputs = tuple(Input(one.outpoint.txid, one.outpoint.index, b"", _sequence(bill.charge)) for one in bill.inputs)
    unsigned = Transaction(_VERSION, inputs, (Output(bill.left, bill.outputs[0].script), *bill.outputs[1:]), 0)
    return Draft(planned, unsigned, bill.inputs, bill.charge, bill.fee, bill.vsize)


def raise_rate(state: PegState, draft: Draft, rate: int, rules: PegRules) -> Draft:
    """The replacement of a draft that does the same at a higher rate: same inputs, same payouts, same anchor.

    Raises:
        FeeTooLow: nodes would not take it in the place of the other.
        And the rules of `build_draft`.
    """
    higher = build_draft(state, replace(draft.round, rate=rate), rules)
    least = draft.fee + _cost(rules.relay_step, 4 * higher.vsize)
    if higher.fee < least:
        raise FeeTooLow("fee of the replacement", higher.fee, f"at least {least} sats")
    return higher


def highest_rate(state: PegState, planned: Round, rules: PegRules) -> int:
    """The rate up to which a round can be raised before somebody's maximum fee, or the surplus, is used up."""
    prepared = {one.outpoint: _prepare(state, one, rules) for one in planned.deposits}
    low, high = 0, rules.max_rate
    while low < high:
        middle = replace(planned, rate=(low + high + 1) // 2)
        try:
            _check_bill(state, middle, _bill(state, middle, prepared, rules), rules)
        except (Invalid, SurplusTooSmall):
            high = middle.rate - 1
        else:
            low = middle.rate
    return low


def _bill(state: PegState, planned: Round, prepared: Mapping[Outpoint, SigningInput], rules: PegRules) -> _Bill:
    custody = state.custody_at(planned.height, rules)
    gifts = tuple(_gift_input(state, one, rules) for one in planned.gifts)
    inputs = (*_vault_input(state, rules), *(prepared[one.outpoint] for one in planned.deposits), *gifts)
    if planned.path is Path.KEY and (bare := [one for one in inputs if not one.custody.signers.group_key]):
        raise NoGroupKey("common key", f"none in epoch {bare[0].custody.epoch}", "one, for the key path")
    witnesses = [_blank(one, planned.path) for one in inputs]
    paid = tuple(Output(one.sats, one.script) for one in planned.payouts)
    anchored = () if planned.anchor is None else (Output(0, planned.anchor.script),)
    outputs = (Output(0, vault_output(custody, rules).script), *anchored, *paid)
    blank = Transaction(
        _VERSION, tuple(Input(one.outpoint.txid, one.outpoint.index, b"", 0) for one in inputs), outputs, 0
    )
    vsize = vsize_of(_with_witnesses(blank, witnesses))
    weights = [weight_of_spend(witness) for witness in witnesses]
    swept = weights[len(inputs) - len(gifts) - len(planned.deposits) : len(inputs) - len(gifts)]
    gift_weights = weights[len(inputs) - len(gifts) :]
    own_weight = sum(map(_output_weight, anchored)) + sum(gift_weights)
    payout_weights = [_output_weight(made) for made in paid]
    shared = _cost(planned.rate, 4 * vsize - sum(swept) - sum(payout_weights) - own_weight)
    items = len(planned.deposits) + len(planned.payouts)
    share = -(-shared // items) if items else 0
    fee = _cost(planned.rate, 4 * vsize)
    taken = sum(one.coin.sats for one in inputs)
    return _Bill(
        inputs,
        outputs,
        vsize,
        fee,
        _cost(planned.rate, max(swept)) + share if swept else 0,
        tuple(_cost(planned.rate, weight) + share for weight in payout_weights),
        tuple(_cost(planned.rate, weight) for weight in gift_weights),
        _cost(planned.rate, own_weight) + (0 if items else shared),
        taken - fee - sum(made.sats for made in paid),
    )


def _check_bill(state: PegState, planned: Round, bill: _Bill, rules: PegRules) -> None:
    if not 0 < planned.rate <= rules.max_rate:
        raise FeeAboveCap("rate", planned.rate, f"1 to {rules.max_rate} sat per 1,000 vB")
    if bill.charge > MAX_CHARGE:
        raise FeeAboveCap("charge", bill.charge, f"at most {MAX_CHARGE} sats")
    _check_caps(planned, bill)
    for one in planned.deposits:
        check_claim(Claim(one.outpoint, one.binding), one.spent, bill.charge, state.custodies, rules)
    if bill.surplus > (there := _surplus(state, planned)):
        raise SurplusTooSmall(there, bill.surplus)
    if bill.left < rules.min_vault_sats:
        raise WithdrawalInvalid("what stays in the vault", bill.left, f"at least {rules.min_vault_sats} sats")


def _check_caps(planned: Round, bill: _Bill) -> None:
    for one in planned.deposits:
        if bill.charge > one.binding.max_fee:
            raise FeeAboveCap(f"deposit {one.outpoint}", bill.charge, f"at most {one.binding.max_fee} sats")
    for withdrawal, cost in zip(planned.payouts, bill.payouts, strict=True):
        if cost > withdrawal.max_fee:
            raise FeeAboveCap(f"payout {withdrawal.number}", cost, f"at most {withdrawal.max_fee} sats")
    for gift, cost in zip(planned.gifts, bill.gifts, strict=True):
        if cost > gift.sats:
            raise FeeAboveCap(f"gift {gift.outpoint}", cost, f"at most {gift.sats} sats")


def _keep_what_fits(state: PegState, planned: Round, bill: _Bill, rules: PegRules) -> Round:
    """Without all that does not pay for itself: with fewer, each pays more, so none of them would fit later."""
    deposits = tuple(
        one for one in planned.deposits if bill.charge <= one.binding.max_fee and bill.charge < one.spent.output.sats
    )
    payouts = tuple(one for one, cost in zip(planned.payouts, bill.payouts, strict=True) if cost <= one.max_fee)
    can_pay = bill.surplus <= _surplus(state, planned)
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


def _surplus(state: PegState, planned: Round) -> int:
    """What anchors and gifts may cost; while more is owed than is there, gifts pay for themselves alone."""
    return max(0, state.surplus_sats) + sum(one.sats for one in planned.gifts)


def _affordable(payouts: tuple[Withdrawal, ...], sats: int) -> tuple[Withdrawal, ...]:
    """In their order, each that what is left pays: one that is too large holds up no other."""
    chosen: list[Withdrawal] = []
    for one in payouts:
        if one.sats <= sats:
            sats -= one.sats
            chosen.append(one)
    return tuple(chosen)


def _check_not_empty(state: PegState, planned: Round) -> None:
    if not (planned.deposits or (state.vault and (planned.payouts or planned.anchor or planned.gifts))):
        raise NothingToDo(
            "no deposit, no payout, no gift and no anchor that can be paid for, or no vault to do it from"
        )


def _check_named(state: PegState, planned: Round, rules: PegRules) -> None:
    outpoints, numbers = [one.outpoint for one in planned.deposits], [one.number for one in planned.payouts]
    gifts = [one.outpoint for one in planned.gifts]
    if outpoints != sorted(set(outpoints)) or gifts != sorted(set(gifts)) or numbers != sorted(set(numbers)):
        raise UnknownWithdrawal("order of the round", "another", "deposits by outpoint, payouts by number, none twice")
    if max(len(outpoints), len(gifts)) > rules.max_sweeps or len(numbers) > rules.max_payouts:
        raise UnknownWithdrawal("size of the round", (len(outpoints), len(numbers)), "within its bounds")
    for one in planned.payouts:
        known = state.find_withdrawal(one.number) if state.vault else None
        if known is None or replace(known, refused_at=0) != replace(one, refused_at=0):
            raise UnknownWithdrawal("payout", one.number, "one that is queued")
    if (anchor := planned.anchor) is not None:
        epoch, height = state.custody_at(planned.height, rules).epoch, state.vault.anchor_height if state.vault else 0
        if anchor.epoch != epoch or anchor.height < height:
            raise AnchorMismatch("anchor", (anchor.epoch, anchor.height), f"epoch {epoch}, height from {height}")


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
        own = _cost(rate, 4 * 41 + (66 if path is Path.KEY else weight))
        return one.binding.max_fee < own + bare, one.funding_bytes // _LARGE_FUNDING_BYTES, one.outpoint

    return tuple(sorted(deposits, key=order))


def _choose_payouts(state: PegState, rate: int, bare: int, rules: PegRules) -> tuple[Withdrawal, ...]:
    """The oldest that could pay for a transaction alone, then the oldest of the others: no cheap ones keep them out."""
    if state.vault is None:
        return ()
    open_ = [one for one in state.queue if not one.refused_at]
    cheap = [one.max_fee < bare + _cost(rate, 4 * (9 + len(one.script))) for one in open_]
    order = sorted(zip(cheap, open_, strict=True), key=lambda pair: (pair[0], pair[1].number))
    return tuple(sorted((one for _, one in order[: rules.max_payouts]), key=lambda one: one.number))


def _prepare(state: PegState, one: Deposit, rules: PegRules) -> SigningInput:
    check_claim(Claim(one.outpoint, one.binding), one.spent, 0, state.custodies, rules)
    custody = state.custodies[one.binding.epoch]
    return SigningInput(one.outpoint, one.spent.output, deposit_output(custody, one.binding, rules), custody)


def _vault_input(state: PegState, rules: PegRules) -> tuple[SigningInput, ...]:
    if (vault := state.vault) is None:
        return ()
    custody = state.custodies[vault.epoch]
    output = vault_output(custody, rules)
    return (SigningInput(Outpoint(vault.txid, 0), Output(vault.sats, output.script), output, custody),)


def _gift_input(state: PegState, one: Gift, rules: PegRules) -> SigningInput:
    custody = state.custodies[one.epoch]
    output = vault_output(custody, rules)
    return SigningInput(one.outpoint, Output(one.sats, output.script), output, custody)


def _leaf(one: SigningInput, path: Path) -> Leaf | None:
    return None if path is Path.KEY else one.output.signers


def _blank(one: SigningInput, path: Path) -> tuple[bytes, ...]:
    signers = one.custody.signers
    return blank_witness(_leaf(one, path), len(signers.keys), signers.threshold)


def _with_witnesses(transaction: Transaction, witnesses: Sequence[tuple[bytes, ...]]) -> Transaction:
    pairs = zip(transaction.inputs, witnesses, strict=True)
    return replace(transaction, inputs=tuple(replace(place, witness=witness) for place, witness in pairs))


def _sequence(charge: int) -> int:
    return CHARGE_FLAG | charge


def _output_weight(made: Output) -> int:
    return 4 * (8 + 1 + len(made.script))


def _cost(rate: int, weight: int) -> int:
    """Sats of so many weight units, rounded up."""
    return -(-rate * weight // 4000)
