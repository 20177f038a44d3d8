"""What a round of signing is to do, and what it costs whom.

Who pays Bitcoin's fee: each deposit and each payout the place that it takes and an even part of what all share (the
vault's own input and output), at most its maximum fee; the anchor's place is paid from the surplus, or it waits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bridge.anchors import Anchor
from bridge.deposits import MAX_CHARGE, Claim, Outpoint, Spent, check_claim
from bridge.peg_errors import FeeAboveCap, NoGroupKey, NothingToDo, SurplusTooSmall, WithdrawalInvalid
from bridge.peg_state import PegState, Withdrawal
from bridge.rules import PegRules
from bridge.scripts import Binding, Custody, deposit_output, vault_output
from bridge.taproot import Leaf, Path, TaprootOutput, blank_witness, vsize_of, weight_of_spend, with_witnesses
from bridge.transactions import Input, Output, Transaction

VERSION: Final = 2
"""Of every vault transaction."""


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
class Bill:
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


def compute_bill(state: PegState, planned: Round, prepared: Mapping[Outpoint, SigningInput], rules: PegRules) -> Bill:
    """What a round costs at its rate; `prepared` has the input of each of its deposits.

    Raises:
        NoGroupKey: key path without a common key.
    """
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
        VERSION, tuple(Input(one.outpoint.txid, one.outpoint.index, b"", 0) for one in inputs), outputs, 0
    )
    vsize = vsize_of(with_witnesses(blank, witnesses))
    weights = [weight_of_spend(witness) for witness in witnesses]
    swept = weights[len(inputs) - len(gifts) - len(planned.deposits) : len(inputs) - len(gifts)]
    gift_weights = weights[len(inputs) - len(gifts) :]
    own_weight = sum(map(output_weight, anchored)) + sum(gift_weights)
    payout_weights = [output_weight(made) for made in paid]
    shared = cost_of(planned.rate, 4 * vsize - sum(swept) - sum(payout_weights) - own_weight)
    items = len(planned.deposits) + len(planned.payouts)
    share = -(-shared // items) if items else 0
    fee = cost_of(planned.rate, 4 * vsize)
    taken = sum(one.coin.sats for one in inputs)
    return Bill(
        inputs,
        outputs,
        vsize,
        fee,
        cost_of(planned.rate, max(swept)) + share if swept else 0,
        tuple(cost_of(planned.rate, weight) + share for weight in payout_weights),
        tuple(cost_of(planned.rate, weight) for weight in gift_weights),
        cost_of(planned.rate, own_weight) + (0 if items else shared),
        taken - fee - sum(made.sats for made in paid),
    )


def check_bill(state: PegState, planned: Round, bill: Bill, rules: PegRules) -> None:
    """Check that everybody pays within his cap.

    Raises:
        FeeAboveCap, SurplusTooSmall, WithdrawalInvalid, and the rules of `check_claim`: as `vault.build_draft` says.
    """
    if not 0 < planned.rate <= rules.max_rate:
        raise FeeAboveCap("rate", planned.rate, f"1 to {rules.max_rate} sat per 1,000 vB")
    if bill.charge > MAX_CHARGE:
        raise FeeAboveCap("charge", bill.charge, f"at most {MAX_CHARGE} sats")
    _check_caps(planned, bill)
    for one in planned.deposits:
        check_claim(Claim(one.outpoint, one.binding), one.spent, bill.charge, state.custodies, rules)
    if bill.surplus > (there := surplus_of(state, planned)):
        raise SurplusTooSmall(there, bill.surplus)
    if bill.left < rules.min_vault_sats:
        raise WithdrawalInvalid("what stays in the vault", bill.left, f"at least {rules.min_vault_sats} sats")


def _check_caps(planned: Round, bill: Bill) -> None:
    for one in planned.deposits:
        if bill.charge > one.binding.max_fee:
            raise FeeAboveCap(f"deposit {one.outpoint}", bill.charge, f"at most {one.binding.max_fee} sats")
    for withdrawal, cost in zip(planned.payouts, bill.payouts, strict=True):
        if cost > withdrawal.max_fee:
            raise FeeAboveCap(f"payout {withdrawal.number}", cost, f"at most {withdrawal.max_fee} sats")
    for gift, cost in zip(planned.gifts, bill.gifts, strict=True):
        if cost > gift.sats:
            raise FeeAboveCap(f"gift {gift.outpoint}", cost, f"at most {gift.sats} sats")


def surplus_of(state: PegState, planned: Round) -> int:
    """What anchors and gifts may cost; while more is owed than is there, gifts pay for themselves alone."""
    return max(0, state.surplus_sats) + sum(one.sats for one in planned.gifts)


def check_not_empty(state: PegState, planned: Round, rules: PegRules) -> None:
    """Check that there is something to do, and a vault to do it from; to move the vault in time is something.

    Raises:
        NothingToDo: there is not.
    """
    if planned.deposits or (state.vault and (planned.payouts or planned.anchor or planned.gifts)):
        return
    if not (state.is_refresh_due(planned.height, rules) or state.is_takeover_due(planned.height, rules)):
        raise NothingToDo(
            "no deposit, no payout, no gift and no anchor that can be paid for, or no vault to do it from"
        )


def prepare(state: PegState, one: Deposit, rules: PegRules) -> SigningInput:
    """The input that sweeps a deposit.

    Raises:
        The rules of `check_claim`.
    """
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


def leaf_of(one: SigningInput, path: Path) -> Leaf | None:
    """The leaf that an input is spent by; None: its key."""
    return None if path is Path.KEY else one.output.signers


def _blank(one: SigningInput, path: Path) -> tuple[bytes, ...]:
    signers = one.custody.signers
    return blank_witness(leaf_of(one, path), len(signers.keys), signers.threshold)


def output_weight(made: Output) -> int:
    """Weight units of an output."""
    return 4 * (8 + 1 + len(made.script))


def cost_of(rate: int, weight: int) -> int:
    """Sats of so many weight units, rounded up."""
    return -(-rate * weight // 4000)
