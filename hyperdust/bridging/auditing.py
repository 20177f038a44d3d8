"""The vault's book against all that is owed, and against Bitcoin itself where a bitcoind of your own is given."""

from bridge.deposits import Outpoint
from bridge.scripts import vault_output
from hyperdust.bitcoind import Bitcoind
from hyperdust.bridging.addresses import show_sats
from hyperdust.bridging.following import Sources, read_announced
from hyperdust.bridging.gift import show_missing
from hyperdust.bridging.looking import find_spender, find_unspent
from hyperdust.bridging.standing import Audit, audit, vault_script
from hyperdust.bridging.terms import Terms
from hyperdust.rpc_client import RpcClient


def run_audit(sources: Sources, terms: Terms) -> Audit:
    """Ask everybody.

    Raises:
        NodeFault: the bitcoind cannot be asked.
    """
    if sources.bitcoin is None:
        return audit(terms, seen_on_bitcoin=None, unswept_sats=0)
    unswept = sum_unswept(sources.client, sources.bitcoin, terms)
    return audit(terms, seen_on_bitcoin=is_vault_there(sources.bitcoin, terms), unswept_sats=unswept)


def is_vault_there(bitcoin: Bitcoind, terms: Terms) -> bool | None:
    """Whether the vault's output is as the book says, or is being spent into the next vault output; None: no vault yet.

    The book ends six blocks below Bitcoin's tip, so the newest vault transactions are not in it.
    """
    vault = terms.state.vault
    if vault is None:
        return None
    place, state = Outpoint(vault.txid, 0), terms.state
    script = vault_script(terms)
    if (coin := find_unspent(bitcoin, place)) is not None:
        return (coin.output.sats, coin.output.script) == (vault.sats, script)
    spender = find_spender(bitcoin, place)
    holders = (*state.may_hold(terms.height), *state.rescuers)
    scripts = [vault_output(one, terms.rules).script for one in holders]
    return spender is not None and spender.transaction.outputs[0].script in scripts


def sum_unswept(client: RpcClient, bitcoin: Bitcoind, terms: Terms) -> int:
    """What lies at deposit addresses that the node was told of, confirmed and not swept."""
    scripts = sorted({terms.output_of(binding).script for binding in read_announced(client, terms)})
    if not scripts:
        return 0
    return sum(coin.sats for coin in bitcoin.scan_outputs([f"raw({script.hex()})" for script in scripts]))


def show_audit(found: Audit) -> str:
    """The same for people."""
    lines = [
        f"vault      {show_sats(found.vault_sats)}" + (f" in {found.vault_outpoint}" if found.vault_outpoint else ""),
        f"on L2      {show_sats(found.supply_sats)} that the vault has to cover",
        f"queued     {show_sats(found.queued_sats)} burned, not yet paid",
        f"swept      {show_sats(found.uncredited_sats)} not yet credited",
        f"unswept    {show_sats(found.unswept_sats)} at deposit addresses, still their owners'",
        f"surplus    {show_sats(found.surplus_sats)}: pays the anchors",
    ]
    if found.genesis_sats:
        lines.append(
            f"genesis    {show_sats(found.genesis_sats)} of development coins, backed by nothing, left out above"
        )
    if found.frozen is not None:
        lines.append(f"warning    the peg is frozen ({found.frozen}): nothing is credited or paid; blocks go on")
        if found.gift_address is not None and found.missing_sats != 0:
            lines.append(f"missing    {show_missing(found.missing_sats, found.gift_address)}")
    if found.seen_on_bitcoin is None:
        why = "give --bitcoin-rpc URL" if found.vault_outpoint else "there is no vault output yet"
        lines.append(f"not compared with Bitcoin: {why}")
    elif not found.seen_on_bitcoin:
        lines.append("warning    your bitcoind does not have the vault's output as the book says")
    lines.append("ok: the vault covers all of it" if found.ok else "NOT ok")
    return "\n".join(lines)
