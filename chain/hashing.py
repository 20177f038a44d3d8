"""The two hashes of the protocol: H (BLAKE3, tagged) and keccak256 (what contracts can check)."""

from blake3 import blake3
from Crypto.Hash import keccak


def H(tag: str, *parts: bytes) -> bytes:  # noqa: N802 - the protocol's name
    """Tagged hash: BLAKE3(len8(tag) ‖ tag ‖ each part as len32 ‖ bytes), lengths little-endian.

    Source: protocol.md, Words.
    """
    name = tag.encode("ascii")
    hasher = blake3(len(name).to_bytes(1, "little") + name)
    for part in parts:
        hasher.update(len(part).to_bytes(4, "little"))
        hasher.update(part)
    return hasher.digest()


def keccak256(data: bytes) -> bytes:
    """Ethereum's Keccak-256 (not SHA3-256)."""
    return keccak.new(digest_bits=256, data=data).digest()
