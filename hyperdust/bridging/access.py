"""Which bitcoind a command asks: the one named by options, else that of the devnet that runs on this machine."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bridge.params import BitcoinParams
from chain.errors import NodeFault
from chain.params import DEVNET_CHAIN_IDS
from hyperdust.bitcoind import Bitcoind, Login
from hyperdust.bridging.errors import NotStanding
from hyperdust.paths import state_dir

_BITCOIN_PORT: Final = 10
"""Where bitcoind's RPC lies from a devnet's first port on (interfaces.md)."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_BACKOFF_S: Final = (0.1, 0.3)


@dataclass(frozen=True, slots=True)
class BitcoinOptions:
    """`--bitcoin-rpc` and how to log in there."""

    rpc: str | None = None
    user: str = ""
    password: str = ""
    cookie: Path | None = None


def open_named(options: BitcoinOptions, network: BitcoinParams) -> Bitcoind | None:
    """The bitcoind that options name, checked to follow the right network; None: they name none.

    Raises:
        NodeFault: it cannot be used; by its rule.
    """
    if options.rpc is None:
        return None
    if options.cookie is None and not options.user:
        raise NotStanding("--bitcoin-rpc needs --bitcoin-cookie FILE, or --bitcoin-user and --bitcoin-password")
    client = Bitcoind(options.rpc, Login(options.user, options.password, options.cookie), backoff_s=_BACKOFF_S)
    try:
        client.check_network(network.name)
    except BaseException:
        client.close()
        raise
    return client


def open_bitcoin(options: BitcoinOptions, network: BitcoinParams, chain_id: int, rpc: str) -> Bitcoind | None:
    """The same, and on a devnet of this machine its own bitcoind where options name none; None while it is away.

    Raises:
        NodeFault: the named one cannot be used; by its rule.
    """
    if options.rpc is not None or chain_id not in DEVNET_CHAIN_IDS or (found := devnet_options(rpc)) is None:
        return open_named(options, network)
    try:
        return open_named(found, network)
    except NodeFault:
        return None


def devnet_options(rpc: str) -> BitcoinOptions | None:
    """How to reach the bitcoind of the devnet whose node answers at a URL, if it runs here as the same user."""
    where = urlsplit(rpc)
    if where.hostname not in _LOOPBACK or where.port is None:
        return None
    port = where.port + _BITCOIN_PORT
    try:
        lines = config_link(port).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    said = dict(line.split("=", 1) for line in lines if "=" in line)
    if said.get("rpcport") != str(port):
        return None
    return BitcoinOptions(f"http://127.0.0.1:{port}", said.get("rpcuser", ""), said.get("rpcpassword", ""))


def config_link(rpc_port: int) -> Path:
    """Where a devnet leaves a link to its bitcoind's configuration, which only its user can read."""
    return state_dir() / "bitcoind" / f"{rpc_port}.conf"


def leave_link(rpc_port: int, config: Path) -> None:
    """Leave it; a devnet with other folders took the same port before."""
    link = config_link(rpc_port)
    link.parent.mkdir(parents=True, exist_ok=True)
    part = link.with_suffix(f".{os.getpid()}.part")
    part.unlink(missing_ok=True)
    part.symlink_to(config.resolve())
    part.replace(link)
