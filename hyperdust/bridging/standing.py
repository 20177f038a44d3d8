"""Where a deposit or a withdrawal stands, and whether the vault covers all that is owed: facts in, one value out.

Every state has its k of N, why it waits, and about how long. What nobody can see yet is null, never guessed.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bridge.deposits import Outpoint
from bridge.scripts import vault_output
from bridge.shortage import gift_address
from hyperdust.bridging.terms import Terms


class DepositState(StrEnum):
    """How far a deposit is."""

    UNPAID = "unpaid"
    CONFIRMING = "confirming"
    """On Bitcoin, not deep enough for the signers yet."""
    WAITING = "waiting"
    """Deep enough; the signers' next vault transaction takes it in."""
    SWEEPING = "sweeping"
    """Taken into a vault transaction that is in no block yet."""
    SWEPT = "swept"
    """That transaction is in a block, and not deep enough yet."""
    UNCLAIMED = "unclaimed"
    """Swept, and nobody has shown the chain whose it is."""
    CREDITED = "credited"
    SPENT = "spent"
    """Taken back by its owner."""


class WithdrawalState(StrEnum):
    """How far a withdrawal is."""

    QUEUED = "queued"
    PAYING = "paying"
    """A vault transaction pays it, and is not deep enough yet."""
    PAID = "paid"
    GIVEN_UP = "given up"
    """Asked back; the refund waits until a payout has become impossible."""
    REFUNDED = "refunded"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where something stands."""

    kind: str
    """deposit or withdrawal."""
    id: str
    state: DepositState | WithdrawalState
    sats: int | None
    """What was paid in, or is paid out."""
    fee_sats: int | None
    """A deposit's share of its sweep's fee, at most as long as that is not known; what a withdrawal burned for it."""
    confirmations: int
    """Of what it waits for: deposit, sweep or payout."""
    needed: int | None
    reason: str | None
    """Why it waits; null at the end."""
    expected_s: int | None
    """About how long; null where nobody can say."""
    txid: str | None = None
    """Of the sweep or the payout."""
    to: str | None = None

    @property
    def is_swept(self) -> bool:
        """Whether a deposit's address no longer has to be known to the signers."""
        return self.state in {DepositState.SWEEPING, DepositState.SWEPT, DepositState.CREDITED, DepositState.SPENT}

    @property
    def is_done(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in {DepositState.CREDITED, WithdrawalState.PAID, WithdrawalState.REFUNDED}

    def as_json(self) -> dict[str, Any]:
        """As `bridge status --json` prints it."""
        return {
            "kind": self.kind,
            "id": int(self.id) if self.kind == "withdrawal" else self.id,
            "status": self.state.value,
            "done": self.is_done,
            "sats": self.sats,
            "fee_sats": self.fee_sats,
            "confirmations": self.confirmations,
            "needed": self.needed,
            "reason": self.reason,
            "expected_s": self.expected_s,
            "txid": self.txid,
            "to": self.to,
        }

    def summary(self) -> str:
        """One line for people."""
        depth = ""
        if self.needed is not None and not self.is_done:
            depth = f", {min(self.confirmations, self.needed)}/{self.needed} confirmations"
        why = "" if self.reason is None else f": {self.reason}"
        soon = "" if not self.expected_s else f"; about {_duration(self.expected_s)}"
        return f"{self.kind} {self.id} is {self.state.value}{depth}{why}{soon}"


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


@dataclass(frozen=True, slots=True)
class Audit:
    """Whether the vault covers what is owed."""

    vault_sats: int
    """By the book: proven, below the origin."""
    unswept_sats: int
    """At announced deposit addresses, still their owners'; 0 where no bitcoind was asked."""
    supply_sats: int
    """BTC on L2 that the vault has to cover: rounded up, less `genesis_sats`."""
    genesis_sats: int
    """A development network's coins, backed by nothing; 0 on the main network."""
    uncredited_sats: int
    """Swept and not yet credited: owed to the depositors."""
    queued_sats: int
    """Withdrawals burned and not yet paid, with their maximum fees."""
    surplus_sats: int
    frozen: str | None
    vault_outpoint: str | None
    seen_on_bitcoin: bool | None
    """Whether a bitcoind of your own has that output, unspent; null: not asked."""
    missing_sats: int | None = 0
    """What a gift has to bring to make a frozen peg whole; 0: nothing is missing; null: nobody can tell here."""
    gift_address: str | None = None
    """Where anybody may pay it: the vault's own address; null where the vault was stolen."""

    @property
    def ok(self) -> bool:
        """The vault covers everything, runs, and is there."""
        return self.surplus_sats >= 0 and self.frozen is None and self.seen_on_bitcoin is not False

    def as_json(self) -> dict[str, Any]:
        """As `bridge audit --json` prints it."""
        return {
            "vault_sats": self.vault_sats,
            "unswept_sats": self.unswept_sats,
            "supply_sats": self.supply_sats,
            "ok": self.ok,
            "genesis_sats": self.genesis_sats,
            "uncredited_sats": self.uncredited_sats,
            "queued_sats": self.queued_sats,
            "surplus_sats": self.surplus_sats,
            "frozen": self.frozen,
            "vault": self.vault_outpoint,
            "seen_on_bitcoin": self.seen_on_bitcoin,
            "missing_sats": self.missing_sats,
            "gift_address": self.gift_address,
        }


def audit(terms: Terms, *, seen_on_bitcoin: bool | None, unswept_sats: int) -> Audit:
    """The vault's book against all that is owed."""
    state = terms.state
    swept = sum(sweep.owed for record in state.records for sweep in record.sweeps)
    queued = sum(one.value for one in state.queue)
    vault = state.vault
    return Audit(
        state.vault_sats,
        unswept_sats,
        max(0, state.supply_sats - state.genesis_sats),
        state.genesis_sats,
        swept,
        queued,
        state.surplus_sats,
        terms.frozen,
        None if vault is None else str(Outpoint(vault.txid, 0)),
        seen_on_bitcoin,
        terms.missing_sats,
        None if terms.is_stolen else gift_address(state, terms.rules, terms.bitcoin),
    )


def vault_script(terms: Terms) -> bytes:
    """What the vault output has to pay to."""
    return vault_output(terms.state.custody, terms.rules).script
