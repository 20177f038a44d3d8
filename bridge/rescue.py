"""The council's way back: one transaction that moves a vault which has lain still to those whom it has named."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bridge.peg_errors import FeeAboveCap, RotationRefused, SurplusTooSmall, WithdrawalInvalid
from bridge.peg_state import PegState
from bridge.rounds import VERSION, cost_of
from bridge.rules import PegRules
from bridge.scripts import SignerSet, vault_output
from bridge.taproot import (
    Leaf,
    blank_witness,
    compute_sighashes,
    make_threshold_witness,
    vsize_of,
    with_witnesses,
)
from bridge.transactions import Input, Output, Transaction


@dataclass(frozen=True, slots=True)
class Rescue:
    """It waits for k signatures of the council."""

    transaction: Transaction
    """Without witnesses."""
    coin: Output
    """The vault output that it spends."""
    leaf: Leaf
    """The council's."""
    council: SignerSet
    fee: int
    """Sats, from the surplus."""
    vsize: int
    """Of the signed transaction, exactly."""

    @property
    def sighash(self) -> bytes:
        """What the council signs."""
        return compute_sighashes(self.transaction, (self.coin,), (self.leaf,))[0]

    def complete(self, signatures: Mapping[bytes, bytes]) -> Transaction:
        """The transaction to send, from signatures by x-only key.

        Raises:
            BadSignature, SignaturesMissing: by rule.
        """
        keys, threshold = self.council.keys, self.council.threshold
        witness = make_threshold_witness(self.leaf, keys, threshold, self.sighash, signatures)
        return with_witnesses(self.transaction, [witness])


def build_rescue(state: PegState, rate: int, rules: PegRules) -> Rescue:
    """All of the vault to the last custody that the council has named for it; the same for all who build it.

    Raises:
        PegFrozen: what comes next for a frozen peg is its repair.
        RotationRefused: the council has named nobody for this vault output.
        FeeAboveCap, WithdrawalInvalid: the rate is out of bounds, or leaves less than Bitcoin relays.
        SurplusTooSmall: the fee would be somebody's money.
    """
    state.check_running()
    if (vault := state.vault) is None or not state.rescuers:
        raise RotationRefused("custodies named by the council for the vault of now", 0, "one, on L2 first")
    if not 0 < rate <= rules.max_rate:
        raise FeeAboveCap("rate", rate, f"1 to {rules.max_rate} sat per 1,000 vB")
    held, council = vault_output(state.custody, rules), state.custody.council
    script = vault_output(state.rescuers[-1], rules).script
    place = Input(vault.txid, 0, b"", rules.emergency_blocks)
    bare = Transaction(VERSION, (place,), (Output(vault.sats, script),), 0)
    blank = blank_witness(held.fallback, len(council.keys), council.threshold)
    vsize = vsize_of(with_witnesses(bare, [blank]))
    if (fee := cost_of(rate, 4 * vsize)) > state.surplus_sats:
        raise SurplusTooSmall(state.surplus_sats, fee)
    if (left := vault.sats - fee) < rules.min_vault_sats:
        raise WithdrawalInvalid("what stays in the vault", left, f"at least {rules.min_vault_sats} sats")
    transaction = replace(bare, outputs=(Output(left, script),))
    return Rescue(transaction, Output(vault.sats, held.script), held.fallback, council, fee, vsize)
