"""All that the peg knows, as one value: signers, the vault, what it owes. What may change it: `peg`.

Amounts in sats unless they say wei. `vault_sats` is the book: while the peg is frozen it is the last one that was good.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from bridge.deposits import Credit, Outpoint
from bridge.peg_errors import PegFrozen
from bridge.rules import WEI_PER_SAT, PegRules
from bridge.scripts import Custody

NOBODY: Final = bytes(20)
NO_ANCHOR: Final = bytes(32)


class Reason(IntEnum):
    """Why the peg is frozen."""

    REORGANISED = 1
    """A vault transaction that was applied is no longer on Bitcoin's best chain."""
    UNKNOWN_SPEND = 2
    """The vault was spent in another way than its rules allow."""
    OVERDRAWN = 3
    """It was spent by the rules, but what is left does not cover all that is owed: it can be made good."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """The peg stands still: no withdrawal, no credit, no signature. Blocks go on."""

    reason: Reason
    txid: bytes
    """Of the vault transaction that it is about."""
    block_hash: bytes
    height: int
    """Of the block that it was in."""


@dataclass(frozen=True, slots=True)
class VaultCoin:
    """Output 0 of a vault transaction, and what was true with it."""

    txid: bytes
    sats: int
    height: int
    """Of its Bitcoin block: the council's clock starts here."""
    epoch: int
    """Of the signers that hold it."""
    anchor_id: bytes = NO_ANCHOR
    """Of the last anchor up to here."""
    anchor_height: int = 0
    """L2 height of that anchor."""


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Burned on L2, to be paid on Bitcoin once."""

    number: int
    """Counts from 0, ever."""
    script: bytes
    """One of the five standard kinds."""
    sats: int
    """What the script gets, exactly."""
    max_fee: int
    """Burned too: pays its share of the Bitcoin fee, and what is left becomes surplus."""
    refused_at: int = 0
    """L2 height at which it was given up; 0: it is to be paid."""

    @property
    def value(self) -> int:
        """Sats that were burned for it."""
        return self.sats + self.max_fee


class SweepStatus(IntEnum):
    """How far the credit of a swept output is."""

    UNCLAIMED = 0
    """Nobody has shown whose it is."""
    CLAIMED = 1
    """Waits until the sweep lies deep enough."""
    CREDITED = 2
    """Once, ever."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """An output that a vault transaction took in and that may be a deposit."""

    outpoint: Outpoint
    sats: int
    script: bytes
    """Empty once credited: nothing asks for it any more."""
    from_coinbase: bool
    status: SweepStatus
    address: bytes
    """On L2, once claimed."""
    worth: int
    """Sats: the credit once claimed; before, the amount less the charge."""

    @property
    def owed(self) -> int:
        """What the vault owes for it beyond the supply."""
        return 0 if self.status is SweepStatus.CREDITED else self.worth


@dataclass(frozen=True, slots=True)
class VaultRecord:
    """A vault transaction that was applied, with all that undoes it."""

    coin: VaultCoin
    """Its output 0."""
    block_hash: bytes
    charge: int
    """Sats that each deposit paid at most."""
    paid: tuple[Withdrawal, ...]
    sweeps: tuple[Sweep, ...]


@dataclass(frozen=True, slots=True)
class PegState:
    """The peg at one L2 block."""

    custodies: tuple[Custody, ...]
    """By epoch, from 0; later ones than the vault's have been announced, or were undone by a reorganisation."""
    base: VaultCoin | None
    """The vault below the first record; None: there was none."""
    records: tuple[VaultRecord, ...]
    """The newest vault transactions, oldest first."""
    undone: tuple[Outpoint, ...]
    """Credited outpoints whose sweep a reorganisation took away, ascending: a later sweep credits nothing."""
    supply_wei: int
    """BTC on L2."""
    genesis_sats: int
    """Backed by nothing: a development network's accounts; 0 on the main network."""
    queue: tuple[Withdrawal, ...]
    """Not paid and not refunded, by number."""
    next_number: int
    """Of the next withdrawal."""
    frozen: Freeze | None

    @property
    def vault(self) -> VaultCoin | None:
        """The newest vault output."""
        return self.records[-1].coin if self.records else self.base

    @property
    def vault_sats(self) -> int:
        """What lies in it, by the book."""
        return 0 if self.vault is None else self.vault.sats

    @property
    def supply_sats(self) -> int:
        """The supply, rounded up."""
        return -(-self.supply_wei // WEI_PER_SAT)

    @property
    def owed_sats(self) -> int:
        """All that the vault has to cover: supply, withdrawals not paid, sweeps not credited."""
        queued = sum(withdrawal.value for withdrawal in self.queue)
        swept = sum(sweep.owed for record in self.records for sweep in record.sweeps)
        return self.supply_sats + queued + swept

    @property
    def surplus_sats(self) -> int:
        """Burned fees and unused maximum fees: what anchors are paid from. Never negative."""
        return self.vault_sats + self.genesis_sats - self.owed_sats

    @property
    def custody(self) -> Custody:
        """Who holds the vault now; before there is one: the first that could."""
        return self.custodies[0 if self.vault is None else self.vault.epoch]

    @property
    def announced(self) -> tuple[Custody, ...]:
        """Those whom the present signers have named: the last one counts, the others were replaced by it."""
        present = self.custody.epoch
        return tuple(one for one in self.custodies[present + 1 :] if one.named_by == present and not one.rescues)

    @property
    def rescuers(self) -> tuple[Custody, ...]:
        """Those whom the council has named for the vault output of now, which had lain still."""
        return tuple(one for one in self.custodies if self.vault is not None and one.rescues == self.vault.txid)

    def may_hold(self, height: int) -> tuple[Custody, ...]:
        """Who may hold a vault output that the signers spend to and that is mined at a Bitcoin height.

        One that was replaced may, too, once its own notice is over: what was signed before must not freeze the peg.
        """
        return (self.custody, *(one for one in self.announced if height >= one.starts_at))

    def custody_at(self, height: int, rules: PegRules) -> Custody:
        """Who shall hold a vault output that is signed for at a Bitcoin height."""
        last = (self.custody, *self.announced)[-1]
        return last if height >= last.starts_at + rules.takeover_margin_blocks else self.custody

    def answering(self) -> tuple[Custody, ...]:
        """Whose signers are asked: who holds the vault, who is announced, who held it as far back as records reach."""
        coins = [*([self.base] if self.base else []), *(record.coin for record in self.records)]
        epochs = {coin.epoch for coin in coins} | {one.epoch for one in (self.custody, *self.announced[-1:])}
        return tuple(self.custodies[epoch] for epoch in sorted(epochs))

    def check_running(self) -> None:
        """Check that the peg is not frozen.

        Raises:
            PegFrozen: it is.
        """
        if self.frozen is not None:
            raise PegFrozen(f"{self.frozen.reason.name.lower()}, vault transaction {self.frozen.txid[::-1].hex()}")

    def find_withdrawal(self, number: int) -> Withdrawal | None:
        """One of the queue."""
        return next((withdrawal for withdrawal in self.queue if withdrawal.number == number), None)

    def is_credited(self, outpoint: Outpoint) -> bool:
        """Whether a deposit has its credit, as far as records reach (older ones cannot be spent a second time)."""
        return outpoint in self.undone or any(
            sweep.outpoint == outpoint and sweep.status is SweepStatus.CREDITED
            for record in self.records
            for sweep in record.sweeps
        )

    def is_refresh_due(self, height: int, rules: PegRules) -> bool:
        """Whether the vault has lain still for half of what the council waits: move it, and raise an alarm."""
        return self.vault is not None and height - self.vault.height >= rules.emergency_blocks // 2

    def is_takeover_due(self, height: int, rules: PegRules) -> bool:
        """Whether the vault waits for the handing over to others, or to other conditions."""
        following = self.custody_at(height, rules)
        present = (self.custody.signers, self.custody.council)
        return self.vault is not None and (following.signers, following.council) != present


def credit_of(sweep: Sweep, depth: int) -> Credit:
    """What is credited for a claimed sweep."""
    return Credit(sweep.outpoint, sweep.address, sweep.worth, sweep.sats - sweep.worth, depth)
