"""Rules of an imported Ethereum chain: which fork a block has, and what follows from it for headers and fees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from typing import Final

from chain.blocks import EMPTY_OMMERS_HASH, EMPTY_TRIE_ROOT, ZERO_HASH, Body, Header
from chain.engine import BLOB_SCHEDULES, BlobSchedule, BlockEnvironment, Precompile, ReadMany, SystemCall
from consensus.headers import compute_base_fee
from hyperdust.node.foreign_blocks import (
    CANCUN_FIELDS,
    FRONTIER_FIELDS,
    LONDON_FIELDS,
    PRAGUE_FIELDS,
    SHANGHAI_FIELDS,
    ForeignHeader,
    field_count_of,
)
from hyperdust.node.store import ChainSnapshot

FORKS: Final = (
    "Frontier", "Homestead", "TangerineWhistle", "SpuriousDragon", "Byzantium", "Constantinople", "Petersburg",
    "Istanbul", "Berlin", "London", "Paris", "Shanghai", "Cancun", "Prague", "Osaka", "BPO1", "BPO2",
)  # fmt: skip
_FIELDS: Final = (
    ("Prague", PRAGUE_FIELDS), ("Cancun", CANCUN_FIELDS), ("Shanghai", SHANGHAI_FIELDS), ("London", LONDON_FIELDS),
    ("Frontier", FRONTIER_FIELDS),
)  # fmt: skip
_GWEI_PER_ETHER: Final = 10**9
INITIAL_BASE_FEE: Final = 10**9  # EIP-1559
_MIN_BLOB_BASE_FEE: Final = 1  # EIP-4844
GAS_PER_BLOB: Final = 1 << 17  # EIP-4844
_BLOB_BASE_COST: Final = 1 << 13  # EIP-7918
_SLOT_S: Final = 12
NO_REQUESTS: Final = sha256(b"").digest()  # EIP-7685


@dataclass(frozen=True, slots=True)
class ForeignRules:
    """A genesis file's fork schedule, and what JSON-RPC asks of it (`hyperdust.node.rpc.rules.ChainRules`)."""

    chain_id: int
    """EIP-155."""
    blocks: tuple[tuple[int, str], ...]
    """First block of each fork up to London, rising."""
    times: tuple[tuple[int, str], ...]
    """First timestamp of each fork from Shanghai on, rising."""
    merges: bool
    """Whether the chain ever leaves proof of work; a block that has is known by its difficulty of 0 (EIP-3675)."""
    merge_block: int | None
    """First block without proof of work, where the genesis file says it."""
    all_fork_blocks: tuple[int, ...]
    """Every block at which rules change, those that this program need not know too, rising: for the fork's id."""
    all_fork_times: tuple[int, ...]
    """Likewise by time."""
    blob_schedules: Mapping[str, BlobSchedule]
    """By fork."""
    deposit_contract: bytes
    """Whose logs are deposits (EIP-6110)."""

    def precompiles_of(self, _header: Header) -> Sequence[Precompile]:
        """None beside Ethereum's."""
        return ()

    @property
    def spacing_s(self) -> int:
        """A slot."""
        return _SLOT_S

    @property
    def has_predeploys(self) -> bool:
        """False."""
        return False

    def fork_at(self, number: int, timestamp: int, difficulty: int) -> str:
        """Name of a block's fork."""
        fork = "Frontier"
        for first, name in self.blocks:
            if number >= first:
                fork = name
        if not (self.merges and difficulty == 0):
            return fork
        fork = "Paris"
        for start, name in self.times:
            if timestamp >= start:
                fork = name
        return fork

    def fork_of(self, header: Header) -> str:
        """Name of a block's fork."""
        return self.fork_at(header.number, header.timestamp, header.difficulty)

    def environment_of(self, header: Header) -> BlockEnvironment:
        """What the engine has to know of a block."""
        count = field_count_of(header)
        fork = self.fork_of(header)
        return BlockEnvironment(
            chain_id=self.chain_id,
            fork=fork,
            number=header.number,
            timestamp=header.timestamp,
            coinbase=header.coinbase,
            gas_limit=header.gas_limit,
            base_fee=header.base_fee_per_gas,
            prev_randao=header.mix_hash,
            parent_hash=header.parent_hash,
            parent_beacon_root=header.parent_beacon_block_root if count >= CANCUN_FIELDS else None,
            difficulty=header.difficulty,
            excess_blob_gas=header.excess_blob_gas,
            allow_blobs=count >= CANCUN_FIELDS,
            blob_schedule=self.blob_schedules.get(fork),
        )

    def opening_calls(
        self, _parent: Header, _header: Header, _body: Body, _read_many: ReadMany
    ) -> tuple[SystemCall, ...]:
        """None beside Ethereum's."""
        return ()

    def base_fee_after(self, parent: Header) -> int:
        """EIP-1559; 0 before London."""
        if not is_at_least(self.fork_at(parent.number + 1, parent.timestamp, parent.difficulty), "London"):
            return 0
        return compute_base_fee(parent) if field_count_of(parent) >= LONDON_FIELDS else INITIAL_BASE_FEE

    def blob_base_fee(self, header: Header) -> int:
        """EIP-4844; 0 before Cancun."""
        if field_count_of(header) < CANCUN_FIELDS:
            return 0
        return compute_blob_base_fee(header.excess_blob_gas, self._schedule(self.fork_of(header)).update_fraction)

    def blob_base_fee_after(self, parent: Header) -> int:
        """The same, where the next block has the parent's fork."""
        if field_count_of(parent) < CANCUN_FIELDS:
            return 0
        fork = self.fork_of(parent)
        excess = self.excess_blob_gas_after(parent, fork)
        return compute_blob_base_fee(excess, self._schedule(fork).update_fraction)

    def max_blob_gas(self, header: Header) -> int:
        """EIP-7840; 0 before Cancun."""
        if field_count_of(header) < CANCUN_FIELDS:
            return 0
        return self._schedule(self.fork_of(header)).maximum * GAS_PER_BLOB

    def excess_blob_gas_after(self, parent: Header, fork: str) -> int:
        """Excess in the next block, whose fork is given. Source: EIP-4844, EIP-7918."""
        if not is_at_least(fork, "Cancun"):
            return 0
        schedule = self._schedule(fork)
        target = schedule.target * GAS_PER_BLOB
        used = parent.blob_gas_used
        if parent.excess_blob_gas + used < target:
            return 0
        if is_at_least(fork, "Osaka"):
            price = compute_blob_base_fee(parent.excess_blob_gas, schedule.update_fraction) * GAS_PER_BLOB
            if _BLOB_BASE_COST * parent.base_fee_per_gas > price:
                return parent.excess_blob_gas + used * (schedule.maximum - schedule.target) // schedule.maximum
        return parent.excess_blob_gas + used - target

    def header_after(self, parent: Header, number: int, timestamp: int) -> ForeignHeader:
        """An empty header that follows another, with base fee 0."""
        difficulty = 0 if self._is_merged(number, timestamp) else parent.difficulty
        fork = self.fork_at(number, timestamp, difficulty)
        count = field_count_at(fork)
        inherited = {field.name: getattr(parent, field.name) for field in fields(Header)}
        return replace(
            ForeignHeader(**inherited, field_count=count),
            parent_hash=parent.hash,
            ommers_hash=EMPTY_OMMERS_HASH,
            state_root=ZERO_HASH,
            transactions_root=EMPTY_TRIE_ROOT,
            receipts_root=EMPTY_TRIE_ROOT,
            logs_bloom=bytes(256),
            difficulty=difficulty,
            number=number,
            gas_used=0,
            timestamp=timestamp,
            extra_data=b"",
            mix_hash=ZERO_HASH,
            nonce=bytes(8),
            base_fee_per_gas=0,
            withdrawals_root=EMPTY_TRIE_ROOT if count >= SHANGHAI_FIELDS else ZERO_HASH,
            blob_gas_used=0,
            excess_blob_gas=self.excess_blob_gas_after(parent, fork),
            parent_beacon_block_root=ZERO_HASH,
            requests_hash=NO_REQUESTS if count >= PRAGUE_FIELDS else ZERO_HASH,
        )

    def safe_hash(self, snapshot: ChainSnapshot) -> bytes:
        """The head: nobody votes here (interfaces.md)."""
        return snapshot.head.hash

    def final_hash(self, snapshot: ChainSnapshot) -> bytes:
        """The head."""
        return snapshot.head.hash

    def reward_credits(self, header: Header, ommers: Sequence[Header]) -> list[tuple[int, int, bytes, int]]:
        """Rewards of proof of work, as the engine's withdrawals, in Gwei. Source: Yellow Paper, 11.3; EIP-649, 1234."""
        fork = self.fork_of(header)
        if is_at_least(fork, "Paris"):
            return []
        ether = 2 if is_at_least(fork, "Constantinople") else 3 if is_at_least(fork, "Byzantium") else 5
        base = ether * _GWEI_PER_ETHER
        found = [(0, 0, header.coinbase, base + len(ommers) * base // 32)]
        found += [(0, 0, ommer.coinbase, base * (8 + ommer.number - header.number) // 8) for ommer in ommers]
        return found

    def _is_merged(self, number: int, timestamp: int) -> bool:
        by_block = self.merge_block is not None and number >= self.merge_block
        return by_block or any(timestamp >= start for start, _ in self.times)

    def _schedule(self, fork: str) -> BlobSchedule:
        return self.blob_schedules.get(fork) or BLOB_SCHEDULES[fork]


def field_count_at(fork: str) -> int:
    """How many fields a fork's headers have."""
    return next(count for first, count in _FIELDS if is_at_least(fork, first))


def is_at_least(fork: str, other: str) -> bool:
    """Whether a fork is another or a later one."""
    return FORKS.index(fork) >= FORKS.index(other)


def compute_blob_base_fee(excess: int, update_fraction: int) -> int:
    """Wei a blob gas: an integer approximation of e^(excess / update_fraction). Source: EIP-4844, fake_exponential."""
    total, term, index = 0, _MIN_BLOB_BASE_FEE * update_fraction, 1
    while term > 0:
        total += term
        term = term * excess // (update_fraction * index)
        index += 1
    return total // update_fraction
