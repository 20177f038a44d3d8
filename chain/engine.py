"""The EVM behind one seam: the only file that knows an engine (revm, in `core/`).

Pure: state comes in through `read_many`, writes go out; what to do with them is the caller's business. Over 400 lines,
half of them docstrings: one seam, one file.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, NoReturn, TypeAlias

import hyperdust_core
from hyperdust_core import Log, Receipt, StateCache, Transaction

from chain.errors import NodeFault
from chain.transactions import TransactionInvalid, transaction_error

__all__ = [
    "BLOB_SCHEDULES",
    "SYSTEM_ADDRESS",
    "AccountOverride",
    "AccountProof",
    "BlobSchedule",
    "BlockEnvironment",
    "CallMessage",
    "CallResult",
    "Executed",
    "Log",
    "Precompile",
    "ReadMany",
    "Receipt",
    "StateCache",
    "StorageProof",
    "SystemCall",
    "Transaction",
    "Writes",
    "account_proof",
    "call",
    "create_access_list",
    "decode_transactions",
    "execute",
    "genesis_state",
    "simulate",
    "trace_transactions",
]

ReadMany: TypeAlias = Callable[[list[bytes]], Sequence[bytes | None]]
"""Answers the keys of `chain.state`, in order; None where there is nothing."""

Writes: TypeAlias = tuple[tuple[bytes, bytes | None], ...]
"""Keys of `chain.state` with their new values, to be applied in order; None removes."""

Precompile: TypeAlias = tuple[bytes, str | Callable[[bytes], bytes | None], int, int | tuple[int, ...]]
"""Address, name of a native kernel or a pure function, base gas, gas per word of input; a kernel that plans its work
takes a tuple: gas per word, then by kind of work gas per 1,024 units. None as the output, or not enough gas, consumes
all gas and fails the call. The name "absent" takes one of Ethereum's away; functions stand at addresses that are not
warm."""

SYSTEM_ADDRESS: Final = bytes.fromhex("fffffffffffffffffffffffffffffffffffffffe")  # EIP-4788


@dataclass(frozen=True, slots=True)
class BlobSchedule:
    """A fork's blob parameters (EIP-7840)."""

    target: int
    """Blobs per block that leave the price as it is."""
    maximum: int
    """Blobs per block."""
    update_fraction: int
    """How slowly the price moves."""


_CANCUN: Final = BlobSchedule(3, 6, 3_338_477)
_PRAGUE: Final = BlobSchedule(6, 9, 5_007_716)
BLOB_SCHEDULES: Final[Mapping[str, BlobSchedule]] = {
    "Cancun": _CANCUN,
    "Prague": _PRAGUE,
    "Osaka": _PRAGUE,
    "BPO1": BlobSchedule(10, 15, 8_346_193),
    "BPO2": BlobSchedule(14, 21, 11_684_671),
}


@dataclass(frozen=True, slots=True)
class BlockEnvironment:
    """What a block says to its transactions."""

    chain_id: int
    """EIP-155."""
    fork: str
    """Frontier ... Osaka, BPO1, BPO2."""
    number: int
    """Height."""
    timestamp: int
    """Unix seconds."""
    coinbase: bytes
    """Receives the tips."""
    gas_limit: int
    """Of the block."""
    base_fee: int
    """Wei; 0 before London."""
    prev_randao: bytes
    """The beacon; ignored before Paris."""
    parent_hash: bytes | None
    """EIP-2935; None leaves its system call out."""
    parent_beacon_root: bytes | None
    """Hash of the origin (EIP-4788); None leaves its system call out."""
    difficulty: int = 0
    """Before Paris only."""
    excess_blob_gas: int = 0
    """EIP-4844."""
    allow_blobs: bool = False
    """Whether type 3 transactions are taken; our chain refuses them."""
    blob_schedule: BlobSchedule | None = None
    """None: the fork's own."""

    @property
    def _blobs(self) -> BlobSchedule:
        return self.blob_schedule or BLOB_SCHEDULES.get(self.fork, _CANCUN)

    @property
    def max_blobs(self) -> int:
        """Blobs per block."""
        return self._blobs.maximum

    @property
    def blob_update_fraction(self) -> int:
        """How slowly the price of blob gas moves."""
        return self._blobs.update_fraction


@dataclass(frozen=True, slots=True)
class SystemCall:
    """A call from SYSTEM_ADDRESS with 30,000,000 gas that the block does not count; it must not fail."""

    to: bytes
    """The contract."""
    data: bytes
    """Its input."""
    request_type: int | None = None
    """Makes a request (EIP-7685) of this type from the output, unless that is empty."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What a block does."""

    receipts: tuple[Receipt, ...]
    """Of the included transactions."""
    gas_used: int
    """By them."""
    logs_bloom: bytes
    """Union of the receipts' blooms."""
    writes: Writes
    """State and trie nodes."""
    state_root: bytes
    """After the block."""
    receipts_root: bytes
    """Root of the receipts' trie."""
    transactions_root: bytes
    """Root of the trie of the included transactions."""
    withdrawals_root: bytes | None
    """From Shanghai on."""
    requests: tuple[bytes, ...]
    """Type byte and data (EIP-7685), without the empty ones."""
    requests_hash: bytes | None
    """From Prague on."""
    included: tuple[int, ...]
    """Indices of the included transactions."""
    skipped: tuple[tuple[int, TransactionInvalid], ...]
    """Indices and reasons of the others."""
    blob_gas_used: int
    """EIP-4844."""


@dataclass(frozen=True, slots=True)
class AccountOverride:
    """What an account holds; None leaves a field as it is (as 0 or empty in genesis)."""

    balance: int | None = None
    """Wei."""
    nonce: int | None = None
    """Transactions sent."""
    code: bytes | None = None
    """Runtime code."""
    state: Mapping[int, int] | None = None
    """Replaces the whole storage."""
    state_diff: Mapping[int, int] | None = None
    """Replaces single slots."""


@dataclass(frozen=True, slots=True)
class CallMessage:
    """An unsigned transaction to try."""

    sender: bytes
    """Any address, with or without code."""
    to: bytes | None
    """None creates a contract."""
    data: bytes = b""
    """Input or initcode."""
    value: int = 0
    """Wei."""
    gas: int = 30_000_000
    """Gas limit; the block's own does not bind."""
    gas_price: int = 0
    """Maximum fee per gas; 0 leaves all fees out, and BASEFEE is 0."""
    max_priority_fee: int | None = None
    """Makes it a type 2 transaction."""
    access_list: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()
    """Addresses and slots."""
    blob_hashes: tuple[bytes, ...] = ()
    """Makes it a type 3 transaction."""
    max_fee_per_blob_gas: int = 0
    """For type 3."""
    nonce: int | None = None
    """None: whatever the sender's next is; checked by `simulate` alone."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a call did."""

    success: bool
    """Whether it returned."""
    output: bytes
    """Returned, or the reason of a revert."""
    gas_used: int
    """After the refund."""
    gas_refunded: int
    """Subtracted from what was spent."""
    error: str | None
    """In geth's words: "execution reverted", "out of gas", ..."""
    logs: tuple[Log, ...]
    """Events."""
    created: bytes | None
    """Address of the new contract."""
    trace: str | None = None
    """JSON of the tracer that was asked for."""


@dataclass(frozen=True, slots=True)
class StorageProof:
    """A slot in an account's storage trie."""

    slot: int
    """Which."""
    value: int
    """0 when absent."""
    nodes: tuple[bytes, ...]
    """From the storage root down."""


@dataclass(frozen=True, slots=True)
class AccountProof:
    """An account in the state trie (EIP-1186)."""

    balance: int
    """Wei."""
    nonce: int
    """Transactions sent."""
    code_hash: bytes
    """Keccak of the code."""
    storage_root: bytes
    """Root of the storage trie."""
    nodes: tuple[bytes, ...]
    """From the state root down."""
    storage: tuple[StorageProof, ...] = field(default=())
    """Of the slots that were asked for."""


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except hyperdust_core.TransactionRejected as error:
        _raise_named(error)
    except hyperdust_core.StateFault as error:
        raise NodeFault(str(error)) from error


def _raise_named(error: hyperdust_core.TransactionRejected) -> NoReturn:
    index, rule, values = error.args
    raise transaction_error(index, rule, values) from None


def decode_transactions(raws: Sequence[bytes]) -> list[Transaction]:
    """Decodes EIP-2718 bytes and recovers the senders on all cores.

    Raises:
        TransactionInvalid: the first that is malformed or badly signed; its `index` says which.
    """
    with _named_errors():
        return hyperdust_core.decode_transactions(raws)


def execute(
    environment: BlockEnvironment,
    transactions: Sequence[Transaction],
    read_many: ReadMany,
    *,
    precompiles: Sequence[Precompile] = (),
    before: Sequence[SystemCall] = (),
    after: Sequence[SystemCall] = (),
    withdrawals: Sequence[tuple[int, int, bytes, int]] = (),
    on_invalid: Literal["reject", "skip"] = "reject",
    system_contracts: bool = True,
    cache: StateCache | None = None,
) -> Executed:
    """A block's transition.

    Order: EIP-4788, EIP-2935, `before`; transactions; withdrawals (index, validator index, address, Gwei), credited
    whatever the fork; EIP-7002, EIP-7251, `after`. The contracts of those EIPs are called where they have code and
    `system_contracts` says so. Deposit logs (EIP-6110) make no requests: our chain has none.

    Raises:
        TransactionInvalid: `on_invalid` is "reject" and a transaction breaks a rule; its `index` says which.
        NodeFault: the state cannot be read or a system call failed.
    """
    with _named_errors():
        done = hyperdust_core.execute(
            environment,
            transactions,
            read_many,
            precompiles,
            before,
            after,
            withdrawals,
            on_invalid == "skip",
            system_contracts,
            cache,
        )
    skipped = tuple((index, transaction_error(index, rule, values)) for index, rule, values in done[11])
    return Executed(*done[:11], skipped, done[12])


def call(
    environment: BlockEnvironment,
    message: CallMessage,
    read_many: ReadMany,
    *,
    overrides: Mapping[bytes, AccountOverride] | None = None,
    precompiles: Sequence[Precompile] = (),
    trace: str | None = None,
    cache: StateCache | None = None,
) -> CallResult:
    """Tries a message on a state without changing it.

    `trace` is geth's tracing configuration as JSON (`{"tracer": "callTracer"}`; `{}` for struct logs).

    Raises:
        TransactionInvalid: not enough funds, gas below the intrinsic cost, ...
        NodeFault: the state cannot be read.
    """
    with _named_errors():
        return CallResult(
            *hyperdust_core.call(environment, message, read_many, overrides or {}, precompiles, trace, cache)
        )


def create_access_list(
    environment: BlockEnvironment,
    message: CallMessage,
    read_many: ReadMany,
    *,
    overrides: Mapping[bytes, AccountOverride] | None = None,
    precompiles: Sequence[Precompile] = (),
    cache: StateCache | None = None,
) -> tuple[tuple[tuple[bytes, tuple[bytes, ...]], ...], int, str | None]:
    """The access list that a message would use, the gas it uses with it, its error (eth_createAccessList).

    Raises:
        TransactionInvalid: as `call`.
        NodeFault: the state cannot be read.
    """
    with _named_errors():
        return hyperdust_core.create_access_list(environment, message, read_many, overrides or {}, precompiles, cache)


def simulate(
    environment: BlockEnvironment,
    messages: Sequence[CallMessage],
    read_many: ReadMany,
    *,
    overrides: Mapping[bytes, AccountOverride] | None = None,
    precompiles: Sequence[Precompile] = (),
    validates: bool = False,
    cache: StateCache | None = None,
) -> tuple[list[CallResult], Writes, bytes]:
    """Tries messages one after another, each on what the ones before it left: results, writes, state root.

    With `validates`, nonces, fees and senders bind as in a block (eth_simulateV1).

    Raises:
        TransactionInvalid: as `call`; its `index` says which message.
        NodeFault: the state cannot be read.
    """
    with _named_errors():
        results, writes, state_root = hyperdust_core.simulate(
            environment, messages, read_many, overrides or {}, precompiles, validates, cache
        )
    return [CallResult(*result) for result in results], writes, state_root


def trace_transactions(
    environment: BlockEnvironment,
    transactions: Sequence[Transaction],
    read_many: ReadMany,
    *,
    precompiles: Sequence[Precompile] = (),
    before: Sequence[SystemCall] = (),
    first: int = 0,
    config: str = "{}",
    cache: StateCache | None = None,
) -> list[str]:
    """Traces a block's transactions from index `first` on, on the state of its parent; one JSON text each.

    Raises:
        TransactionInvalid: one is not valid in this block.
        NodeFault: the state cannot be read.
        ValueError: the configuration names no known tracer.
    """
    with _named_errors():
        return hyperdust_core.trace_transactions(
            environment, transactions, read_many, precompiles, before, first, config, cache
        )


def genesis_state(alloc: Mapping[bytes, AccountOverride], fork: str = "Osaka") -> tuple[Writes, bytes]:
    """Writes and root of a state that holds these accounts and nothing else."""
    return hyperdust_core.genesis_state(alloc, fork)


def account_proof(
    address: bytes, slots: Sequence[int], read_many: ReadMany, *, cache: StateCache | None = None
) -> AccountProof:
    """Merkle proofs of an account and some of its slots, present or absent.

    Raises:
        NodeFault: the state cannot be read.
    """
    with _named_errors():
        proof = hyperdust_core.account_proof(address, slots, read_many, cache)
    return AccountProof(*proof[:5], tuple(StorageProof(*storage) for storage in proof[5]))
