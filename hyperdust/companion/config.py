"""What a companion, or whoever challenges one job, is told at start: one value."""

from dataclasses import dataclass, field
from pathlib import Path

from eth_account.signers.local import LocalAccount

from hyperdust.lies import CompanionLie
from hyperdust.paths import state_dir


@dataclass(frozen=True, slots=True)
class CompanionConfig:
    """Options of `hyperdust companion`."""

    account: LocalAccount
    """Key that is drawn, commits, proves and pays for its transactions; not a provider's of the same graph."""
    graphs: tuple[str, ...] = ("minilm",)
    """Names of the graphs whose jobs it checks."""
    rpc: str = "http://127.0.0.1:8545"
    """JSON-RPC of a node, for bonding, and for votes of validators against themselves."""
    work_grpc: str = "127.0.0.1:8547"
    """The node's work API."""
    backend: str = "native"
    """What executes jobs; best another one than most providers'."""
    data_dir: Path = field(default_factory=lambda: state_dir() / "companion")
    """Folder of its notes about jobs; made where it is missing."""
    bond: bool = True
    """Whether to bond the key; without, it does the duties that it is drawn for already."""
    lie: CompanionLie | None = None
    """Devnet only: what it does wrong on purpose, in each check."""

    @property
    def address(self) -> bytes:
        """Of the key."""
        return bytes.fromhex(self.account.address[2:])


@dataclass(frozen=True, slots=True)
class ChallengeConfig:
    """Options of `hyperdust challenge`."""

    account: LocalAccount
    """Key that proves, pays, and gets the challenger's share."""
    job: int
    graph: str = "minilm"
    """Name of the job's graph."""
    rpc: str = "http://127.0.0.1:8545"
    """JSON-RPC of a node, for the price of a demand alone."""
    work_grpc: str = "127.0.0.1:8547"
    backend: str = "native"
    data_dir: Path = field(default_factory=lambda: state_dir() / "challenge")
    timeout_s: float = 600.0

    @property
    def address(self) -> bytes:
        """Of the key."""
        return bytes.fromhex(self.account.address[2:])
