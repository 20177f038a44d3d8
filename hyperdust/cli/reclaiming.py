"""`hyperdust bridge reclaim`: a deposit back that nobody swept, by its owner's key."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hyperdust.cli.asking import Folder, bitcoin_options, bridging, read_outpoint
from hyperdust.cli.options import (
    DEFAULT_RPC,
    BitcoinCookie,
    BitcoinPassword,
    BitcoinRpc,
    BitcoinUser,
    Json,
    Rpc,
    UsageFault,
    check_login,
    emit,
)

if TYPE_CHECKING:
    from hyperdust.bitcoind import Bitcoind
    from hyperdust.bridging.access import BitcoinOptions


def reclaim(
    outpoint: Annotated[str, typer.Argument(metavar="OUTPOINT", help="The deposit: txid:n.")],
    to: Annotated[str, typer.Option("--to", metavar="BTC_ADDR", help="Where the coin goes.")],
    send: Annotated[bool, typer.Option("--send", help="Broadcast it; else it is only built and shown.")] = False,
    fee_rate: Annotated[
        float | None, typer.Option("--fee-rate", min=1, metavar="SAT/VB", help="Default: what bitcoind estimates.")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", metavar="FILE", help="Secret key in hex, where you gave --user-key."),
    ] = None,
    folder: Folder = None,
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Take a deposit back that nobody has swept for 1,008 blocks: by your key alone, with no node and no signer.

    Examples:
      hyperdust bridge reclaim 5f3b8d1c…e2:1 --to bc1q… --bitcoin-rpc http://127.0.0.1:8332 --bitcoin-cookie FILE
      hyperdust bridge reclaim 5f3b8d1c…e2:1 --to bc1q… --send --fee-rate 5
    """
    from hyperdust.bridging.addresses import show_sats
    from hyperdust.bridging.keeping import find, list_kept, read_secret
    from hyperdust.bridging.reclaim import build_reclaim, find_coin, read_rate, send_reclaim
    from hyperdust.paths import bridge_dir

    place = read_outpoint(outpoint)
    options = bitcoin_options(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    secret = None if secret_file is None else read_secret(secret_file)
    with _own_bitcoin(rpc, options) as bitcoin:
        if len(networks := {kept.network for _, kept in list_kept(folder or bridge_dir())}) == 1:
            bitcoin.check_network(networks.pop())  # first: another network has no such coin, and that would frighten
        coin = find_coin(bitcoin, place)
        kept = find(folder or bridge_dir(), script=coin.output.script)
        bitcoin.check_network(kept.network)
        rate = read_rate(bitcoin) if fee_rate is None else int(fee_rate * 1_000)
        made = build_reclaim(kept, coin, to, rate, secret)
        sent = send_reclaim(bitcoin, made) if send else None
    waits = f"Bitcoin takes it in {made.waits} blocks" if made.waits else "Bitcoin takes it now; --send broadcasts it"
    text = f"{show_sats(made.sats)} to {to}, fee {made.fee} sats\n"
    text += f"{made.raw.hex()}\n{waits}" if sent is None else f"sent as {sent}"
    emit(made.as_json() | {"sent": sent is not None}, as_json=as_json, text=text)


@contextmanager
def _own_bitcoin(rpc: str, options: "BitcoinOptions") -> Iterator["Bitcoind"]:
    """A bitcoind, without asking a node where one is named."""
    from hyperdust.bitcoind import Bitcoind, Login

    if options.rpc is not None:
        check_login(options.rpc, options.user, options.cookie)
        with Bitcoind(options.rpc, Login(options.user, options.password, options.cookie)) as bitcoin:
            yield bitcoin
        return
    with bridging(rpc, options) as (sources, _):
        if sources.bitcoin is None:
            raise UsageFault("a bitcoind is needed to see the coin; name yours with --bitcoin-rpc URL")
        yield sources.bitcoin
