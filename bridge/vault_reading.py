"""What a transaction seen on Bitcoin does to the vault: sweeps, payouts, anchor, fee; or a refusal by name.

Three answers: it is no part of the list (`NoVaultTransaction`: nothing happens), it spends the vault against its rules
(`VaultSpendRefused`: the peg freezes), or a reading that `peg` applies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.anchors import Anchor, find_anchor
from bridge.deposits import (
    CHARGE_FLAG,
    Claim,
    Outpoint,
    ProvenTransaction,
    Spent,
    check_claim,
    read_charge,
    spent_by_outpoint,
)
from bridge.peg_errors import AnchorMalformed, NoVaultTransaction, VaultSpendRefused
from bridge.peg_state import NOBODY, PegState, Sweep, SweepStatus, VaultCoin, Withdrawal
from bridge.rules import PegRules
from bridge.scripts import Custody, vault_output
from bridge.transactions import Output, Transaction


@dataclass(frozen=True, slots=True)
class VaultReading:
    """A vault transaction that keeps the rules, as far as it shows by itself."""

    coin: VaultCoin
    """The new vault output."""
    charge: int
    """Sats that each deposit pays at most."""
    sweeps: tuple[Sweep, ...]
    given: int
    """Sats of inputs that were paid to the vault's script by anyone: surplus."""
    paid: tuple[Withdrawal, ...]
    anchor: Anchor | None
    fee: int
    """Sats that Bitcoin's miner got."""


def read_vault_transaction(state: PegState, proven: ProvenTransaction, rules: PegRules) -> VaultReading:
    """Read a transaction as the next one of the list.

    Raises:
        NoVaultTransaction: it does not spend the vault; where there is none yet: it is no pure sweep of deposits.
        VaultSpendRefused: it spends the vault, and breaks a rule.
        And the rules of `check_claim`: a claim that is none.
    """
    try:
        return _read(state, proven, rules)
    except VaultSpendRefused as error:
        if state.vault is not None:
            raise
        raise NoVaultTransaction("first vault transaction", str(error), "one that keeps every rule") from error


def _read(state: PegState, proven: ProvenTransaction, rules: PegRules) -> VaultReading:
    transaction, vault = proven.transaction, state.vault
    places = [Outpoint(place.txid, place.index) for place in transaction.inputs]
    if vault is not None and Outpoint(vault.txid, 0) not in places:
        raise NoVaultTransaction("inputs", str(places[0]), f"the vault, {Outpoint(vault.txid, 0)}")
    if (vault is None) != (proven.spent[0] is not None):
        raise NoVaultTransaction("first", vault is not None, vault is None)
    if vault is not None and Outpoint(vault.txid, 0) != places[0]:
        raise VaultSpendRefused("inputs", "the vault is not input 0")
    if vault is not None and not transaction.inputs[0].sequence & CHARGE_FLAG:
        return _read_rescue(state, vault, proven, rules)
    claims = {claim.outpoint: claim for claim in proven.claims}
    if vault is None:
        _check_first(claims, places)
    holders = _read_holders(state.may_hold(proven.height), transaction, rules)
    try:
        charge = read_charge(transaction)
    except NoVaultTransaction as error:
        raise VaultSpendRefused("sequence", str(error)) from error
    anchor = _read_anchor(transaction, holders, 0 if vault is None else vault.anchor_height)
    epoch = holders[-1].epoch if anchor is None else anchor.epoch
    paid = _read_payouts(state.queue if vault else (), transaction.outputs[1 if anchor is None else 2 :])
    ours = [vault_output(custody, rules).script for custody in state.custodies]
    sweeps, given = [], 0
    for outpoint, spent in spent_by_outpoint(proven).items():
        if spent.output.script in ours:
            given += spent.output.sats
        else:
            sweeps.append(_read_sweep(state, outpoint, spent, claims.get(outpoint), charge, rules))
    taken = state.vault_sats + given + sum(sweep.sats for sweep in sweeps)
    fee = taken - sum(made.sats for made in transaction.outputs)
    coin = VaultCoin(
        proven.txid,
        transaction.outputs[0].sats,
        proven.height,
        epoch,
        anchor.id if anchor else (vault.anchor_id if vault else bytes(32)),
        anchor.height if anchor else (vault.anchor_height if vault else 0),
    )
    return VaultReading(coin, charge, tuple(sweeps), given, paid, anchor, fee)


def _check_first(claims: dict[Outpoint, Claim], places: list[Outpoint]) -> None:
    """Anyone can pay to the vault's script, but only the signers can sweep: a reclaim's sequence says no charge."""
    for place in places:
        if place not in claims:
            raise NoVaultTransaction("input", str(place), "a deposit that its claim shows")


def _read_rescue(state: PegState, vault: VaultCoin, proven: ProvenTransaction, rules: PegRules) -> VaultReading:
    """The council's spend: all of the vault to those whom it has named for it; only the fee is lost."""
    transaction = proven.transaction
    if len(transaction.inputs) != 1 or len(transaction.outputs) != 1:
        shape = f"{len(transaction.inputs)} inputs, {len(transaction.outputs)} outputs"
        raise VaultSpendRefused("sequence", f"no charge, and {shape}: the council's spend has one of each")
    epoch = _read_holders(state.rescuers, transaction, rules)[-1].epoch
    (left,) = transaction.outputs
    coin = VaultCoin(proven.txid, left.sats, proven.height, epoch, vault.anchor_id, vault.anchor_height)
    return VaultReading(coin, 0, (), 0, (), None, vault.sats - left.sats)


def _read_holders(allowed: tuple[Custody, ...], transaction: Transaction, rules: PegRules) -> tuple[Custody, ...]:
    """Whose vault output 0 is: an announcement that takes another back has the script of the present signers."""
    script = transaction.outputs[0].script
    if found := tuple(custody for custody in allowed if script == vault_output(custody, rules).script):
        return found
    epochs = " or ".join(str(custody.epoch) for custody in allowed) or "nobody: the council has named none"
    raise VaultSpendRefused("output 0", f"script {script.hex()} is not the vault's of epoch {epochs}")


def _read_anchor(transaction: Transaction, holders: tuple[Custody, ...], height: int) -> Anchor | None:
    try:
        anchor = find_anchor(transaction)
    except AnchorMalformed as error:
        raise VaultSpendRefused("anchor", str(error)) from error
    epochs = [custody.epoch for custody in holders]
    if anchor is not None and (anchor.epoch not in epochs or anchor.height < height):
        raise VaultSpendRefused("anchor", f"epoch {anchor.epoch}, height {anchor.height}: not {epochs}, from {height}")
    return anchor


def _read_payouts(queue: tuple[Withdrawal, ...], outputs: Sequence[Output]) -> tuple[Withdrawal, ...]:
    """Each output is one withdrawal; of equal ones that with the highest maximum fee: it covers whichever was meant."""
    waiting: dict[tuple[bytes, int], list[Withdrawal]] = {}
    for one in sorted(queue, key=lambda one: (one.max_fee, -one.number)):
        waiting.setdefault((one.script, one.sats), []).append(one)
    paid: list[Withdrawal] = []
    for made in outputs:
        if not (equal := waiting.get((made.script, made.sats))):
            raise VaultSpendRefused("payout", f"{made.sats} sats to {made.script.hex()} is no queued payout")
        paid.append(equal.pop())
    return tuple(paid)


def _read_sweep(
    state: PegState, outpoint: Outpoint, spent: Spent, claim: Claim | None, charge: int, rules: PegRules
) -> Sweep:
    sats, script = spent.output.sats, spent.output.script
    if state.is_credited(outpoint):
        return Sweep(outpoint, sats, script, spent.from_coinbase, SweepStatus.CREDITED, NOBODY, 0)
    if claim is None:
        worth = max(0, sats - charge)
        return Sweep(outpoint, sats, script, spent.from_coinbase, SweepStatus.UNCLAIMED, NOBODY, worth)
    credit = check_claim(claim, spent, charge, state.custodies, rules)
    return Sweep(outpoint, sats, script, spent.from_coinbase, SweepStatus.CLAIMED, credit.address, credit.sats)
