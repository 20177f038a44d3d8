"""Consecutive L2 blocks as payloads for Bitcoin, small: what a stranger needs to execute and check each block again.

Left out is what parent, body or an earlier block says already: a header field that equals its guess, and whatever a
body repeats of the bodies of the blocks before (weights that were opened already). Everything left out comes back
exactly, so a block has the hash that it had. What the items mean ends here: `data` packs them as bytes.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, Self

import rlp
from rlp.exceptions import RLPException

from bridge.data import MAX_BATCH_BYTES, MAX_PAYLOAD_BYTES, data_root, pack_batch, unpack_batch
from bridge.errors import TransactionMalformed
from bridge.peg_errors import BatchMalformed, DataTooLarge
from bridge.transactions import Reader
from chain.blocks import (
    EMPTY_TRIE_ROOT,
    HEADER_WIDTHS,
    MAX_BLOCK_BYTES,
    ZERO_HASH,
    Block,
    Body,
    Header,
    certificate_commitment,
    decode_body,
    decode_header_field,
    decode_integer,
    encode_body,
    encode_item,
)

NO_PAYLOAD: Final = bytes(32)
"""The payload before the first one."""
WINDOW_BLOCKS: Final = 256
"""How far below itself a block may repeat another's body."""
MAX_BLOCKS: Final = 4096
"""In one batch."""
MAX_PARTS: Final = 64
"""Payloads that one batch may take: a block of the largest size, and what compression may add."""
_VERSION: Final = 1
_CHUNK: Final = 256
"""The shortest repetition that is left out; earlier bodies are known at multiples of it."""
_REPEATED: Final = 1 << 31
_HEADER_BYTES: Final = 1_024  # the longest takes 750
_LEVEL: Final = 9
_ROOM: Final = 2_000
"""Bytes of a payload kept for its head, and for what compressing all at once costs more."""
_NAMES: Final = tuple(field.name for field in fields(Header))

LoadBody = Callable[[int], bytes | None]
"""The encoded body (`chain.blocks.encode_body`) of the block at a height of the chain that a batch continues."""


@dataclass(frozen=True, slots=True)
class BatchHead:
    """What stands in front of every payload."""

    first: int
    """Height of the first block."""
    count: int
    """Blocks."""
    part: int
    """Of `parts`, from 0: a batch too large for one payload goes on in the next."""
    parts: int
    parent: bytes
    """32 bytes: hash of the block before the first."""
    previous: bytes
    """32 bytes: data root of the payload before this one; zero for the first."""

    @property
    def last(self) -> int:
        """Height of the last block."""
        return self.first + self.count - 1

    def encode(self) -> bytes:
        """Version 1 ‖ first u64 ‖ count u32 ‖ part u8 ‖ parts u8 ‖ parent 32 ‖ previous 32; little-endian."""
        numbers = self.first.to_bytes(8, "little") + self.count.to_bytes(4, "little")
        return bytes([_VERSION]) + numbers + bytes([self.part, self.parts]) + self.parent + self.previous

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read exactly one.

        Raises:
            BatchMalformed: another size or version, or numbers out of bounds.
        """
        reader = Reader(raw)
        try:
            if (version := reader.number(1)) != _VERSION:
                raise BatchMalformed("batch head", f"version {version}")
            numbers = reader.number(8), reader.number(4), reader.number(1), reader.number(1)
            head = cls(*numbers, reader.take(32), reader.take(32))
            reader.end()
        except TransactionMalformed as error:
            raise BatchMalformed("batch head", str(error)) from error
        if not (head.first >= 1 and 1 <= head.count <= MAX_BLOCKS and head.last < 1 << 64):
            raise BatchMalformed("batch head", f"blocks {head.first} to {head.last}")
        if not (1 <= head.parts <= MAX_PARTS and head.part < head.parts):
            raise BatchMalformed("batch head", f"part {head.part} of {head.parts}")
        return head


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was read as far as one can without its parent."""

    head: BatchHead
    """Of its last payload."""
    headers: tuple[tuple[int, tuple[bytes, ...]], ...]
    """For each block which fields differ from their guesses (a bit each, the first field lowest), and their values."""
    bodies: tuple[bytes, ...]
    """For each block its encoded body in pieces, one after the other: `size u32 ‖ bytes`, or `size u32 with bit 31 ‖
    blocks below u16 ‖ offset u32`, which repeats an earlier body. Two of the first kind are never neighbours."""


def build_payloads(
    blocks: Sequence[Block], parent: Header, previous: bytes, load_body: LoadBody
) -> tuple[tuple[bytes, ...], int]:
    """Payloads of as many blocks from the first on as fit one payload, at least one block; and how many those are.

    A block that alone is too large for one payload gets several. `previous` is the data root of the payload before.
    """
    writer = _Writer(parent.number + 1, load_body)
    headers: list[object] = []
    bodies: list[bytes] = []
    size = plain = 0
    for block, before in zip(blocks[:MAX_BLOCKS], (parent, *(block.header for block in blocks)), strict=False):
        headers.append(encode_header_difference(block, before))
        bodies.append(writer.add(encode_body(block.body)))
        plain += len(bodies[-1])
        size += len(zlib.compress(bodies[-1], _LEVEL)) + len(zlib.compress(bytes(rlp.encode(headers[-1])), _LEVEL))
        if size > MAX_PAYLOAD_BYTES - _ROOM or plain > MAX_BATCH_BYTES // 2:
            break
    for count in range(len(bodies), 1, -1):
        head = BatchHead(parent.number + 1, count, 0, 1, parent.hash, previous)
        try:
            return (pack_batch((head.encode(), bytes(rlp.encode(headers[:count])), *bodies[:count])),), count
        except DataTooLarge:
            continue
    return _build_parts(parent, previous, bytes(rlp.encode(headers[:1])), bodies[0]), 1


def _build_parts(parent: Header, previous: bytes, headers: bytes, body: bytes) -> tuple[bytes, ...]:
    """One block in as few payloads as there have to be: its body is cut into even parts."""
    for parts in range(1, MAX_PARTS + 1):
        width = -(-len(body) // parts)
        payloads: list[bytes] = []
        root = previous
        try:
            for part in range(parts):
                head = BatchHead(parent.number + 1, 1, part, parts, parent.hash, root)
                piece = body[part * width : (part + 1) * width]
                payloads.append(pack_batch((head.encode(), headers if not part else b"", piece)))
                root = data_root(payloads[-1])
        except DataTooLarge:
            continue
        return tuple(payloads)
    raise AssertionError("a block has at most 10 MiB: a few dozen payloads hold it uncompressed")


def read_head(payload: bytes) -> BatchHead:
    """The head of a payload, without unpacking the rest.

    Raises:
        BatchMalformed: it has none.
    """
    size = len(BatchHead(1, 1, 0, 1, ZERO_HASH, ZERO_HASH).encode())
    try:
        plain = zlib.decompressobj().decompress(payload, 8 + size)
    except zlib.error as error:
        raise BatchMalformed("batch", str(error)) from error
    if plain[4:8] != size.to_bytes(4, "little"):
        raise BatchMalformed("batch", "it starts with no head")
    return BatchHead.decode(plain[8:])


def read_batch(payloads: Sequence[bytes]) -> Batch:
    """Read the payloads of one batch, in order.

    Raises:
        BatchMalformed: it does not decode, or a part is missing or of another batch.
        EnvelopeMalformed, DataTooLarge: a payload does not unpack within its bounds.
    """
    heads, parts = [], []
    for payload in payloads:
        items = unpack_batch(payload)
        if len(items) < 3:
            raise BatchMalformed("batch", f"{len(items)} items")
        heads.append(BatchHead.decode(items[0]))
        parts.append(items)
    if not heads or [head.part for head in heads] != list(range(heads[0].parts)):
        raise BatchMalformed("batch", f"parts {[head.part for head in heads]}")
    for before, payload, after in zip(heads, payloads, heads[1:], strict=False):
        if after != replace(before, part=after.part, previous=data_root(payload)):
            raise BatchMalformed("batch", f"part {after.part} is of another batch")
    if len(heads) > 1 and (heads[0].count != 1 or any(items[1] or len(items) != 3 for items in parts[1:])):
        raise BatchMalformed("batch", "more than one block in parts")
    bodies = list(parts[0][2:]) if len(heads) == 1 else [b"".join(items[2] for items in parts)]
    if len(bodies) != heads[0].count:
        raise BatchMalformed("batch", f"{len(bodies)} bodies, {heads[0].count} blocks")
    return Batch(heads[-1], _read_headers(parts[0][1], heads[0].count), tuple(bodies))


def rebuild_block(batch: Batch, index: int, parent: Header, load_body: LoadBody) -> Block:
    """One block of a batch, exactly as it was; `load_body` knows the blocks before it, those of the batch too.

    Raises:
        BatchMalformed: it repeats a block that is not there, or is larger than a block.
        Malformed: header or body do not decode.
    """
    body = decode_body(_join(batch.bodies[index], parent.number + 1, load_body))
    return Block(apply_header_difference(batch.headers[index], guess_header(parent, body)), body)


def guess_header(parent: Header, body: Body) -> Header:
    """What parent and body say of a header; elsewhere its parent's value, or none."""
    return replace(
        parent,
        parent_hash=parent.hash,
        number=parent.number + 1,
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        withdrawals_root=EMPTY_TRIE_ROOT,
        logs_bloom=bytes(256),
        gas_used=0,
        extra_data=certificate_commitment(body.certificate, body.evidence),
        mix_hash=ZERO_HASH,
        nonce=bytes(8),
    )


def encode_header_difference(block: Block, parent: Header) -> list[bytes]:
    """The mask of header fields that differ from their guesses, and those fields; as RLP items."""
    header, guess = block.header, guess_header(parent, block.body)
    differ = [name for name in _NAMES if getattr(header, name) != getattr(guess, name)]
    mask = sum(1 << _NAMES.index(name) for name in differ)
    return [encode_item(mask), *(encode_item(getattr(header, name)) for name in differ)]


def apply_header_difference(difference: tuple[int, tuple[bytes, ...]], guess: Header) -> Header:
    """The header that a difference stands for.

    Raises:
        BatchMalformed: a field that equals its guess, which is another encoding of the same header.
        Malformed: a field of another width.
    """
    mask, items = difference
    names = [name for at, name in enumerate(_NAMES) if mask >> at & 1]
    values = {
        name: decode_header_field(name, HEADER_WIDTHS[name], item) for name, item in zip(names, items, strict=True)
    }
    for name, value in values.items():
        if value == getattr(guess, name):
            raise BatchMalformed("header", f"{name} is said and needs not be")
    return replace(guess, **values)  # type: ignore[arg-type]  # HEADER_WIDTHS says which fields are numbers


def _read_headers(raw: bytes, count: int) -> tuple[tuple[int, tuple[bytes, ...]], ...]:
    if len(raw) > count * _HEADER_BYTES + _HEADER_BYTES:
        raise BatchMalformed("headers", f"{len(raw)} bytes for {count}")
    try:
        items: object = rlp.decode(raw)
    except (RLPException, RecursionError) as error:
        raise BatchMalformed("headers", f"not RLP: {error}") from error
    if not isinstance(items, list) or len(items) != count:
        raise BatchMalformed("headers", f"not a list of {count}")
    return tuple(_read_difference(item) for item in items)


def _read_difference(item: object) -> tuple[int, tuple[bytes, ...]]:
    if not isinstance(item, list) or not item or not all(isinstance(value, bytes) for value in item):
        raise BatchMalformed("headers", "no mask with fields")
    mask = decode_integer(item[0], "mask of a header", 4)
    if mask >> len(_NAMES) or mask.bit_count() != len(item) - 1:
        raise BatchMalformed("headers", f"mask {mask:#x} with {len(item) - 1} fields")
    return mask, tuple(item[1:])


def _join(pieces: bytes, number: int, load_body: LoadBody) -> bytes:
    """A body from its pieces. Repetitions are long and bytes stand between them: few pieces make the largest block."""
    reader, joined = Reader(pieces), bytearray()
    may_be_bytes = True
    try:
        while reader.peek():
            word = reader.number(4)
            size = word & ~_REPEATED
            if len(joined) + size > MAX_BLOCK_BYTES:
                raise BatchMalformed("body", f"block {number} has more than {MAX_BLOCK_BYTES} bytes")
            if word & _REPEATED:
                joined += _load_repeated(size, reader.number(2), reader.number(4), number, load_body)
            elif size and may_be_bytes:
                joined += reader.take(size)
            else:
                raise BatchMalformed("body", f"block {number} has a piece that needs not be one")
            may_be_bytes = bool(word & _REPEATED)
    except TransactionMalformed as error:
        raise BatchMalformed("body", str(error)) from error
    return bytes(joined)


def _load_repeated(size: int, below: int, offset: int, number: int, load_body: LoadBody) -> bytes:
    if not 1 <= below <= WINDOW_BLOCKS or size < _CHUNK:
        raise BatchMalformed("body", f"repeats {size} bytes of {below} blocks below")
    source = load_body(number - below) if number > below else None
    if source is None or offset + size > len(source):
        raise BatchMalformed("body", f"block {number} repeats what block {number - below} does not have")
    return source[offset : offset + size]


def _piece(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


class _Writer:
    """Finds in each body what the bodies of the blocks before have already."""

    def __init__(self, first: int, load_body: LoadBody) -> None:
        self._number = first
        self._bodies: dict[int, bytes] = {}
        self._known: dict[bytes, tuple[int, int]] = {}
        for number in range(max(1, first - WINDOW_BLOCKS), first):
            if (body := load_body(number)) is not None:
                self._learn(number, body)

    def add(self, body: bytes) -> bytes:
        """The pieces of the next block's body."""
        pieces = b"".join(self._cut(body))
        self._learn(self._number, body)
        self._number += 1
        return pieces

    def _learn(self, number: int, body: bytes) -> None:
        self._bodies[number] = body
        for at in range(0, len(body) - _CHUNK + 1, _CHUNK):
            self._known[body[at : at + _CHUNK]] = number, at

    def _cut(self, body: bytes) -> Iterator[bytes]:
        start = at = 0
        while at + _CHUNK <= len(body):
            found = self._known.get(body[at : at + _CHUNK])
            if found is None or self._number - found[0] > WINDOW_BLOCKS:
                at += 1
                continue
            number, offset = found
            source = self._bodies[number]
            while at > start and offset and body[at - 1] == source[offset - 1]:
                at, offset = at - 1, offset - 1
            size = _common(body, at, source, offset)
            if start < at:
                yield _piece(body[start:at])
            place = (self._number - number).to_bytes(2, "little") + offset.to_bytes(4, "little")
            yield (size | _REPEATED).to_bytes(4, "little") + place
            start = at = at + size
        if start < len(body):
            yield _piece(body[start:])


def _common(body: bytes, at: int, source: bytes, offset: int) -> int:
    """How many bytes are the same from two places on."""
    size, step = 0, _CHUNK
    while step:
        end = size + step
        if at + end <= len(body) and body[at + size : at + end] == source[offset + size : offset + end]:
            size = end
        else:
            step //= 2
    return size
