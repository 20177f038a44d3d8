"""Batches of blocks on Bitcoin: packed, in the witness of a taproot spend, found by the root that an anchor names.

What a batch's items mean is for the node; here they are bytes. Pushes stay at 255 bytes: what every relay policy takes.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from bridge.errors import TransactionMalformed
from bridge.peg_errors import DataTooLarge, EnvelopeMalformed
from bridge.scripts import MAGIC
from bridge.taproot import NUMS, Leaf, make_single
from bridge.transactions import Reader, Transaction
from chain.hashing import H

MAX_PAYLOAD_BYTES: Final = 390_000  # of 400,000 weight units that nodes relay, one a byte of witness
MAX_BATCH_BYTES: Final = 64 * 1024 * 1024
"""What one payload may unpack to."""
MAX_ITEMS: Final = 1 << 16
"""In one batch."""
_TYPE: Final = 0x12
"""Version 1 in the upper four bits, type 2 (data) in the lower ones."""
_HEAD_BYTES: Final = len(MAGIC) + 1 + 4
_WITNESS_ITEMS: Final = 3  # signature, script, control block
_PUSH_BYTES: Final = 255
_LEAST_PAIR: Final = 4  # two pushes of two bytes: a push of one byte has a shorter form for some values
_2DROP: Final = b"\x6d"
_CHECKSIG: Final = b"\xac"
_PUSHDATA1: Final = 0x4C
_LEVEL: Final = 9


def pack_batch(items: Sequence[bytes]) -> bytes:
    """One payload: count u32, each item after its u32 size, compressed with zlib.

    Raises:
        DataTooLarge: for one envelope, or to be unpacked.
    """
    sized = [len(item).to_bytes(4, "little") + item for item in items]
    plain = len(items).to_bytes(4, "little") + b"".join(sized)
    if len(plain) > MAX_BATCH_BYTES or len(items) > MAX_ITEMS:
        raise DataTooLarge("batch", (len(items), len(plain)), f"at most {MAX_ITEMS} items, {MAX_BATCH_BYTES} bytes")
    return _check_size(zlib.compress(plain, _LEVEL))


def unpack_batch(payload: bytes) -> tuple[bytes, ...]:
    """The items of a payload; never more memory than the bound, whatever the payload says.

    Raises:
        EnvelopeMalformed: no zlib stream that ends with the payload, or other items than it says.
        DataTooLarge: more than `MAX_BATCH_BYTES`.
    """
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(payload, MAX_BATCH_BYTES + 1)
    except zlib.error as error:
        raise EnvelopeMalformed("batch", str(error)) from error
    if len(plain) > MAX_BATCH_BYTES:
        raise DataTooLarge("batch", f"more than {MAX_BATCH_BYTES}", f"at most {MAX_BATCH_BYTES} bytes")
    if not stream.eof or stream.unused_data:
        raise EnvelopeMalformed("batch", "the stream does not end where the payload does")
    reader = Reader(plain)
    try:
        if (count := reader.number(4)) > MAX_ITEMS:
            raise DataTooLarge("batch", count, f"at most {MAX_ITEMS} items")
        items = tuple(reader.take(reader.number(4)) for _ in range(count))
        reader.end()
    except TransactionMalformed as error:
        raise EnvelopeMalformed("batch", str(error)) from error
    return items


def data_root(payload: bytes) -> bytes:
    """By which an anchor names a payload."""
    return H("data", payload)


def envelope_script(payload: bytes, key: bytes) -> bytes:
    """`(<≤255 B> <≤255 B> 2DROP)* <key> CHECKSIG`, of `"HYPD" ‖ 0x12 ‖ size u32 ‖ payload ‖ zeros to a last pair`.

    Raises:
        DataTooLarge: more than one envelope takes.
    """
    text = MAGIC + bytes([_TYPE]) + len(_check_size(payload)).to_bytes(4, "little") + payload
    last = len(text) % (2 * _PUSH_BYTES)
    text += bytes(max(0, _LEAST_PAIR - last) if last else 0)
    pairs = [text[at : at + 2 * _PUSH_BYTES] for at in range(0, len(text), 2 * _PUSH_BYTES)]
    halves = [(pair[: (len(pair) + 1) // 2], pair[(len(pair) + 1) // 2 :]) for pair in pairs]
    return b"".join(_push(left) + _push(right) + _2DROP for left, right in halves) + _push(key) + _CHECKSIG


def envelope_output(payload: bytes, key: bytes) -> tuple[bytes, Leaf]:
    """The scriptPubKey to pay to, and the leaf that its spend reveals with one signature of `key`."""
    return make_single(NUMS, envelope_script(payload, key))


def parse_envelope(script: bytes) -> tuple[bytes, bytes]:
    """Payload and key of an envelope.

    Raises:
        EnvelopeMalformed: no envelope, or another encoding of one.
        DataTooLarge: above the bound.
    """
    reader = Reader(script)
    parts: list[bytes] = []
    try:
        first = _read_push(reader)
        while (second := reader.take(1)) != _CHECKSIG:
            parts += [first, _read_push(reader, second)]
            if reader.take(1) != _2DROP:
                raise EnvelopeMalformed("envelope", "no 2DROP after two pushes")
            first = _read_push(reader)
        reader.end()
    except TransactionMalformed as error:
        raise EnvelopeMalformed("envelope", str(error)) from error
    text = b"".join(parts)
    if text[: _HEAD_BYTES - 4] != MAGIC + bytes([_TYPE]) or len(text) < _HEAD_BYTES:
        raise EnvelopeMalformed("envelope", f"starts with {text[:5].hex()}")
    size = int.from_bytes(text[_HEAD_BYTES - 4 : _HEAD_BYTES], "little")
    payload = text[_HEAD_BYTES : _HEAD_BYTES + size]
    if len(payload) != size or len(first) != 32 or envelope_script(payload, first) != script:
        raise EnvelopeMalformed("envelope", "is not in its one encoding")
    return payload, first


def find_envelopes(transaction: Transaction) -> Iterator[tuple[bytes, bytes]]:
    """Payload and key of each envelope among the witnesses of a transaction; other witnesses are passed over."""
    for spent in transaction.inputs:
        if len(spent.witness) != _WITNESS_ITEMS:
            continue
        try:
            yield parse_envelope(spent.witness[1])
        except (EnvelopeMalformed, DataTooLarge):
            continue


def find_payload(transaction: Transaction, root: bytes) -> bytes | None:
    """The payload of a root among the witnesses of a transaction; None where it is not."""
    for payload, _ in find_envelopes(transaction):
        if data_root(payload) == root:
            return payload
    return None


def _check_size(payload: bytes) -> bytes:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise DataTooLarge("payload", len(payload), f"at most {MAX_PAYLOAD_BYTES} bytes")
    return payload


def _push(data: bytes) -> bytes:
    return (bytes([len(data)]) if len(data) < _PUSHDATA1 else bytes([_PUSHDATA1, len(data)])) + data


def _read_push(reader: Reader, start: bytes = b"") -> bytes:
    size = (start or reader.take(1))[0]
    if size > _PUSHDATA1:
        raise EnvelopeMalformed("envelope", f"opcode {size:#04x} where a push stands")
    return reader.take(reader.number(1) if size == _PUSHDATA1 else size)
