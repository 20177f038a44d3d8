"""Root of the trie of a list (transactions, receipts) for blocks that are only simulated. Source: Yellow Paper, D."""

from collections.abc import Sequence
from typing import TypeAlias

import rlp

from chain.blocks import EMPTY_TRIE_ROOT
from chain.hashing import keccak256

_Item: TypeAlias = tuple[bytes, bytes]
"""Path, one byte per nibble, and value."""


def compute_list_root(values: Sequence[bytes]) -> bytes:
    """Root of the trie that maps RLP(index) to each value."""
    if not values:
        return EMPTY_TRIE_ROOT
    items = sorted((_nibbles(rlp.encode(_integer(index))), value) for index, value in enumerate(values))
    return keccak256(rlp.encode(_node(items)))


def _node(items: Sequence[_Item]) -> list[object]:
    if len(items) == 1:
        path, value = items[0]
        return [_pack(path, leaf=True), value]
    shared = _shared_length(items[0][0], items[-1][0])  # sorted: all between share it too
    if shared:
        rest = [(path[shared:], value) for path, value in items]
        return [_pack(items[0][0][:shared], leaf=False), _reference(rest)]
    branch: list[object] = [b""] * 17
    for nibble in range(16):
        below = [(path[1:], value) for path, value in items if path and path[0] == nibble]
        if below:
            branch[nibble] = _reference(below)
    branch[16] = next((value for path, value in items if not path), b"")
    return branch


def _reference(items: Sequence[_Item]) -> object:
    node = _node(items)
    encoded = rlp.encode(node)
    return node if len(encoded) < 32 else keccak256(encoded)


def _shared_length(first: bytes, last: bytes) -> int:
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return length


def _pack(path: bytes, *, leaf: bool) -> bytes:
    flag = 2 if leaf else 0
    nibbles = bytes([flag + 1]) + path if len(path) % 2 else bytes([flag, 0]) + path
    return bytes(high << 4 | low for high, low in zip(nibbles[::2], nibbles[1::2], strict=True))


def _nibbles(data: bytes) -> bytes:
    return bytes(nibble for byte in data for nibble in (byte >> 4, byte & 15))


def _integer(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
