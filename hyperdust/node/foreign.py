"""Test-only: an Ethereum chain from its genesis.json and chain.rlp, executed and compared, its seals not looked at.

A node on such a chain (`hyperdust node --import FILE --no-seal`) answers JSON-RPC and does nothing else: it never
mines, never peers, never bridges, and `safe` and `finalized` are its head.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final

import rlp
import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from chain.blocks import EMPTY_OMMERS_HASH, EMPTY_TRIE_ROOT, ZERO_HASH, Block, Header
from chain.engine import AccountOverride, BlobSchedule, Executed, decode_transactions, execute, genesis_state
from chain.errors import HyperdustError, Mismatch, NodeFault
from chain.hashing import keccak256
from chain.params import ChainParams
from consensus import errors
from hyperdust.node.foreign_blocks import (
    CANCUN_FIELDS,
    LONDON_FIELDS,
    PRAGUE_FIELDS,
    SHANGHAI_FIELDS,
    ForeignBody,
    ForeignHeader,
    decode_foreign_body,
    decode_foreign_header,
    encode_foreign_body,
    field_count_of,
    ommers_of,
    split_blocks,
)
from hyperdust.node.foreign_rules import INITIAL_BASE_FEE, NO_REQUESTS, ForeignRules, field_count_at
from hyperdust.node.store import BlockCodec, ExecutedBlock, Store, StoreFault, open_store

log = structlog.get_logger()

FOREIGN_CODEC: Final = BlockCodec(decode_foreign_header, encode_foreign_body, decode_foreign_body)
_BLOCK_FORKS: Final = (
    ("homesteadBlock", "Homestead"),
    ("eip150Block", "TangerineWhistle"),
    ("eip158Block", "SpuriousDragon"),
    ("byzantiumBlock", "Byzantium"),
    ("constantinopleBlock", "Constantinople"),
    ("petersburgBlock", "Petersburg"),
    ("istanbulBlock", "Istanbul"),
    ("berlinBlock", "Berlin"),
    ("londonBlock", "London"),
)
_TIME_FORKS: Final = (
    ("shanghaiTime", "Shanghai"),
    ("cancunTime", "Cancun"),
    ("pragueTime", "Prague"),
    ("osakaTime", "Osaka"),
    ("bpo1Time", "BPO1"),
    ("bpo2Time", "BPO2"),
)
_UNKNOWN_FORKS: Final = ("bpo3Time", "bpo4Time", "bpo5Time", "amsterdamTime", "verkleTime")
_DEPOSIT_TOPIC: Final = keccak256(b"DepositEvent(bytes,bytes,bytes,bytes,bytes)")
_DEPOSIT_FIELDS: Final = ((192, 48), (288, 32), (352, 8), (416, 96), (544, 8))  # EIP-6110: (start, length) in the data
_DEPOSIT_TYPE: Final = b"\0"
MAINNET_DEPOSIT_CONTRACT: Final = "0x00000000219ab540356cbb839cbe05303d7705fa"  # EIP-6110


class ForeignFault(NodeFault):
    """A genesis or chain file that cannot be imported; the message says where and why."""


def _integer(value: object) -> object:
    return int(value, 16) if isinstance(value, str) and value[:2] == "0x" else value


def _bytes(value: object) -> object:
    return bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else value


Number = Annotated[int, BeforeValidator(_integer), Field(ge=0)]
Octets = Annotated[bytes, BeforeValidator(_bytes)]


class _Blobs(BaseModel):
    target: int
    max: int
    baseFeeUpdateFraction: int  # noqa: N815 - geth's name


class _Account(BaseModel):
    balance: Number = 0
    nonce: Number = 0
    code: Octets = b""
    storage: dict[str, str] = {}


class _Genesis(BaseModel):
    """The file as geth writes it; fields of later forks may be absent or null."""

    model_config = ConfigDict(extra="ignore")
    config: dict[str, Any]
    alloc: dict[str, _Account]
    nonce: Number = 0
    timestamp: Number = 0
    extraData: Octets = b""  # noqa: N815
    gasLimit: Number  # noqa: N815
    difficulty: Number = 0
    mixHash: Octets = ZERO_HASH  # noqa: N815
    coinbase: Octets = bytes(20)
    number: Number = 0
    gasUsed: Number = 0  # noqa: N815
    parentHash: Octets = ZERO_HASH  # noqa: N815
    baseFeePerGas: Number | None = None  # noqa: N815
    excessBlobGas: Number | None = None  # noqa: N815
    blobGasUsed: Number | None = None  # noqa: N815


@dataclass(frozen=True, slots=True)
class ForeignNetwork:
    """A foreign genesis file, ready for use."""

    rules: ForeignRules
    genesis: ExecutedBlock
    params: ChainParams
    """What parts that were made for our chain read: its id and its gas limit."""


def load_foreign(path: Path) -> ForeignNetwork:
    """Read an Ethereum genesis file.

    Raises:
        ForeignFault: missing, not JSON, not a genesis file, or with forks that this program does not know.
    """
    try:
        table = _Genesis.model_validate(json.loads(path.read_text(encoding="utf-8")))
        rules = _rules(table.config, table.timestamp)
    except OSError as error:
        raise ForeignFault(f"genesis file {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise ForeignFault(f"{path} is no Ethereum genesis file: {error}") from error
    genesis = _genesis_block(table, rules)
    return ForeignNetwork(rules, genesis, _params(rules, genesis.block.header))


def _rules(config: Mapping[str, Any], genesis_time: int) -> ForeignRules:
    for name in _UNKNOWN_FORKS:
        if config.get(name) is not None:
            raise ForeignFault(f"the genesis file schedules {name}; this program knows forks up to BPO2")
    blocks = [(config[key], fork) for key, fork in _BLOCK_FORKS if config.get(key) is not None]
    times = [(config[key], fork) for key, fork in _TIME_FORKS if config.get(key) is not None]
    schedules = {name.lower(): _Blobs.model_validate(entry) for name, entry in config.get("blobSchedule", {}).items()}
    return ForeignRules(
        chain_id=int(config["chainId"]),
        blocks=tuple(blocks),
        times=tuple(times),
        merges=config.get("terminalTotalDifficulty") is not None,
        merge_block=config.get("mergeNetsplitBlock"),
        all_fork_blocks=_fork_places(config, "Block", 0),
        all_fork_times=_fork_places(config, "Time", genesis_time),
        blob_schedules={
            fork: BlobSchedule(entry.target, entry.max, entry.baseFeeUpdateFraction)
            for _, fork in _TIME_FORKS
            if (entry := schedules.get(fork.lower())) is not None
        },
        deposit_contract=bytes.fromhex((config.get("depositContractAddress") or MAINNET_DEPOSIT_CONTRACT)[2:]),
    )


def _fork_places(config: Mapping[str, Any], suffix: str, genesis: int) -> tuple[int, ...]:
    """Source: EIP-2124: forks of genesis itself do not count."""
    places = {value for key, value in config.items() if key.endswith(suffix) and isinstance(value, int)}
    return tuple(sorted(place for place in places if place > genesis))


def _genesis_block(table: _Genesis, rules: ForeignRules) -> ExecutedBlock:
    alloc = {
        bytes.fromhex(address.removeprefix("0x")): AccountOverride(
            balance=account.balance,
            nonce=account.nonce,
            code=account.code,
            state_diff={int(slot, 16): int(value, 16) for slot, value in account.storage.items()},
        )
        for address, account in table.alloc.items()
    }
    fork = rules.fork_at(table.number, table.timestamp, table.difficulty)
    writes, state_root = genesis_state(alloc, fork)
    count = field_count_at(fork)
    base_fee = INITIAL_BASE_FEE if table.baseFeePerGas is None else table.baseFeePerGas
    header = ForeignHeader(
        parent_hash=table.parentHash,
        ommers_hash=EMPTY_OMMERS_HASH,
        coinbase=table.coinbase,
        state_root=state_root,
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        logs_bloom=bytes(256),
        difficulty=table.difficulty,
        number=table.number,
        gas_limit=table.gasLimit,
        gas_used=table.gasUsed,
        timestamp=table.timestamp,
        extra_data=table.extraData,
        mix_hash=table.mixHash,
        nonce=table.nonce.to_bytes(8, "big"),
        base_fee_per_gas=base_fee if count >= LONDON_FIELDS else 0,
        withdrawals_root=EMPTY_TRIE_ROOT if count >= SHANGHAI_FIELDS else ZERO_HASH,
        blob_gas_used=table.blobGasUsed or 0,
        excess_blob_gas=table.excessBlobGas or 0,
        parent_beacon_block_root=ZERO_HASH,
        requests_hash=NO_REQUESTS if count >= PRAGUE_FIELDS else ZERO_HASH,
        field_count=count,
    )
    return ExecutedBlock(
        block=Block(header, ForeignBody((), (), b"", ())),
        hash=header.hash,
        ticket=ZERO_HASH,
        total_difficulty=header.difficulty,
        transaction_hashes=(),
        receipts=(),
        writes=tuple(writes),
    )


def _params(rules: ForeignRules, header: Header) -> ChainParams:
    return ChainParams(
        network="foreign",
        chain_id=rules.chain_id,
        genesis_timestamp=header.timestamp,
        gas_limit=header.gas_limit,
        genesis_base_fee=header.base_fee_per_gas,
        spacing_s=rules.spacing_s,
        asert_half_life_s=1,
        difficulty_floor=1,
        max_future_s=0,
        final_window_blocks=0,
        fork="BPO2",
    )


@contextmanager
def open_foreign(data_dir: Path, network: ForeignNetwork) -> Iterator[Store]:
    """Open the foreign chain's database; it lies beside our own chain's, never in it.

    Raises:
        StoreFault: it cannot be used, or holds another chain.
    """
    store = open_store(data_dir / "foreign", archive=True, codec=FOREIGN_CODEC)
    try:
        if store.latest.is_empty:
            store.write_genesis(network.genesis)
        elif store.latest.genesis_hash != network.genesis.hash:
            raise StoreFault(f"{data_dir} holds another imported chain; choose another --data-dir")
        yield store
    finally:
        store.close()


def import_chain(path: Path, store: Store, rules: ForeignRules) -> int:
    """Execute a chain file's blocks on the head and keep them; returns how many were new.

    Raises:
        ForeignFault: the file cannot be read, or a block is not valid; blocks before it are kept.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ForeignFault(f"chain file {path}: {error.strerror}") from error
    count = 0
    try:
        for block in split_blocks(data):
            if store.latest.load_header(block.header.hash) is not None:
                continue
            store.adopt(execute_foreign(block, store, rules))
            count += 1
    except HyperdustError as error:
        raise ForeignFault(f"chain file {path}: block {store.latest.head.number + 1}: {error}") from error
    log.info("imported", blocks=count, head=store.latest.head.number, hash="0x" + store.latest.head.hash.hex())
    return count


def execute_foreign(block: Block, store: Store, rules: ForeignRules) -> ExecutedBlock:
    """Check and execute a block that follows the head; its seal is not looked at.

    Raises:
        Invalid: the rule that it breaks.
    """
    view = store.latest
    head = view.head
    header = block.header
    check_foreign_header(header, head.header, rules)
    ommers = ommers_of(block.body)
    _expect(errors.OmmersRefused, "ommers_hash", header.ommers_hash, hash_ommers(ommers))
    transactions = decode_transactions(block.body.transactions)
    credited = [(one.index, one.validator_index, one.address, one.amount) for one in block.body.withdrawals]
    executed = execute(
        rules.environment_of(header),
        transactions,
        view.state_at(head.hash).read_many,
        withdrawals=credited + rules.reward_credits(header, ommers),
    )
    compare(header, executed, rules)
    return ExecutedBlock(
        block=block,
        hash=header.hash,
        ticket=ZERO_HASH,
        total_difficulty=head.total_difficulty + header.difficulty,
        transaction_hashes=tuple(transaction.hash for transaction in transactions),
        receipts=tuple(receipt.encode() for receipt in executed.receipts),
        writes=executed.writes,
    )


def check_foreign_header(header: Header, parent: Header, rules: ForeignRules) -> None:
    """Check what needs no execution, seal and gas limit aside.

    Raises:
        Mismatch, OutOfRange: the class named after the rule.
    """
    _expect(errors.WrongParent, "parent_hash", header.parent_hash, parent.hash)
    _expect(errors.WrongNumber, "number", header.number, parent.number + 1)
    if header.timestamp <= parent.timestamp:
        raise errors.TimestampNotAfterParent("timestamp", header.timestamp, f"> {parent.timestamp}")
    fork = rules.fork_of(header)
    _expect(WrongFieldCount, "header fields", field_count_of(header), field_count_at(fork))
    if header.gas_used > header.gas_limit:
        raise errors.GasAboveLimit("gas_used", header.gas_used, f"<= {header.gas_limit}")
    _expect(errors.WrongBaseFee, "base_fee_per_gas", header.base_fee_per_gas, rules.base_fee_after(parent))
    excess = rules.excess_blob_gas_after(parent, fork)
    _expect(WrongBlobGas, "excess_blob_gas", header.excess_blob_gas, excess)


class WrongFieldCount(Mismatch):
    """A header with more or fewer fields than its fork has."""


class WrongBlobGas(Mismatch):
    """Blob gas used, or its excess."""


def compare(header: Header, executed: Executed, rules: ForeignRules) -> None:
    """Compare what execution gave with what the header says.

    Raises:
        Mismatch: the class named after the field.
    """
    count = field_count_of(header)
    _expect(errors.WrongTransactionsRoot, "transactions_root", header.transactions_root, executed.transactions_root)
    _expect(errors.WrongGasUsed, "gas_used", header.gas_used, executed.gas_used)
    _expect(errors.WrongReceiptsRoot, "receipts_root", header.receipts_root, executed.receipts_root)
    _expect(errors.WrongBloom, "logs_bloom", header.logs_bloom, executed.logs_bloom)
    _expect(errors.WrongStateRoot, "state_root", header.state_root, executed.state_root)
    if count >= SHANGHAI_FIELDS:
        _expect(errors.WrongWithdrawalsRoot, "withdrawals_root", header.withdrawals_root, executed.withdrawals_root)
    if count >= CANCUN_FIELDS:
        _expect(WrongBlobGas, "blob_gas_used", header.blob_gas_used, executed.blob_gas_used)
    if count >= PRAGUE_FIELDS:
        expected = hash_requests(requests_of(executed, rules.deposit_contract))
        _expect(errors.WrongRequestsHash, "requests_hash", header.requests_hash, expected)


def requests_of(executed: Executed, deposit_contract: bytes) -> list[bytes]:
    """A block's requests (EIP-7685): deposits from the logs (EIP-6110), then those of the system contracts."""
    deposits = b"".join(
        b"".join(log.data[start : start + length] for start, length in _DEPOSIT_FIELDS)
        for receipt in executed.receipts
        for log in receipt.logs
        if log.address == deposit_contract and log.topics and log.topics[0] == _DEPOSIT_TOPIC
    )
    return [*([_DEPOSIT_TYPE + deposits] if deposits else []), *executed.requests]


def hash_requests(requests: Sequence[bytes]) -> bytes:
    """Source: EIP-7685."""
    return sha256(b"".join(sha256(request).digest() for request in requests)).digest()


def hash_ommers(ommers: Sequence[ForeignHeader]) -> bytes:
    """What `ommers_hash` has to be."""
    return keccak256(bytes(rlp.encode([rlp.decode(ommer.encode()) for ommer in ommers])))


def _expect(rule: type[Mismatch], what: str, got: object, expected: object) -> None:
    if got != expected:
        raise rule(what, got, expected)
