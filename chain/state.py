"""Keys of the state in the database, and the encoding of accounts. What executes is `chain.engine`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import rlp

from chain.blocks import EMPTY_TRIE_ROOT
from chain.errors import NodeFault
from chain.hashing import keccak256

EMPTY_CODE_HASH: Final = keccak256(b"")


def account_key(address: bytes) -> bytes:
    """RLP [nonce, balance, storage root, code hash]; absent when the account does not exist."""
    return b"a" + address


def slot_key(address: bytes, slot: int) -> bytes:
    """The value, big-endian without leading zeros; absent when it is 0."""
    return b"s" + address + slot.to_bytes(32, "big")


def code_key(code_hash: bytes) -> bytes:
    """The code."""
    return b"c" + code_hash


def account_node_key(path: bytes) -> bytes:
    """RLP of the account trie's node at `path`, one byte per nibble."""
    return b"n" + path


def storage_node_key(address: bytes, path: bytes) -> bytes:
    """RLP of the node at `path` of an account's storage trie."""
    return b"m" + keccak256(address) + path


def block_hash_key(number: int) -> bytes:
    """Hash of a block, for BLOCKHASH; the store answers it, the engine never writes it."""
    return b"h" + number.to_bytes(8, "big")


PEG_KEY: Final = b"p"
"""The peg's state in its one encoding (`bridge.peg_codec`), beside the tries: `Bridge` holds its keccak256. The engine
neither reads nor writes it; absent where the network has no peg."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the state trie holds it."""

    nonce: int = 0
    """Transactions sent (contracts: contracts created)."""
    balance: int = 0
    """Wei."""
    storage_root: bytes = EMPTY_TRIE_ROOT
    """Root of the storage trie."""
    code_hash: bytes = EMPTY_CODE_HASH
    """Keccak of the code."""


def decode_account(data: bytes | None) -> Account:
    """The account in the database's value; an empty one when there is none.

    Raises:
        NodeFault: the database holds something else.
    """
    if data is None:
        return Account()
    match rlp.decode(data):
        case [bytes(nonce), bytes(balance), bytes(storage_root), bytes(code_hash)]:
            return Account(int.from_bytes(nonce, "big"), int.from_bytes(balance, "big"), storage_root, code_hash)
    raise NodeFault("the database holds a malformed account")


def encode_writes(writes: Sequence[tuple[bytes, bytes | None]]) -> bytes:
    """Writes as one string, ten times as fast as RLP: len16(key) ‖ key ‖ len32(value) + 1, or 0 to remove ‖ value."""
    parts: list[bytes] = []
    for key, value in writes:
        size = 0 if value is None else len(value) + 1
        parts += (len(key).to_bytes(2, "big"), key, size.to_bytes(4, "big"), value or b"")
    return b"".join(parts)


def decode_writes(data: bytes) -> list[tuple[bytes, bytes | None]]:
    """The inverse of `encode_writes`.

    Raises:
        NodeFault: the database holds something else.
    """
    writes: list[tuple[bytes, bytes | None]] = []
    at = 0
    while at < len(data):
        middle = at + 2 + int.from_bytes(data[at : at + 2], "big")
        size = int.from_bytes(data[middle : middle + 4], "big")
        end = middle + 4 + max(size - 1, 0)
        if end > len(data):
            raise NodeFault("the database holds cut off state writes")
        writes.append((data[at + 2 : middle], data[middle + 4 : end] if size else None))
        at = end
    return writes
