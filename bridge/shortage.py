"""What a peg that owes more than it has is asked for: one gift that makes it whole, and where it is paid to."""

from typing import Final

from bridge.deposits import Outpoint
from bridge.params import BitcoinParams
from bridge.peg_state import PegState
from bridge.rounds import Gift, Round, compute_bill
from bridge.rules import PegRules
from bridge.scripts import address_of, vault_output
from bridge.taproot import Path

ASKED_RATE: Final = 20_000
"""Sat per 1,000 vB that the asked gift pays for its own round: what is left over becomes surplus."""


def compute_missing(state: PegState, height: int, rules: PegRules, rate: int = ASKED_RATE) -> int:
    """Sats that one gift has to bring, the fee of taking it in included; 0: nothing is missing.

    Args:
        state: what `peg_repair` would restore, covered or not; with a vault.
        height: of Bitcoin, now.
        rules: of the network.
        rate: sat per 1,000 vB.
    """
    if state.surplus_sats >= 0:
        return 0
    gift = Gift(Outpoint(bytes(32), 0), 1, state.custody.epoch)
    planned = Round(rate, Path.SCRIPT, height, (), (), None, (gift,))
    return compute_bill(state, planned, {}, rules).fee - state.surplus_sats


def gift_address(state: PegState, rules: PegRules, network: BitcoinParams) -> str:
    """The vault's own address, as people write it."""
    return address_of(vault_output(state.custody, rules), network)
