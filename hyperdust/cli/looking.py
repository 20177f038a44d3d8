"""`hyperdust bridge status`, `list`, `audit`: where deposits and withdrawals stand, whether the vault covers all."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hyperdust.cli.asking import Folder, Timeout, bitcoin_options, bridging, read_outpoint
from hyperdust.cli.options import (
    DEFAULT_RPC,
    BitcoinCookie,
    BitcoinPassword,
    BitcoinRpc,
    BitcoinUser,
    Json,
    Rpc,
    emit,
)

if TYPE_CHECKING:
    from bridge.deposits import Outpoint
    from hyperdust.bridging.following import Sources
    from hyperdust.bridging.keeping import Kept


def status(
    which: Annotated[
        str, typer.Argument(metavar="ID", help="A withdrawal's number, a deposit's txid:n, or its address.")
    ],
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    timeout: Timeout = 3600.0,
    folder: Folder = None,
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Where a deposit or a withdrawal stands: k of N confirmations, why it waits, about how long.

    Examples:
      hyperdust bridge status 0
      hyperdust bridge status 5f3b8d1c…e2:1 --json
      hyperdust bridge status bcrt1p… --wait
    """
    from hyperdust.bridging import following
    from hyperdust.bridging.deposit import announce
    from hyperdust.job import progress
    from hyperdust.paths import bridge_dir

    options = bitcoin_options(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    with bridging(rpc, options) as (sources, terms), progress() as say:
        if which.isdecimal():
            number = int(which)
            found = following.stand_withdrawal(sources, terms, number)
            if wait and not found.is_done:
                found = following.wait_withdrawal(sources, number, timeout, say)
        else:
            place = folder or bridge_dir()
            outpoint, kept = _find_deposit(sources, which, place)
            if outpoint is None and wait and kept is not None:
                outpoint = following.wait_payment(sources, kept, place, timeout, say)
            if outpoint is not None:
                found = following.stand_deposit(sources, terms, outpoint, kept)
            else:
                found = following.stand_unpaid(which, kept)
            if kept is not None and kept.chain_id == terms.chain_id and not found.is_swept:
                announce(sources.client, kept)  # again: nodes forget, and another one may be asked
            if wait and outpoint is not None and not found.is_done:
                found = following.wait_deposit(sources, outpoint, kept, timeout, say)
    emit(found.as_json(), as_json=as_json, text=found.summary())


def list_deposits(
    folder: Folder = None,
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Deposits whose files are on this machine, and where each stands.

    Examples:
      hyperdust bridge list
      hyperdust bridge list --json
    """
    from hyperdust.bridging.addresses import show_sats
    from hyperdust.bridging.following import find_payments, stand_deposit
    from hyperdust.bridging.keeping import list_kept
    from hyperdust.paths import bridge_dir

    rows, lines = [], []
    options = bitcoin_options(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    with bridging(rpc, options) as (sources, terms):
        for path, kept in list_kept(folder or bridge_dir()):
            if kept.chain_id != terms.chain_id:
                continue
            standings = [stand_deposit(sources, terms, at, kept) for at in find_payments(sources, kept)]
            rows.append(
                {
                    "address": kept.bitcoin_address,
                    "file": str(path),
                    "sats": kept.sats,
                    "to": "0x" + kept.binding.address.hex(),
                    "deposits": [one.as_json() for one in standings],
                }
            )
            lines.append(f"{kept.bitcoin_address}  {show_sats(kept.sats)}  {path}")
            lines += [f"  {one.summary()}" for one in standings] or ["  not paid, as far as is known here"]
    emit(
        rows, as_json=as_json, text="\n".join(lines) or "no deposits of this chain yet; see `hyperdust bridge deposit`"
    )


def audit(
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Whether the vault covers all BTC on the chain; with a bitcoind of yours, whether its coins are there.

    Examples:
      hyperdust bridge audit
      hyperdust bridge audit --bitcoin-rpc http://127.0.0.1:8332 --bitcoin-cookie ~/.bitcoin/.cookie --json
    """
    from hyperdust.bridging.auditing import run_audit, show_audit

    options = bitcoin_options(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    with bridging(rpc, options) as (sources, terms):
        found = run_audit(sources, terms)
    emit(found.as_json(), as_json=as_json, text=show_audit(found))
    if not found.ok:
        raise typer.Exit(1)


def _find_deposit(sources: "Sources", which: str, folder: Path) -> tuple["Outpoint | None", "Kept | None"]:
    """The payment that is meant, and the deposit's file where it is here; one of both at least."""
    from hyperdust.bridging.errors import NotOurs
    from hyperdust.bridging.following import find_payments
    from hyperdust.bridging.keeping import add_outpoint, find

    if ":" not in which:
        kept = find(folder, address=which)
        payments = find_payments(sources, kept)
        for one in payments:
            if one not in kept.outpoints:  # once it is swept, no bitcoind finds it by its address
                kept = add_outpoint(kept, one, folder)
        return payments[-1] if payments else None, kept
    place = read_outpoint(which)
    try:
        return place, find(folder, outpoint=place)
    except NotOurs:
        return place, None
