"""A Bitcoin header and the rules that it must keep on top of a branch. Which branch counts: `header_chain`."""

from dataclasses import dataclass
from typing import Final, Self

from bridge.errors import (
    HeaderMalformed,
    HeadersUnconnected,
    InsufficientWork,
    ObsoleteVersion,
    TimestampTooNew,
    TimestampTooOld,
    TimeWarp,
    WrongBits,
)
from bridge.params import MAX_FUTURE_S, MAX_TIMEWARP_S, MEDIAN_BLOCKS, RETARGET_BLOCKS, SPACING_S, BitcoinParams
from bridge.work import check_target, compute_retarget, compute_work, sha256d, show_hash

HEADER_BYTES: Final = 80


@dataclass(frozen=True, slots=True)
class Header:
    """A block header, 80 bytes, numbers little-endian."""

    version: int
    """int32; miners put signals into its upper bits."""
    parent_hash: bytes
    """SHA256d of the parent's 80 bytes."""
    merkle_root: bytes
    """Over the block's transactions."""
    timestamp: int
    """Unix seconds, as the miner says."""
    bits: int
    """Target, compact."""
    nonce: int
    """Free."""

    def encode(self) -> bytes:
        """80 bytes."""
        numbers = b"".join(number.to_bytes(4, "little") for number in (self.timestamp, self.bits, self.nonce))
        return self.version.to_bytes(4, "little", signed=True) + self.parent_hash + self.merkle_root + numbers

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read exactly 80 bytes.

        Raises:
            HeaderMalformed: another size.
        """
        if len(raw) != HEADER_BYTES:
            raise HeaderMalformed("header", f"{len(raw)} bytes instead of {HEADER_BYTES}")
        number = int.from_bytes
        return cls(
            number(raw[:4], "little", signed=True),
            raw[4:36],
            raw[36:68],
            number(raw[68:72], "little"),
            number(raw[72:76], "little"),
            number(raw[76:], "little"),
        )

    @property
    def hash(self) -> bytes:
        """SHA256d of the 80 bytes."""
        return sha256d(self.encode())


def split_headers(raw: bytes) -> list[bytes]:
    """Headers that stand in a row.

    Raises:
        HeaderMalformed: a part of a header at the end.
    """
    if len(raw) % HEADER_BYTES:
        raise HeaderMalformed("headers", f"{len(raw)} bytes are no multiple of {HEADER_BYTES}")
    return [raw[start : start + HEADER_BYTES] for start in range(0, len(raw), HEADER_BYTES)]


@dataclass(frozen=True, slots=True)
class Context:
    """All that the rules for one header read of the branch below it."""

    height: int
    """Of the header to come."""
    parent: Header
    parent_hash: bytes
    timestamps: tuple[int, ...]
    """Of the last eleven headers, oldest first; fewer near genesis."""
    period_first: Header
    """The first header of the period that the parent lies in."""
    regular_bits: int
    """The last bits of that period that were no exception for a late block."""
    work: int
    """Cumulative, the parent included."""

    @property
    def median_time_past(self) -> int:
        """Median of the last eleven timestamps."""
        return sorted(self.timestamps)[len(self.timestamps) // 2]


def compute_bits(params: BitcoinParams, context: Context, timestamp: int) -> int:
    """The bits that a header with this timestamp must carry. Source: Bitcoin Core, GetNextWorkRequired."""
    parent = context.parent
    if context.height % RETARGET_BLOCKS == 0:
        carried = context.period_first.bits if params.bip94 else parent.bits
        return compute_retarget(params, carried, parent.timestamp - context.period_first.timestamp)
    if not params.min_difficulty:
        return parent.bits
    if timestamp > parent.timestamp + 2 * SPACING_S:
        return params.easiest_bits
    return context.regular_bits


def required_version(params: BitcoinParams, height: int) -> int:
    """The least version at a height."""
    if height >= params.bip65_height:
        return 4
    if height >= params.bip66_height:
        return 3
    return 2 if height >= params.bip34_height else -(1 << 31)


def check_header(params: BitcoinParams, context: Context, raw: bytes, now: int) -> tuple[Header, bytes]:
    """Header and hash of 80 bytes that may stand on `context`; `now` is the node's clock, in Unix seconds.

    Raises:
        HeaderMalformed, HeadersUnconnected, BadTarget, InsufficientWork, WrongBits, TimestampTooOld, TimeWarp,
        ObsoleteVersion: never valid there.
        TimestampTooNew: not valid yet.
    """
    header, block_hash = Header.decode(raw), sha256d(raw)
    if header.parent_hash != context.parent_hash:
        raise HeadersUnconnected("parent", show_hash(header.parent_hash), show_hash(context.parent_hash))
    target = check_target(params, header.bits)
    if int.from_bytes(block_hash, "little") > target:
        raise InsufficientWork("hash", show_hash(block_hash), f"at most {target:064x}")
    if header.bits != (bits := compute_bits(params, context, header.timestamp)):
        raise WrongBits("bits", f"{header.bits:#010x}", f"{bits:#010x}")
    if header.timestamp <= (median := context.median_time_past):
        raise TimestampTooOld("timestamp", header.timestamp, f"above {median}, the median of {MEDIAN_BLOCKS}")
    earliest = context.parent.timestamp - MAX_TIMEWARP_S
    if params.bip94 and context.height % RETARGET_BLOCKS == 0 and header.timestamp < earliest:
        raise TimeWarp("timestamp", header.timestamp, f"at least {earliest}")
    if header.version < (version := required_version(params, context.height)):
        raise ObsoleteVersion("version", header.version, f"at least {version} at height {context.height}")
    if header.timestamp > now + MAX_FUTURE_S:
        raise TimestampTooNew(header.timestamp, now + MAX_FUTURE_S)
    return header, block_hash


def apply_header(params: BitcoinParams, context: Context, header: Header, block_hash: bytes) -> Context:
    """The context that a checked header leaves to the next one."""
    first = context.height % RETARGET_BLOCKS == 0
    is_exception = params.min_difficulty and not first and header.bits == params.easiest_bits
    return Context(
        context.height + 1,
        header,
        block_hash,
        (*context.timestamps, header.timestamp)[-MEDIAN_BLOCKS:],
        header if first else context.period_first,
        context.regular_bits if is_exception else header.bits,
        context.work + compute_work(check_target(params, header.bits)),
    )
