"""What methods take, once parsed: one type for each kind of JSON value. How they parse, `parsing` says."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NewType, TypeAlias

from chain.blocks import Withdrawal

Address = NewType("Address", bytes)
Hash = NewType("Hash", bytes)
Data = NewType("Data", bytes)
Quantity = NewType("Quantity", int)
Slot = NewType("Slot", bytes)
Count = NewType("Count", int)
Anything: TypeAlias = object
Percentiles = NewType("Percentiles", tuple[float, ...])
RawTransactions = NewType("RawTransactions", tuple[bytes, ...])

TAGS: Final = ("latest", "pending", "earliest", "safe", "finalized")


@dataclass(frozen=True, slots=True)
class BlockReference:
    """A block by number, tag or hash; exactly one is set."""

    number: int | None = None
    tag: str | None = None
    hash: bytes | None = None
    require_canonical: bool = False


LATEST: Final = BlockReference(tag="latest")


@dataclass(frozen=True, slots=True)
class Authorization:
    """A signed delegation of EIP-7702."""

    chain_id: int
    address: bytes
    nonce: int
    y_parity: int
    r: int
    s: int


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A transaction that nobody signed: what eth_call and eth_estimateGas take."""

    sender: bytes = bytes(20)
    to: bytes | None = None
    gas: int | None = None
    gas_price: int | None = None
    max_fee_per_gas: int | None = None
    max_priority_fee_per_gas: int | None = None
    value: int = 0
    nonce: int | None = None
    data: bytes = b""
    chain_id: int | None = None
    access_list: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()
    blob_hashes: tuple[bytes, ...] = ()
    max_fee_per_blob_gas: int | None = None
    authorizations: tuple[Authorization, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountOverride:
    """Fields of an account replaced for one call."""

    balance: int | None = None
    nonce: int | None = None
    code: bytes | None = None
    state: tuple[tuple[int, int], ...] | None = None
    state_diff: tuple[tuple[int, int], ...] = ()
    move_precompile_to: bytes | None = None


@dataclass(frozen=True, slots=True)
class StateOverrides:
    """Accounts replaced for one call."""

    accounts: tuple[tuple[bytes, AccountOverride], ...] = ()


@dataclass(frozen=True, slots=True)
class BlockOverrides:
    """Fields of the block replaced for one call; all but the last three are the engine's by name."""

    number: int | None = None
    timestamp: int | None = None
    coinbase: bytes | None = None
    gas_limit: int | None = None
    base_fee: int | None = None
    prev_randao: bytes | None = None
    difficulty: int | None = None
    blob_base_fee: int | None = None
    beacon_root: bytes | None = None
    """For simulations."""
    withdrawals: tuple[Withdrawal, ...] | None = None
    """For simulations."""

    def as_changes(self) -> dict[str, Any]:
        """The fields of the engine's environment that are set."""
        names = [field.name for field in fields(self) if field.name not in _NOT_ENVIRONMENT]
        return {name: value for name in names if (value := getattr(self, name)) is not None}


_NOT_ENVIRONMENT: Final = ("blob_base_fee", "beacon_root", "withdrawals")


@dataclass(frozen=True, slots=True)
class SimulatedBlock:
    """One block of a simulation."""

    block: BlockOverrides = BlockOverrides()
    overrides: StateOverrides = StateOverrides()
    calls: tuple[CallRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class Simulation:
    """What eth_simulateV1 takes."""

    blocks: tuple[SimulatedBlock, ...]
    validation: bool
    trace_transfers: bool
    full_transactions: bool


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which logs: a block or a range, addresses, topics by position (empty = any)."""

    block_hash: bytes | None = None
    from_block: BlockReference | None = None
    to_block: BlockReference | None = None
    addresses: frozenset[bytes] = frozenset()
    topics: tuple[frozenset[bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class StorageRequest:
    """Slots by account."""

    accounts: tuple[tuple[bytes, tuple[bytes, ...]], ...]


@dataclass(frozen=True, slots=True)
class ProofKey:
    """A slot to prove, and how the answer shows it: as long as it was asked, as geth does."""

    slot: int
    shown: str


@dataclass(frozen=True, slots=True)
class PayloadAttributes:
    """What a consensus client says about a block that it wants."""

    timestamp: int
    prev_randao: bytes
    coinbase: bytes
    withdrawals: tuple[Withdrawal, ...]
    beacon_root: bytes


@dataclass(frozen=True, slots=True)
class TracerOptions:
    """What debug_trace* is asked for; `tracer` None means struct logs."""

    tracer: str | None
    options: Mapping[str, object]
