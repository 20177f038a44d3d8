# ---- evm: used by chain/engine.py alone ----
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

ReadMany: TypeAlias = Callable[[list[bytes]], Sequence[bytes | None]]
Writes: TypeAlias = tuple[tuple[bytes, bytes | None], ...]

class StateFault(Exception): ...
class TransactionRejected(Exception): ...

class StateCache:
    def __init__(self, limit_bytes: int = ...) -> None: ...
    def apply(self, writes: Iterable[tuple[bytes, bytes | None]]) -> None: ...
    def clear(self) -> None: ...
    def __len__(self) -> int: ...

class Transaction:
    @property
    def raw(self) -> bytes: ...
    @property
    def hash(self) -> bytes: ...
    @property
    def type(self) -> int: ...
    @property
    def sender(self) -> bytes: ...
    @property
    def nonce(self) -> int: ...
    @property
    def to(self) -> bytes | None: ...
    @property
    def value(self) -> int: ...
    @property
    def data(self) -> bytes: ...
    @property
    def gas_limit(self) -> int: ...
    @property
    def max_fee_per_gas(self) -> int: ...
    @property
    def max_priority_fee_per_gas(self) -> int: ...
    @property
    def access_list(self) -> tuple[tuple[bytes, tuple[bytes, ...]], ...]: ...
    @property
    def authorization_list(self) -> tuple[tuple[int, bytes, int, int, int, int], ...]: ...
    @property
    def blob_hashes(self) -> tuple[bytes, ...]: ...
    @property
    def max_fee_per_blob_gas(self) -> int: ...
    @property
    def chain_id(self) -> int | None: ...
    @property
    def y_parity(self) -> int: ...
    @property
    def v(self) -> int: ...
    @property
    def r(self) -> int: ...
    @property
    def s(self) -> int: ...

class Log:
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes

class Receipt:
    @property
    def type(self) -> int: ...
    @property
    def status(self) -> int: ...
    @property
    def root(self) -> bytes | None: ...
    @property
    def cumulative_gas_used(self) -> int: ...
    @property
    def gas_used(self) -> int: ...
    @property
    def effective_gas_price(self) -> int: ...
    @property
    def logs(self) -> tuple[Log, ...]: ...
    @property
    def bloom(self) -> bytes: ...
    @property
    def contract_address(self) -> bytes | None: ...
    def encode(self) -> bytes: ...

def decode_transactions(raws: Iterable[bytes]) -> list[Transaction]: ...
def execute(
    environment: object,
    transactions: Iterable[Transaction],
    read_many: ReadMany,
    precompiles: Iterable[tuple[bytes, str | Callable[[bytes], bytes | None], int, int]],
    before: Iterable[object],
    after: Iterable[object],
    withdrawals: Iterable[tuple[int, int, bytes, int]],
    skips: bool,
    system_contracts: bool,
    cache: StateCache | None = None,
) -> tuple[
    tuple[Receipt, ...],
    int,
    bytes,
    Writes,
    bytes,
    bytes,
    bytes,
    bytes | None,
    tuple[bytes, ...],
    bytes | None,
    tuple[int, ...],
    list[tuple[int, str, tuple[int | str, ...]]],
    int,
]: ...
def call(
    environment: object,
    message: object,
    read_many: ReadMany,
    overrides: Mapping[bytes, object],
    precompiles: Iterable[tuple[bytes, str | Callable[[bytes], bytes | None], int, int]],
    trace: str | None,
    cache: StateCache | None = None,
) -> tuple[bool, bytes, int, int, str | None, tuple[Log, ...], bytes | None, str | None]: ...
def create_access_list(
    environment: object,
    message: object,
    read_many: ReadMany,
    overrides: Mapping[bytes, object],
    precompiles: Iterable[tuple[bytes, str | Callable[[bytes], bytes | None], int, int]],
    cache: StateCache | None = None,
) -> tuple[tuple[tuple[bytes, tuple[bytes, ...]], ...], int, str | None]: ...
def simulate(
    environment: object,
    messages: Iterable[object],
    read_many: ReadMany,
    overrides: Mapping[bytes, object],
    precompiles: Iterable[tuple[bytes, str | Callable[[bytes], bytes | None], int, int]],
    validates: bool,
    cache: StateCache | None = None,
) -> tuple[
    list[tuple[bool, bytes, int, int, str | None, tuple[Log, ...], bytes | None, str | None]], Writes, bytes
]: ...
def trace_transactions(
    environment: object,
    transactions: Iterable[Transaction],
    read_many: ReadMany,
    precompiles: Iterable[tuple[bytes, str | Callable[[bytes], bytes | None], int, int]],
    before: Iterable[object],
    first: int,
    config: str,
    cache: StateCache | None = None,
) -> list[str]: ...
def genesis_state(accounts: Mapping[bytes, object], fork: str) -> tuple[Writes, bytes]: ...
def account_proof(
    address: bytes, slots: Iterable[int], read_many: ReadMany, cache: StateCache | None = None
) -> tuple[int, int, bytes, bytes, tuple[bytes, ...], tuple[tuple[int, int, tuple[bytes, ...]], ...]]: ...
def trie_update(
    prefix: bytes, updates: Iterable[tuple[bytes, bytes | None]], read_many: ReadMany
) -> tuple[bytes, Writes]: ...

# ---- end of evm ----

# --- pouw: exact integer kernels, BLAKE3 openings, tickets (core/src/pouw/) ---

def blake3_root(data: npt.NDArray[np.uint8]) -> bytes: ...
def open_range(data: npt.NDArray[np.uint8], first_chunk: int, chunk_count: int) -> bytes: ...
def siblings_size(total_len: int, first_chunk: int, chunk_count: int) -> int: ...
def range_digest(total_len: int, first_chunk: int, opened: bytes, siblings: bytes) -> bytes | None: ...
def verify_range(root_hash: bytes, total_len: int, first_chunk: int, opened: bytes, siblings: bytes) -> bool: ...
def matmul_i8(
    a: npt.NDArray[np.int8], b_transposed: npt.NDArray[np.int8], path: str | None = None
) -> npt.NDArray[np.int32]: ...
def matmul_path() -> str: ...

class PackedWeights:
    def __init__(self, b_transposed: npt.NDArray[np.int8]) -> None: ...
    @property
    def n(self) -> int: ...
    @property
    def k(self) -> int: ...
    def matmul(self, a: npt.NDArray[np.int8], path: str | None = None) -> npt.NDArray[np.int32]: ...

class PreparedWeights:
    def __init__(self, b_transposed: npt.NDArray[np.int8], key_b: bytes, r: int) -> None: ...
    @property
    def n(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def r(self) -> int: ...
    def mine(
        self, a: npt.NDArray[np.int8], key_a: bytes, limit: bytes, path: str | None = None
    ) -> tuple[npt.NDArray[np.int32], list[tuple[int, int, bytes]]]: ...

def replay_tile(
    rows_a: npt.NDArray[np.int8],
    columns_b: npt.NDArray[np.int8],
    row_block: int,
    column_block: int,
    key_a: bytes,
    key_b: bytes,
    r: int,
    path: str | None = None,
) -> tuple[bytes, bytes]: ...

class operators:
    """Kernels of pouw/operators: a module, called by pouw/backends/native.py alone."""
