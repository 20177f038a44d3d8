"""What commands about the bridge share: the node, the peg's terms, a bitcoind where there is one."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from hyperdust.bitcoind import Bitcoind
    from hyperdust.bridging.access import BitcoinOptions
    from hyperdust.bridging.following import Sources
    from hyperdust.bridging.terms import Terms

NO_BITCOIN: Final = 3
"""Exit code where the network has no Bitcoin."""


def bitcoin_options(rpc: str | None, user: str, password: str, cookie: Path | None) -> "BitcoinOptions":
    """What `--bitcoin-rpc` and the login beside it say."""
    from hyperdust.bridging.access import BitcoinOptions

    return BitcoinOptions(rpc, user, password, cookie)


@contextmanager
def exits_without_bitcoin() -> Iterator[None]:
    """Turn `NoBitcoin` into its exit code."""
    from hyperdust.bridging.errors import NoBitcoin

    try:
        yield
    except NoBitcoin as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(NO_BITCOIN) from error


@contextmanager
def bridging(rpc: str, options: "BitcoinOptions | None") -> Iterator[tuple["Sources", "Terms"]]:
    """The node, the peg's terms, and a bitcoind where there is one."""
    from hyperdust.bridging.access import open_bitcoin
    from hyperdust.bridging.following import Sources
    from hyperdust.bridging.terms import read_terms
    from hyperdust.rpc_client import RpcClient

    with exits_without_bitcoin(), RpcClient(rpc) as client:
        terms = read_terms(client)
        bitcoin = None if options is None else open_bitcoin(options, terms.bitcoin, terms.chain_id, rpc)
        try:
            yield Sources(client, bitcoin), terms
        finally:
            if bitcoin is not None:
                bitcoin.close()


def devnet_purse(sources: "Sources", terms: "Terms") -> tuple["Bitcoind", str] | None:
    """The devnet's own wallet; None off a devnet, where people pay from theirs."""
    from chain.params import DEVNET_CHAIN_IDS
    from hyperdust.bridging.errors import NotStanding
    from hyperdust.devnet_bitcoin import WALLET

    if terms.chain_id not in DEVNET_CHAIN_IDS:
        return None
    if sources.bitcoin is None:
        raise NotStanding(
            "the devnet's bitcoind is not found on this machine, so nothing can pay; name it with --bitcoin-rpc, "
            "--bitcoin-user and --bitcoin-password (`bitcoin` in the devnet's ready file), or give --no-pay"
        )
    return sources.bitcoin, WALLET
