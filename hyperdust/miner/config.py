"""What a miner is told at start: one value."""

from dataclasses import dataclass, field
from pathlib import Path

from eth_account.signers.local import LocalAccount

from hyperdust.miner.fault import Liar
from hyperdust.paths import state_dir


@dataclass(frozen=True, slots=True)
class MinerConfig:
    """Options of `hyperdust miner`."""

    account: LocalAccount
    """Key that seals blocks, provides jobs and pays for its transactions."""
    graphs: tuple[str, ...] = ("minilm",)
    """Names of the graphs that it serves; it mines rows of its own with the first that has mining products."""
    rpc: str = "http://127.0.0.1:8545"
    """JSON-RPC of a node, for bonding alone."""
    work_grpc: str = "127.0.0.1:8547"
    """The node's work API."""
    backend: str = "native"
    """What computes the operators that are not mined."""
    liar: Liar | None = None
    """Devnet only: what it does wrong on purpose."""
    data_dir: Path = field(default_factory=lambda: state_dir() / "miner")
    """Folder of the journals of unfinished jobs; made where it is missing."""
    bond: bool = True
    """Whether to bond the key and serve the graphs; without, it only mines."""
    rebond: bool = False
    """Devnet only: bond again after each slash. An honest miner that was slashed computes falsely, and stays away."""
    run_due: bool = True
    """Whether to run scheduled calls where the tip is worth it."""

    @property
    def coinbase(self) -> bytes:
        """Address of the key."""
        return bytes.fromhex(self.account.address[2:])
