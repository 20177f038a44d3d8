"""Outputs that a leaf script or a key can spend (BIP-341, BIP-342): trees, signature hashes, witnesses, their sizes.

Signing itself is the program's: here are the hashes that are signed and what becomes of the signatures. Every signature
is of SIGHASH_DEFAULT: 64 bytes that commit to all inputs, amounts, scripts and outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from btclib.exceptions import BTClibValueError
from btclib.script import sig_hash
from btclib.script.taproot import leaf_hash, output_pubkey_from_merkle_root
from btclib.tx.tx import Tx
from btclib.tx.tx_out import TxOut
from btclib_ecc.ecc import ssa
from btclib_ecc.exceptions import BTClibEccValueError
from btclib_ecc.hashes import tagged_hash

from bridge.peg_errors import BadSignature, SignaturesMissing
from bridge.transactions import Output, Transaction, encode_size

NUMS: Final = bytes.fromhex("50929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0")
"""BIP-341's point H, whose discrete logarithm nobody knows: an internal key that nobody can sign for."""
LEAF_VERSION: Final = 0xC0
SIGNATURE_BYTES: Final = 64
_SIGHASH_DEFAULT: Final = 0
_NO_CODESEPARATOR: Final = b"\x00\xff\xff\xff\xff"  # key version 0, and none executed


class Path(Enum):
    """How an output is spent."""

    SCRIPT = "script"
    """By k signatures under the signers' leaf."""
    KEY = "key"
    """By one signature of the signers' common key."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A script of a tree, and what shows that it is in the tree."""

    script: bytes
    control: bytes
    """Control block: version and parity, internal key, way to the root."""

    @property
    def hash(self) -> bytes:
        """What a signature under this leaf commits to."""
        return leaf_hash(LEAF_VERSION, self.script)


@dataclass(frozen=True, slots=True)
class TaprootOutput:
    """An output of the peg: spent by the signers, and by somebody else after a while."""

    script: bytes
    """scriptPubKey, 34 bytes."""
    internal_key: bytes
    """x-only; `NUMS` where the signers have no common key."""
    merkle_root: bytes
    """Of the tree of leaves: what the internal key is tweaked by."""
    signers: Leaf
    """k of n signers, at any time."""
    fallback: Leaf
    """The user (deposits) or the council (vault), after a number of blocks."""

    @property
    def output_key(self) -> bytes:
        """x-only."""
        return self.script[2:]


def branch_hash(left: bytes, right: bytes) -> bytes:
    """An inner node of a tree; order does not matter."""
    return tagged_hash(b"TapBranch", min(left, right) + max(left, right))


def make_output(internal_key: bytes, signers: bytes, fallback: bytes, hidden: bytes | None = None) -> TaprootOutput:
    """The output of `[[signers], [fallback]]`, or of `[[signers], [[fallback], [hidden]]]`: scripts come in."""
    ours, other = leaf_hash(LEAF_VERSION, signers), leaf_hash(LEAF_VERSION, fallback)
    beside = b"" if hidden is None else leaf_hash(LEAF_VERSION, hidden)
    right = branch_hash(other, beside) if beside else other
    root = branch_hash(ours, right)
    key, parity = output_pubkey_from_merkle_root(internal_key, root)
    start = bytes([LEAF_VERSION | parity]) + internal_key
    return TaprootOutput(
        b"\x51\x20" + key, internal_key, root, Leaf(signers, start + right), Leaf(fallback, start + beside + ours)
    )


def make_single(internal_key: bytes, script: bytes) -> tuple[bytes, Leaf]:
    """The scriptPubKey of a tree of one leaf, and that leaf."""
    key, parity = output_pubkey_from_merkle_root(internal_key, leaf_hash(LEAF_VERSION, script))
    return b"\x51\x20" + key, Leaf(script, bytes([LEAF_VERSION | parity]) + internal_key)


def is_key(key: bytes) -> bool:
    """Whether 32 bytes are an x-only public key."""
    try:
        ssa.point_from_bip340pub_key_var(key)
    except (BTClibEccValueError, BTClibValueError):
        return False
    return len(key) == 32


def check_signature(key: bytes, message: bytes, signature: bytes) -> None:
    """Check a BIP-340 signature of a signature hash.

    Raises:
        BadSignature: it does not fit.
    """
    if len(signature) != SIGNATURE_BYTES or not is_key(key) or not ssa.verify_(message, key, signature):
        raise BadSignature("signature", signature, f"one of {key.hex()} over {message.hex()}")


def compute_sighashes(
    transaction: Transaction, spent: tuple[Output, ...], leaves: tuple[Leaf | None, ...]
) -> tuple[bytes, ...]:
    """What each input's signatures sign; `spent` are the outputs that inputs spend, None as leaf is the key path."""
    parsed = Tx.parse(transaction.encode_stripped(), check_validity=False)
    coins = [TxOut(coin.sats, coin.script, check_validity=False) for coin in spent]
    shared = sig_hash.PrecomputedTxData(parsed, coins)
    return tuple(
        sig_hash.taproot(
            parsed,
            index,
            coins,
            _SIGHASH_DEFAULT,
            0 if leaf is None else 1,
            b"",
            b"" if leaf is None else leaf.hash + _NO_CODESEPARATOR,
            shared,
        )
        for index, leaf in enumerate(leaves)
    )


def make_threshold_witness(
    leaf: Leaf, keys: tuple[bytes, ...], threshold: int, message: bytes, signatures: Mapping[bytes, bytes]
) -> tuple[bytes, ...]:
    """The witness of a k-of-n leaf: the first k signatures in the order of its keys, an empty one for every other key.

    Raises:
        BadSignature: one does not fit its key.
        SignaturesMissing: fewer than the threshold.
    """
    chosen = [key for key in keys if key in signatures][:threshold]
    if len(chosen) < threshold:
        raise SignaturesMissing("signatures", len(chosen), f"{threshold} of {len(keys)}")
    for key in chosen:
        check_signature(key, message, signatures[key])
    stack = [signatures[key] if key in chosen else b"" for key in reversed(keys)]  # the first key reads the top
    return (*stack, leaf.script, leaf.control)


def blank_witness(leaf: Leaf | None, keys: int, threshold: int) -> tuple[bytes, ...]:
    """A witness of the very size that the signed one will have."""
    blank = bytes(SIGNATURE_BYTES)
    if leaf is None:
        return (blank,)
    return (*[blank] * threshold, *[b""] * (keys - threshold), leaf.script, leaf.control)


def weight_of(transaction: Transaction) -> int:
    """Weight units (BIP-141): four a byte without witnesses, one a byte of witness."""
    return 3 * len(transaction.encode_stripped()) + len(transaction.encode())


def vsize_of(transaction: Transaction) -> int:
    """Virtual bytes: a quarter of the weight, rounded up."""
    return (weight_of(transaction) + 3) // 4


def weight_of_spend(witness: tuple[bytes, ...]) -> int:
    """Weight units of an input with this witness: 41 bytes four times, then the witness."""
    sizes = [len(part) for part in witness]
    return 4 * 41 + len(encode_size(len(sizes))) + sum(len(encode_size(size)) + size for size in sizes)


def with_witnesses(transaction: Transaction, witnesses: Sequence[tuple[bytes, ...]]) -> Transaction:
    """A transaction with a witness for each input."""
    pairs = zip(transaction.inputs, witnesses, strict=True)
    return replace(transaction, inputs=tuple(replace(place, witness=witness) for place, witness in pairs))
