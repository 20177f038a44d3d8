"""What a signer is told at start, and what its network's table says of the peg."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from eth_account.signers.local import LocalAccount

from bridge.rules import PegRules
from hyperdust.bitcoind import Login
from hyperdust.paths import state_dir
from hyperdust.signer.errors import SourceFault
from hyperdust.signer.rebuild import Limits

_TABLES: Final = Path(__file__).resolve().parents[2] / "genesis"


@dataclass(frozen=True, slots=True)
class SignerConfig:
    """Options of `hyperdust signer`."""

    account: LocalAccount
    """Its private key signs for the vault (BIP-340)."""
    rpc: str
    """JSON-RPC of the signer's own node."""
    bitcoin_rpc: str
    """Of the signer's own bitcoind, with a transaction index."""
    login: Login
    listen: str
    """HOST:PORT that other signers reach it at."""
    peers: tuple[str, ...]
    """HOST:PORT of the others."""
    genesis: str = "regtest"
    """A network's name, or a genesis file."""
    data_dir: Path = field(default_factory=lambda: state_dir() / "signer")
    """Folder of the protection file: belongs to the key."""
    limits: Limits = field(default_factory=Limits)
    poll_s: float = 10.0
    """Between two looks at the node and at bitcoind."""


@dataclass(frozen=True, slots=True)
class Network:
    """What signers have to know of a network before they ask anybody."""

    rules: PegRules
    bitcoin: str
    """Name of its Bitcoin network, as bitcoind says it."""


def load_network(source: str) -> Network:
    """Read a network's table.

    Raises:
        SourceFault: no such table, or none with a peg.
    """
    path = _TABLES / f"{source}.json" if "/" not in source and not source.endswith(".json") else Path(source)
    try:
        table: Any = json.loads(path.read_text(encoding="utf-8"))
        peg = table["peg"]
        if peg is None:
            raise SourceFault(f"{path}: this network has no peg yet, so there is nothing to sign")
        rules = PegRules(
            chain_id=int(table["chain_id"]),
            origin_depth=int(table["origin_depth_blocks"]),
            credit_depths=tuple((int(sats), int(depth)) for sats, depth in peg["credit_depths"]),
            refund_depth=int(peg["refund_depth_blocks"]),
            reclaim_blocks=int(peg["reclaim_blocks"]),
            emergency_blocks=int(peg["emergency_blocks"]),
            notice_blocks=int(peg["notice_blocks"]),
            takeover_margin_blocks=int(peg["takeover_margin_blocks"]),
            record_blocks=int(peg["record_blocks"]),
            min_deposit_sats=int(peg["min_deposit_sats"]),
            min_payout_sats=int(peg["min_payout_sats"]),
        )
        return Network(rules, str(table["bitcoin_network"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceFault(f"genesis table {path}: {error!r}; name a network or a file with --genesis") from error
