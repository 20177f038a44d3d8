"""The one transaction of a signing round, byte for byte: every signer builds the same, and its replacements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bridge.deposits import CHARGE_FLAG
from bridge.peg_errors import AnchorMismatch, FeeTooLow, SurplusTooSmall, UnknownWithdrawal
from bridge.peg_state import PegState
from bridge.rounds import (
    VERSION,
    Round,
    SigningInput,
    check_bill,
    check_not_empty,
    compute_bill,
    cost_of,
    leaf_of,
    prepare,
)
from bridge.rules import PegRules
from bridge.taproot import Leaf, check_signature, compute_sighashes, make_threshold_witness, with_witnesses
from bridge.transactions import Input, Output, Transaction
from chain.errors import Invalid


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
        return tuple(leaf_of(one, self.round.path) for one in self.inputs)

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
            if (leaf := leaf_of(one, self.round.path)) is None:
                signature = given.get(one.output.output_key, b"")
                check_signature(one.output.output_key, message, signature)
                witnesses.append((signature,))
            else:
                signers = one.custody.signers
                witnesses.append(make_threshold_witness(leaf, signers.keys, signers.threshold, message, given))
        return with_witnesses(self.transaction, witnesses)


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
    check_not_empty(state, planned, rules)
    _check_named(state, planned, rules)
    bill = compute_bill(state, planned, {one.outpoint: prepare(state, one, rules) for one in planned.deposits}, rules)
    check_bill(state, planned, bill, rules)
    inputs = tuple(Input(one.outpoint.txid, one.outpoint.index, b"", _sequence(bill.charge)) for one in bill.inputs)
    unsigned = Transaction(VERSION, inputs, (Output(bill.left, bill.outputs[0].script), *bill.outputs[1:]), 0)
    return Draft(planned, unsigned, bill.inputs, bill.charge, bill.fee, bill.vsize)


def raise_rate(state: PegState, draft: Draft, rate: int, rules: PegRules) -> Draft:
    """The replacement of a draft that does the same at a higher rate: same inputs, same payouts, same anchor.

    Raises:
        FeeTooLow: nodes would not take it in the place of the other.
        And the rules of `build_draft`.
    """
    higher = build_draft(state, replace(draft.round, rate=rate), rules)
    least = draft.fee + cost_of(rules.relay_step, 4 * higher.vsize)
    if higher.fee < least:
        raise FeeTooLow("fee of the replacement", higher.fee, f"at least {least} sats")
    return higher


def highest_rate(state: PegState, planned: Round, rules: PegRules) -> int:
    """The rate up to which a round can be raised before somebody's maximum fee, or the surplus, is used up."""
    prepared = {one.outpoint: prepare(state, one, rules) for one in planned.deposits}
    low, high = 0, rules.max_rate
    while low < high:
        middle = replace(planned, rate=(low + high + 1) // 2)
        try:
            check_bill(state, middle, compute_bill(state, middle, prepared, rules), rules)
        except (Invalid, SurplusTooSmall):
            high = middle.rate - 1
        else:
            low = middle.rate
    return low


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


def _sequence(charge: int) -> int:
    return CHARGE_FLAG | charge
