"""What a network fixes for the peg: depths, windows, amounts. Blocks are Bitcoin's; defaults are the main network's."""

from dataclasses import dataclass
from typing import Final

SATS_PER_BTC: Final = 100_000_000
WEI_PER_SAT: Final = 10**10  # 10^18 wei a bitcoin


@dataclass(frozen=True, slots=True)
class PegRules:
    """Constants of one network."""

    chain_id: int = 0
    """EIP-155 of the L2: signatures of announcements are bound to it."""
    origin_depth: int = 6
    """Blocks on top of an origin: how deep the block of the origin itself counts."""
    credit_depths: tuple[tuple[int, int], ...] = ((10 * SATS_PER_BTC, 12), (100 * SATS_PER_BTC, 100))
    """A deposit above so many sats is credited at this depth; every other one at `origin_depth`. Ascending."""
    refund_depth: int = 100
    """How deep the anchor that shows a refusal has to lie before the refund: as for the largest deposits."""
    reclaim_blocks: int = 1_008  # 7 days * 144
    """After which a depositor takes an unswept coin back alone."""
    emergency_blocks: int = 12_960  # 90 days * 144
    """After which the council can spend a vault output that nobody has moved."""
    notice_blocks: int = 4_032  # 28 days * 144
    """Between the announcement of a signer set and its taking over."""
    takeover_margin_blocks: int = 144
    """Signers hand over only so long after the notice: no reorganisation takes the handing over below its end."""
    record_blocks: int = 2_016
    """For so long the peg remembers vault transactions, to undo them in a reorganisation."""
    min_deposit_sats: int = 10_000
    """The least deposit."""
    min_payout_sats: int = 10_000
    """The least payout, its maximum fee not counted."""
    min_vault_sats: int = 330
    """What a vault output keeps at least: below it Bitcoin's nodes relay none (dust)."""
    max_sweeps: int = 100
    """Deposits in one vault transaction."""
    max_payouts: int = 200
    """Payouts in one vault transaction; its weight stays far below what nodes relay (400,000)."""
    max_funding_bytes: int = 100_000
    """Of a transaction that makes a deposit, without its witnesses: evidence carries it."""
    max_evidence_bytes: int = 400_000
    """Of the evidence for one vault transaction."""
    relay_step: int = 1_000
    """Sat per 1,000 vB that a replacement pays more than what it replaces, for its own size (BIP-125)."""
    max_rate: int = 2_000_000
    """Sat per 1,000 vB: nobody signs above."""

    def depth_of(self, sats: int) -> int:
        """How deep the sweep of a deposit has to lie before its credit."""
        return max([self.origin_depth, *(depth for above, depth in self.credit_depths if sats > above)])


MAIN_RULES: Final = PegRules()
