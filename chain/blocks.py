"""Headers and blocks: fields, one encoding each, hashes. Which block may follow another, `consensus` says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final

import rlp
from rlp.exceptions import RLPException

from chain.errors import Malformed
from chain.hashing import H, keccak256

EMPTY_OMMERS_HASH: Final = keccak256(rlp.encode([]))
EMPTY_TRIE_ROOT: Final = keccak256(rlp.encode(b""))
ZERO_HASH: Final = bytes(32)

MAX_BLOCK_BYTES: Final = 10 * 1024 * 1024  # EIP-7934's limit on an encoded block
MAX_CERTIFICATE_BYTES: Final = 600 * 1024  # protocol limit: a header and its certificate travel in one gossip message
MAX_EVIDENCE_BYTES: Final = 2 * 1024 * 1024  # five times the evidence for the largest vault transaction
MAX_EVIDENCE_ITEMS: Final = 64

# What each header field is on the wire: a fixed number of bytes, or None for an integer (big-endian, no leading zeros).
HEADER_WIDTHS: Final[Mapping[str, int | None]] = {
    "parent_hash": 32,
    "ommers_hash": 32,
    "coinbase": 20,
    "state_root": 32,
    "transactions_root": 32,
    "receipts_root": 32,
    "logs_bloom": 256,
    "difficulty": None,
    "number": None,
    "gas_limit": None,
    "gas_used": None,
    "timestamp": None,
    "extra_data": 32,
    "mix_hash": 32,
    "nonce": 8,
    "base_fee_per_gas": None,
    "withdrawals_root": 32,
    "blob_gas_used": None,
    "excess_blob_gas": None,
    "parent_beacon_block_root": 32,
    "requests_hash": 32,
}
_MAX_INTEGER_BYTES: Final = {"difficulty": 32, "base_fee_per_gas": 32}  # all others fit 8 bytes


@dataclass(frozen=True, slots=True)
class Header:
    """An Ethereum header under Osaka rules; the field order is consensus (protocol.md, Blocks)."""

    parent_hash: bytes
    """Hash of the block before."""
    ommers_hash: bytes
    """Always the hash of the empty list."""
    coinbase: bytes
    """The key that seals: the certificate carries its signature of the seal hash."""
    state_root: bytes
    """Root of the state after this block."""
    transactions_root: bytes
    """Root of the trie of raw transactions."""
    receipts_root: bytes
    """Root of the trie of receipts."""
    logs_bloom: bytes
    """Union of the receipts' blooms."""
    difficulty: int
    """Expected int8 MACs per block."""
    number: int
    """Height; genesis is 0."""
    gas_limit: int
    """Fixed by the network's table."""
    gas_used: int
    """Gas of all transactions."""
    timestamp: int
    """Unix seconds."""
    extra_data: bytes
    """H("certificate", certificate, evidence …): the commitment to what the body carries beside Ethereum's lists."""
    mix_hash: bytes
    """H("beacon", ticket of the parent): what PREVRANDAO returns."""
    nonce: bytes
    """Eight bytes, free for the proposer; enters key_A."""
    base_fee_per_gas: int
    """Wei (EIP-1559)."""
    withdrawals_root: bytes
    """Root of the trie of BTC credits (EIP-4895)."""
    blob_gas_used: int
    """Always 0: no blobs."""
    excess_blob_gas: int
    """Always 0: no blobs."""
    parent_beacon_block_root: bytes
    """Hash of the origin, the Bitcoin block this one builds on; zero until Bitcoin is there."""
    requests_hash: bytes
    """EIP-7685 commitment to withdrawals to Bitcoin and system requests."""

    def encode(self) -> bytes:
        """RLP of the 21 fields."""
        return bytes(rlp.encode(_header_items(self)))

    @property
    def hash(self) -> bytes:
        """Keccak of the encoding: the block hash."""
        return keccak256(self.encode())

    @property
    def seal_hash(self) -> bytes:
        """Hash of the header without `extra_data` and `nonce`: what the coinbase signs and key_A binds."""
        items = [value for name, value in zip(HEADER_WIDTHS, _header_items(self), strict=True) if name not in _UNSEALED]
        return keccak256(bytes(rlp.encode(items)))


_UNSEALED: Final = ("extra_data", "nonce")


def _header_items(header: Header) -> list[bytes]:
    return [encode_item(getattr(header, one.name)) for one in fields(header)]


def encode_item(value: bytes | int) -> bytes:
    """A field as RLP wants it: integers big-endian without leading zeros."""
    return value if isinstance(value, bytes) else value.to_bytes((value.bit_length() + 7) // 8, "big")


def decode_header(data: bytes) -> Header:
    """The inverse of `Header.encode`.

    Raises:
        Malformed: not RLP, a wrong number of fields, a field of wrong width, a number with leading zeros.
    """
    return _header_from_items(_decode_rlp("header", data))


def _header_from_items(items: object) -> Header:
    if not isinstance(items, list) or len(items) != len(HEADER_WIDTHS):
        raise Malformed("header", f"not a list of {len(HEADER_WIDTHS)} fields")
    values = {
        name: decode_header_field(name, width, item)
        for (name, width), item in zip(HEADER_WIDTHS.items(), items, strict=True)
    }
    return Header(**values)  # type: ignore[arg-type]  # HEADER_WIDTHS says which fields are numbers


def decode_header_field(name: str, width: int | None, item: object) -> bytes | int:
    """One field of a header, `width` as in HEADER_WIDTHS.

    Raises:
        Malformed
    """
    if not isinstance(item, bytes):
        raise Malformed("header", f"{name} is a list")
    if width is not None:
        if len(item) != width:
            raise Malformed("header", f"{name} has {len(item)} bytes, not {width}")
        return item
    return decode_integer(item, f"header {name}", max_bytes=_MAX_INTEGER_BYTES.get(name, 8))


def decode_integer(item: object, what: str, max_bytes: int) -> int:
    """A canonical RLP integer of at most `max_bytes`.

    Raises:
        Malformed: a list, too long, or with a leading zero.
    """
    if not isinstance(item, bytes):
        raise Malformed(what, "a list where a number belongs")
    if len(item) > max_bytes:
        raise Malformed(what, f"{len(item)} bytes, at most {max_bytes}")
    if item[:1] == b"\0":
        raise Malformed(what, "leading zero")
    return int.from_bytes(item, "big")


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """BTC credited from Bitcoin (EIP-4895)."""

    index: int
    """Counts all credits of the chain."""
    validator_index: int
    """Always 0 on our chain."""
    address: bytes
    """Who is credited."""
    amount: int
    """Gwei; 1 sat = 10 Gwei."""


@dataclass(frozen=True, slots=True)
class Body:
    """What the header commits to."""

    transactions: tuple[bytes, ...]
    """Raw EIP-2718 transactions."""
    withdrawals: tuple[Withdrawal, ...]
    """BTC credits."""
    certificate: bytes
    """The one canonical encoding of `consensus.certificate.Certificate`; empty in genesis only."""
    evidence: tuple[bytes, ...] = field(default=(), kw_only=True)
    """What happened to the vault on Bitcoin, in the order of applying it (`consensus.evidence`)."""


@dataclass(frozen=True, slots=True)
class Block:
    """Header and body."""

    header: Header
    body: Body

    def encode(self) -> bytes:
        """RLP: [header, transactions, withdrawals, certificate, evidence]."""
        return bytes(rlp.encode([_header_items(self.header), *_body_items(self.body)]))


def encode_body(body: Body) -> bytes:
    """RLP: [transactions, withdrawals, certificate, evidence]."""
    return bytes(rlp.encode(_body_items(body)))


def decode_body(data: bytes) -> Body:
    """The inverse of `encode_body`.

    Raises:
        Malformed: as `decode_block`.
    """
    return _body_from_items(_decode_rlp("body", data))


def decode_block(data: bytes) -> Block:
    """A block from a stranger's bytes; transactions stay raw.

    Raises:
        Malformed: too large, not RLP, wrong structure or widths.
    """
    if len(data) > MAX_BLOCK_BYTES:
        raise Malformed("block", f"{len(data)} bytes, at most {MAX_BLOCK_BYTES}")
    items = _decode_rlp("block", data)
    if not isinstance(items, list) or len(items) != 5:
        raise Malformed("block", "not a list of header, transactions, withdrawals, certificate, evidence")
    return Block(_header_from_items(items[0]), _body_from_items(items[1:]))


def certificate_commitment(certificate: bytes, evidence: Sequence[bytes] = ()) -> bytes:
    """What `extra_data` has to be."""
    return H("certificate", certificate, *evidence)


def _body_items(body: Body) -> list[object]:
    return [list(body.transactions), withdrawal_items(body.withdrawals), body.certificate, list(body.evidence)]


def withdrawal_items(withdrawals: Sequence[Withdrawal]) -> list[object]:
    """Withdrawals as RLP items."""
    return [
        [encode_item(one.index), encode_item(one.validator_index), one.address, encode_item(one.amount)]
        for one in withdrawals
    ]


def _body_from_items(items: object) -> Body:
    if not isinstance(items, list) or len(items) != 4:
        raise Malformed("body", "not a list of transactions, withdrawals, certificate, evidence")
    transactions, withdrawals, certificate, evidence = items
    if not isinstance(transactions, list) or not all(isinstance(raw, bytes) and raw for raw in transactions):
        raise Malformed("body", "transactions are not a list of non-empty byte strings")
    if not isinstance(withdrawals, list):
        raise Malformed("body", "withdrawals are not a list")
    if not isinstance(certificate, bytes):
        raise Malformed("body", "certificate is a list")
    if len(certificate) > MAX_CERTIFICATE_BYTES:
        raise Malformed("body", f"certificate of {len(certificate)} bytes, at most {MAX_CERTIFICATE_BYTES}")
    if not isinstance(evidence, list) or not all(isinstance(item, bytes) and item for item in evidence):
        raise Malformed("body", "evidence is not a list of non-empty byte strings")
    if len(evidence) > MAX_EVIDENCE_ITEMS or sum(map(len, evidence)) > MAX_EVIDENCE_BYTES:
        raise Malformed("body", f"evidence above {MAX_EVIDENCE_ITEMS} items or {MAX_EVIDENCE_BYTES} bytes")
    credited = tuple(decode_withdrawal(item) for item in withdrawals)
    return Body(tuple(transactions), credited, certificate, evidence=tuple(evidence))


def decode_withdrawal(item: object) -> Withdrawal:
    """From RLP items.

    Raises:
        Malformed
    """
    if not isinstance(item, list) or len(item) != 4 or not isinstance(item[2], bytes) or len(item[2]) != 20:
        raise Malformed("withdrawal", "not a list of index, validator, address, amount")
    index, validator, address, amount = item
    return Withdrawal(
        decode_integer(index, "withdrawal index", 8),
        decode_integer(validator, "withdrawal validator", 8),
        address,
        decode_integer(amount, "withdrawal amount", 8),
    )


def _decode_rlp(what: str, data: bytes) -> Sequence[object] | bytes:
    try:
        return rlp.decode(data)  # type: ignore[no-any-return]
    except (RLPException, RecursionError) as error:
        raise Malformed(what, f"not RLP: {error}") from error
