"""What the gateway is told at start."""

from dataclasses import dataclass, field
from pathlib import Path

from eth_account.signers.local import LocalAccount

from chain.errors import NodeFault
from hyperdust.job import DEADLINE_BLOCKS
from hyperdust.paths import state_dir
from hyperdust.wallet import WEI_PER_BTC

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Unguarded(NodeFault):
    """Strangers could spend the key's coins."""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Options of `hyperdust gateway`."""

    account: LocalAccount
    """Key that pays."""
    rpc: str = "http://127.0.0.1:8545"
    host: str = "127.0.0.1"
    port: int = 8700
    graphs: tuple[str, ...] = ()
    """Names or folders of graphs to offer; none: those that ship and take text."""
    api_key: str | None = None
    """Bearer token that requests have to carry; None: whoever reaches the port pays with this key."""
    fee_wei: int = WEI_PER_BTC // 10**5
    """What each job pays; the market pays all of it out."""
    max_fee_wei: int = WEI_PER_BTC // 10**4
    """What one request may cost: the fees of its jobs, and an agent's price for each."""
    budget_wei: int = WEI_PER_BTC // 10**3
    """What all requests of an hour may cost, gas included."""
    until_final: bool = False
    """Whether to answer only what is past every dispute."""
    timeout_s: float = 120.0
    """How long one request waits for its answer."""
    concurrency: int = 8
    """Requests served at once."""
    body_bytes: int = 2**18
    """Longest request."""
    provider: bytes = bytes(20)
    """Who answers what is asked of graphs; zeros: drawn by the market."""
    deadline_blocks: int = DEADLINE_BLOCKS
    """How long a job may stay unanswered before its money comes back."""
    data_dir: Path = field(default_factory=lambda: state_dir() / "gateway")
    """Folder of what was spent in the last hour, and of payments that are not over."""

    def __post_init__(self) -> None:
        """Refuse to give a key away.

        Raises:
            Unguarded
        """
        if self.host not in LOOPBACK and not self.api_key:
            raise Unguarded(
                f"--host {self.host} is open to other machines, and each request spends coins; give --api-key"
            )
