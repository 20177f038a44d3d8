"""What commands about the bridge share: the node, the peg's terms, a bitcoind where there is one."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hyperdust.cli.options import UsageFault

if TYPE_CHECKING:
    from bridge.deposits import Outpoint
    from hyperdust.bitcoind import Bitcoind
    from hyperdust.bridging.access import BitcoinOptions
    from hyperdust.bridging.following import Sources
    from hyperdust.bridging.terms import Terms

Folder = Annotated[
    Path | None, typer.Option("--folder", metavar="DIR", help="Deposit files. Default: your bridge folder.")
]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait at most, with --wait.")]
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


def read_outpoint(text: str) -> "Outpoint":
    """What names a deposit on the command line.

    Raises:
        UsageFault: it is no txid:n.
    """
    from hyperdust.bridging.keeping import parse_outpoint

    try:
        return parse_outpoint(text)
    except ValueError as error:
        raise UsageFault(
            f"{text!r} is no deposit: txid:n is expected, as `hyperdust bridge deposit` prints it"
        ) from error
