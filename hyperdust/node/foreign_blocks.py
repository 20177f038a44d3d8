"""Headers and blocks of an imported Ethereum chain, from Frontier on.

A `ForeignHeader` is a `Header` of which only the first `field_count` fields exist on the wire: the later ones hold the
value that the engine takes where a fork has none (0, or zero bytes). So whoever only computes with a header treats both
alike, whoever shows or encodes one asks `field_count_of`, and our own chain's header keeps exactly 21 fields.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final

import rlp
from rlp.codec import consume_length_prefix
from rlp.exceptions import RLPException

from chain.blocks import (
    HEADER_WIDTHS,
    ZERO_HASH,
    Block,
    Body,
    Header,
    Withdrawal,
    decode_header_field,
    decode_withdrawal,
    encode_item,
    withdrawal_items,
)
from chain.errors import Malformed

FRONTIER_FIELDS: Final = 15
LONDON_FIELDS: Final = 16
SHANGHAI_FIELDS: Final = 17
CANCUN_FIELDS: Final = 20
PRAGUE_FIELDS: Final = 21
_FIELD_COUNTS: Final = (FRONTIER_FIELDS, LONDON_FIELDS, SHANGHAI_FIELDS, CANCUN_FIELDS, PRAGUE_FIELDS)
_MAX_EXTRA_BYTES: Final = 32  # Yellow Paper, 4.4.4
_ABSENT: Final[dict[str, bytes | int]] = {
    "base_fee_per_gas": 0,
    "withdrawals_root": ZERO_HASH,
    "blob_gas_used": 0,
    "excess_blob_gas": 0,
    "parent_beacon_block_root": ZERO_HASH,
    "requests_hash": ZERO_HASH,
}


@dataclass(frozen=True, slots=True)
class ForeignHeader(Header):
    """A header with the fields of its fork."""

    field_count: int
    """How many of the 21 fields are on the wire."""

    def encode(self) -> bytes:
        """RLP of the fields that the fork has."""
        return bytes(rlp.encode(_items_of(self)))


@dataclass(frozen=True, slots=True)
class ForeignBody(Body):
    """A body with ommers; its certificate is empty."""

    ommers: tuple[ForeignHeader, ...]
    """Up to two, before Paris."""


def field_count_of(header: Header) -> int:
    """How many of the 21 fields a header has."""
    return header.field_count if isinstance(header, ForeignHeader) else len(HEADER_WIDTHS)


def ommers_of(body: Body) -> tuple[ForeignHeader, ...]:
    """A block's ommers; our own chain has none."""
    return body.ommers if isinstance(body, ForeignBody) else ()


def encode_ethereum_block(header: Header, body: Body) -> bytes:
    """RLP [header, transactions, ommers, withdrawals from Shanghai on]: as other clients encode a block."""
    transactions = [raw if raw[0] < 0x80 else rlp.decode(raw) for raw in body.transactions]
    items: list[object] = [_items_of(header), transactions, [_items_of(ommer) for ommer in ommers_of(body)]]
    if field_count_of(header) >= SHANGHAI_FIELDS:
        items.append(withdrawal_items(body.withdrawals))
    return bytes(rlp.encode(items))


def _items_of(header: Header) -> list[bytes]:
    names = [field.name for field in fields(Header)][: field_count_of(header)]
    return [encode_item(getattr(header, name)) for name in names]


def decode_foreign_header(data: bytes) -> ForeignHeader:
    """The inverse of `ForeignHeader.encode`.

    Raises:
        Malformed
    """
    return _header_of(_decode("header", data))


def _header_of(items: object) -> ForeignHeader:
    if not isinstance(items, list) or len(items) not in _FIELD_COUNTS:
        raise Malformed("header", f"not a list of {', '.join(map(str, _FIELD_COUNTS))} fields")
    values: dict[str, bytes | int] = dict(_ABSENT)
    for (name, width), item in zip(HEADER_WIDTHS.items(), items, strict=False):
        if name == "extra_data":
            if not isinstance(item, bytes) or len(item) > _MAX_EXTRA_BYTES:
                raise Malformed("header", f"extra_data is a list or has more than {_MAX_EXTRA_BYTES} bytes")
            values[name] = item
        else:
            values[name] = decode_header_field(name, width, item)
    return ForeignHeader(**values, field_count=len(items))  # type: ignore[arg-type]  # HEADER_WIDTHS names the numbers


def decode_ethereum_block(items: object) -> Block:
    """A block from its RLP items; transactions become EIP-2718 bytes.

    Raises:
        Malformed
    """
    if not isinstance(items, list) or len(items) not in {3, 4} or not all(isinstance(item, list) for item in items):
        raise Malformed("block", "not a list of header, transactions, ommers, withdrawals")
    header = _header_of(items[0])
    if (len(items) == 4) != (header.field_count >= SHANGHAI_FIELDS):
        raise Malformed("block", "withdrawals without a root in the header, or the other way round")
    transactions = tuple(raw if isinstance(raw, bytes) else bytes(rlp.encode(raw)) for raw in items[1])
    if not all(transactions):
        raise Malformed("block", "an empty transaction")
    return Block(header, _body_of(transactions, items[3] if len(items) == 4 else [], items[2]))


def _body_of(transactions: tuple[bytes, ...], withdrawals: Sequence[object], ommers: Sequence[object]) -> ForeignBody:
    listed: tuple[Withdrawal, ...] = tuple(decode_withdrawal(item) for item in withdrawals)
    return ForeignBody(transactions, listed, b"", tuple(_header_of(item) for item in ommers))


def split_blocks(data: bytes) -> Iterator[Block]:
    """The blocks of a chain file: RLP items in a row.

    Raises:
        Malformed
    """
    position = 0
    while position < len(data):
        try:
            _, _, size, start = consume_length_prefix(data, position)
        except (RLPException, IndexError) as error:
            raise Malformed("chain", f"not RLP at byte {position}: {error}") from error
        yield decode_ethereum_block(_decode("block", data[position : start + size]))
        position = start + size


def encode_foreign_body(body: Body) -> bytes:
    """RLP: [transactions, withdrawals, ommers]."""
    ommers = [_items_of(ommer) for ommer in ommers_of(body)]
    return bytes(rlp.encode([list(body.transactions), withdrawal_items(body.withdrawals), ommers]))


def decode_foreign_body(data: bytes) -> ForeignBody:
    """The inverse of `encode_foreign_body`.

    Raises:
        Malformed
    """
    transactions, withdrawals, ommers = _decode("body", data)
    raws = tuple(raw for raw in transactions if isinstance(raw, bytes))
    return _body_of(raws, withdrawals, ommers)


def _decode(what: str, data: bytes) -> list[list[object]]:
    try:
        items = rlp.decode(data)
    except (RLPException, RecursionError) as error:
        raise Malformed(what, f"not RLP: {error}") from error
    if not isinstance(items, list):
        raise Malformed(what, "no list")
    return items
