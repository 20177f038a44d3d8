"""Gifts: coins that anybody paid to a vault's script, found on this signer's bitcoind, to be taken into the vault."""

from collections.abc import Set as AbstractSet
from typing import Final

from bridge.peg_errors import NotMadeGood
from bridge.peg_state import PegState
from bridge.rounds import Gift
from bridge.scripts import vault_output
from bridge.vault import Draft
from hyperdust.signer.rebuild import Sources, gift_room, outpoint_of

_MANY: Final = 16
"""So many gifts are taken in although they are too little together: one round has no room for all of a crowd's."""


def find_gifts(state: PegState, sources: Sources, keys: AbstractSet[bytes] | None = None) -> tuple[Gift, ...]:
    """Unspent coins with the vault's script of any epoch, without the vault itself, confirmed deeply.

    The largest that one round's evidence carries. None without a vault: a first round sweeps deposits alone. With
    `keys`: of epochs whose signers are among them, so that nobody's coin for those who are gone holds up a round.
    """
    vault = outpoint_of(state.vault)
    if vault is None:
        return ()
    rules, limits = sources.rules, sources.limits
    able = [one for one in state.custodies if keys is None or len(keys & {*one.signers.keys}) >= one.signers.threshold]
    epochs = {vault_output(one, rules).script: one.epoch for one in able}
    found = [
        Gift(outpoint, coin.output.sats, epochs[coin.output.script])
        for outpoint, coin in sources.bitcoin.find_coins(tuple(epochs))
        if outpoint != vault and coin.confirmations >= limits.deposit_depth and not coin.from_coinbase
    ]
    found.sort(key=lambda one: (-one.sats, one.outpoint))
    left, chosen, known = gift_room(state, rules), list[Gift](), set[bytes]()
    for one in found:
        made = sources.bitcoin.load_transaction(one.outpoint.txid)
        if made is None or len(chosen) == rules.max_sweeps:
            continue
        size = len(made.encode_stripped())
        new = 0 if one.outpoint.txid in known else size
        if size <= rules.max_funding_bytes and new <= left:
            left -= new
            known.add(one.outpoint.txid)
            chosen.append(one)
    return tuple(sorted(chosen, key=lambda one: one.outpoint))


def check_enough(state: PegState, draft: Draft) -> None:
    """Check that a round makes a peg whole that owes more than it has: else each small gift would cost a wait.

    Raises:
        NotMadeGood: its gifts are too little, and few.
    """
    gifts = draft.round.gifts
    left = state.vault_sats + state.genesis_sats + sum(one.sats for one in gifts) - draft.fee
    if left < state.owed_sats and len(gifts) < _MANY:
        raise NotMadeGood(left, state.owed_sats)
