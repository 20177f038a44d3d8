"""What a network fixes: every constant of genesis/<network>.json that a rule reads, as one frozen value."""

from dataclasses import dataclass, field
from typing import Final

GRAPH_REGISTRY: Final = (0x5001).to_bytes(20, "big")
BONDS: Final = (0x5002).to_bytes(20, "big")
JOB_MARKET: Final = (0x5003).to_bytes(20, "big")
DUST: Final = (0x5004).to_bytes(20, "big")
COURT: Final = (0x5005).to_bytes(20, "big")
BRIDGE: Final = (0x5006).to_bytes(20, "big")
AGENT_FACTORY: Final = (0x5007).to_bytes(20, "big")
SCHEDULER: Final = (0x5008).to_bytes(20, "big")
AGENT: Final = (0x5009).to_bytes(20, "big")
AGENT_COIN: Final = (0x500A).to_bytes(20, "big")
AGENT_ITEMS: Final = (0x500B).to_bytes(20, "big")


@dataclass(frozen=True, slots=True)
class FinalityParams:
    """Constants of work-weighted finality (`consensus.finality`); the defaults are the main network's."""

    epoch_blocks: int = 32
    """Blocks between checkpoints."""
    committee_blocks: int = 14_400  # a day of 6 s
    """Blocks of the window whose coinbases vote; more than `epoch_blocks`."""
    threshold_numerator: int = 2
    """Share of the window that justifies a link."""
    threshold_denominator: int = 3
    anchor_depth_blocks: int = 6
    """Confirmations of an anchor that make its block `finalized` in JSON-RPC."""
    genesis_validators: tuple[bytes, ...] = ()
    """Addresses that fill the window at and below genesis, in turn."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """k of n x-only keys that hold coins on Bitcoin (`bridge.scripts.SignerSet`)."""

    threshold: int
    keys: tuple[bytes, ...]
    """Ascending."""
    group_key: bytes = b""
    """Empty: none."""


@dataclass(frozen=True, slots=True)
class PegParams:
    """Constants of the peg (`bridge.rules.PegRules` says what each means), and who holds the vault at first."""

    signers: KeySet
    council: KeySet
    credit_depths: tuple[tuple[int, int], ...]
    refund_depth_blocks: int
    reclaim_blocks: int
    emergency_blocks: int
    notice_blocks: int
    takeover_margin_blocks: int
    record_blocks: int
    min_deposit_sats: int
    min_payout_sats: int


@dataclass(frozen=True, slots=True)
class ChainParams:
    """Constants of one network."""

    network: str
    """Name of the table."""
    chain_id: int
    """EIP-155."""
    genesis_timestamp: int
    """Unix seconds."""
    gas_limit: int
    """Gas of every block: the header's field has to equal it."""
    genesis_base_fee: int
    """Wei a gas in genesis."""
    spacing_s: int
    """Target seconds between blocks."""
    asert_half_life_s: int
    """Seconds behind schedule that halve the difficulty."""
    difficulty_floor: int
    """int8 MACs; also genesis' difficulty."""
    max_future_s: int
    """How far a timestamp may lie ahead of a node's clock."""
    final_window_blocks: int
    """Blocks between a job's reveal and its being final."""

    finality: FinalityParams = field(default_factory=FinalityParams)
    """Checkpoints and their committees."""
    fork: str = "Osaka"
    """EVM rules of every block."""
    origin_depth_blocks: int = 6
    """Bitcoin blocks that have to lie on top of an origin."""
    bitcoin_network: str = "regtest"
    """Bitcoin's name, as `getblockchaininfo` says it, of the network that origins lie on."""
    genesis_supply_wei: int = 0
    """BTC in genesis, backed by nothing; 0 on the main network."""
    peg: PegParams | None = None
    """None: nobody holds a vault, and blocks carry no evidence."""

    @property
    def is_devnet(self) -> bool:
        """Whether development-only commands (faults, known keys) are allowed on this chain id."""
        return self.chain_id in DEVNET_CHAIN_IDS


DEVNET_CHAIN_IDS: Final = range(48_000_000, 49_000_000)
