"""`hyperdust bridge publish-data`: final blocks onto Bitcoin, paid from the operator's own wallet."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

import json
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from hyperdust.cli.options import (
    DEFAULT_RPC,
    BitcoinCookie,
    BitcoinPassword,
    BitcoinRpc,
    BitcoinUser,
    Rpc,
    UsageFault,
)

_POLL_S: Final = 1.0


def publish_data(
    rpc: Rpc = DEFAULT_RPC,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Key and list of what was sent. Default: a folder of yours."),
    ] = None,
    wallet: Annotated[
        str, typer.Option("--wallet", metavar="NAME", help="Wallet of the bitcoind that pays.")
    ] = "hyperdust",
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    max_rate: Annotated[
        int, typer.Option("--max-rate", min=1_000, metavar="SATS", help="Sat per 1,000 vB above which it waits.")
    ] = 50_000,
    least_blocks: Annotated[
        int, typer.Option("--least-blocks", min=1, help="Wait for so many final blocks before a payload.")
    ] = 1,
    follow: Annotated[bool, typer.Option("--follow/--once", help="Go on for ever, or until all is confirmed.")] = False,
) -> None:
    """Post the chain's final blocks on Bitcoin, so that it can be rebuilt from there alone. One JSON line a payload.

    Only one payload is on its way at a time, so each waits for a Bitcoin block.

    Examples:
      hyperdust bridge publish-data
      hyperdust bridge publish-data --follow --least-blocks 32 --wallet data \
          --bitcoin-rpc http://127.0.0.1:8332 --bitcoin-cookie ~/.bitcoin/.cookie
    """
    from dataclasses import asdict

    from hyperdust.bitcoind import Bitcoind, Login
    from hyperdust.bridging.access import BitcoinOptions, devnet_options
    from hyperdust.data_publisher import Journal, NodeBlocks, Publisher
    from hyperdust.logging import LogFormat, LogLevel, set_up
    from hyperdust.paths import state_dir
    from hyperdust.rpc_client import RpcClient

    set_up(LogLevel.WARNING, LogFormat.CONSOLE)
    named = BitcoinOptions(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    options = named if bitcoin_rpc is not None else devnet_options(rpc)
    if options is None or options.rpc is None:
        raise UsageFault("a bitcoind with a wallet is needed; name yours with --bitcoin-rpc URL")
    login = Login(options.user, options.password, options.cookie)
    with RpcClient(rpc) as node, Bitcoind(options.rpc, login) as client, client.wallet(wallet) as paying:
        chain = str(node.call("eth_getBlockByNumber", "0x0", False)["hash"])[2:18]
        journal = Journal(folder or state_dir() / "publisher" / chain)
        publisher = Publisher(NodeBlocks(node), client, paying, journal, max_rate=max_rate)
        while True:
            sent = publisher.step(least_blocks)
            if sent is not None:
                print(json.dumps(asdict(sent)), flush=True)
            elif not follow and publisher.is_settled(least_blocks):
                return
            time.sleep(_POLL_S)
