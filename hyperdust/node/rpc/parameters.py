"""What methods take, once parsed: one type for each kind of JSON value. How they parse, `parsing` says."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, NewType, TypeAlias

Address = NewType("Address", bytes)
Hash = NewType("Hash", bytes)
Data = NewType("Data", bytes)
Quantity = NewType("Quantity", int)
Slot = NewType("Slot", bytes)
Count = NewType("Count", int)
Anything: TypeAlias = object
Percentiles = NewType("Percentiles", tuple[float, ...])

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
    access_list: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()
    authorizations: tuple[Authorization, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountOverride:
    """Fields of an account replaced for one call."""

    balance: int | None = None
    nonce: int | None = None
    code: bytes | None = None
    state: tuple[tuple[int, int], ...] | None = None
    state_diff: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class StateOverrides:
    """Accounts replaced for one call."""

    accounts: tuple[tuple[bytes, AccountOverride], ...] = ()


@dataclass(frozen=True, slots=True)
class BlockOverrides:
    """Fields of the block replaced for one call; names are the engine's."""

    number: int | None = None
    timestamp: int | None = None
    coinbase: bytes | None = None
    gas_limit: int | None = None
    base_fee: int | None = None
    prev_randao: bytes | None = None

    def as_changes(self) -> dict[str, Any]:
        """The fields that are set."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


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
class TracerOptions:
    """What debug_trace* is asked for; `tracer` None means struct logs."""

    tracer: str | None
    options: Mapping[str, object]
