"""Gifts: coins that anybody paid to a vault's script, found on this signer's bitcoind, to be taken into the vault."""

from bridge.peg_state import PegState
from bridge.rounds import Gift
from bridge.scripts import vault_output
from hyperdust.signer.rebuild import MAX_GIFT_FUNDING_BYTES, Sources, outpoint_of


def find_gifts(state: PegState, sources: Sources) -> tuple[Gift, ...]:
    """Unspent coins with the vault's script of any epoch, without the vault itself, confirmed deeply.

    The largest that one round's evidence carries. None without a vault: a first round sweeps deposits alone.
    """
    vault = outpoint_of(state.vault)
    if vault is None:
        return ()
    rules, limits = sources.rules, sources.limits
    epochs = {vault_output(one, rules).script: one.epoch for one in state.custodies}
    found = [
        Gift(outpoint, coin.output.sats, epochs[coin.output.script])
        for outpoint, coin in sources.bitcoin.find_coins(tuple(epochs))
        if outpoint != vault and coin.confirmations >= limits.deposit_depth and not coin.from_coinbase
    ]
    found.sort(key=lambda one: (-one.sats, one.outpoint))
    left, chosen = MAX_GIFT_FUNDING_BYTES, list[Gift]()
    for one in found:
        made = sources.bitcoin.load_transaction(one.outpoint.txid)
        size = 0 if made is None else len(made.encode_stripped())
        if 0 < size <= left and len(chosen) < rules.max_sweeps:
            left -= size
            chosen.append(one)
    return tuple(sorted(chosen, key=lambda one: one.outpoint))
