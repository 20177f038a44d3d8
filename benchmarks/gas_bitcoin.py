"""Inputs of the native calls that read Bitcoin, for `gas.py`: a regtest chain of our own, and its worst blocks."""

from collections.abc import Iterator

from coincurve import PrivateKey

from bridge.checkpoint import check_checkpoint, genesis_checkpoint
from bridge.header_chain import HeaderChain
from bridge.headers import Context, Header, apply_header, check_header
from bridge.inclusion import Branch, compute_branch_root
from bridge.params import REGTEST
from bridge.work import compact_to_target, sha256d
from precompiles.bitcoin import (
    BIP340,
    BITCOIN_HEADER,
    BITCOIN_ORIGIN,
    BITCOIN_TRANSACTION,
    bitcoin_calls,
    encode_transaction_call,
)

BLOCKS = 200
LEVELS = 15
"""Of the tree of a block with 16,666 transactions: no branch is longer."""
SIZES = (61, 250, 100_000)
NOW = 2_000_000_000
BRANCH = Branch(5, 16_666, tuple(sha256d(bytes([at])) for at in range(LEVELS)))


def transaction(size: int) -> bytes:
    """Bytes of this size; the call does not decode them."""
    return bytes(at % 251 for at in range(size))


def next_header(context: Context, root: bytes) -> tuple[bytes, Context]:
    """80 bytes that keep the rules on top of a branch, and the context after them."""
    target = compact_to_target(REGTEST.easiest_bits)
    for nonce in range(1000):
        time = context.parent.timestamp + 600
        raw = Header(4, context.parent_hash, root, time, REGTEST.easiest_bits, nonce).encode()
        if int.from_bytes(sha256d(raw), "little") <= target:
            return raw, apply_header(REGTEST, context, *check_header(REGTEST, context, raw, NOW))
    raise AssertionError("no nonce wins")


def build_chain() -> HeaderChain:
    """The first blocks hold one transaction each."""
    chain, context = HeaderChain(REGTEST), check_checkpoint(REGTEST, genesis_checkpoint(REGTEST))
    roots = [compute_branch_root(BRANCH, sha256d(transaction(size))) for size in SIZES]
    for at in range(BLOCKS):
        raw, context = next_header(context, roots[at] if at < len(roots) else bytes(32))
        chain.extend(raw, NOW)
    return chain


CHAIN = build_chain()
CALLS = bitcoin_calls(CHAIN, CHAIN.hash_at(BLOCKS - 6))


def inputs() -> Iterator[tuple[str, bytes, bytes, int | None]]:
    """Name, address, input, and what a call that fails is given: no more than it has to be."""
    price = {address: (base, word) for address, _, base, word in CALLS}

    def least(address: bytes, data: bytes) -> int:
        base, word = price[address]
        return base + word * -(-len(data) // 32)

    yield "height and hash", BITCOIN_ORIGIN, b"", None
    yield "oldest", BITCOIN_HEADER, CHAIN.hash_at(0), None
    for name, data in (("above the origin", CHAIN.tip), ("unknown", b"\1" * 32)):
        yield name, BITCOIN_HEADER, data, least(BITCOIN_HEADER, data)
    for height, size in enumerate(SIZES, start=1):
        data = encode_transaction_call(CHAIN.hash_at(height), BRANCH, transaction(size))
        yield f"{size:,} bytes, {LEVELS} levels", BITCOIN_TRANSACTION, data, None
        wrong = data[:-1] + b"\0"
        yield f"{size:,} bytes, wrong", BITCOIN_TRANSACTION, wrong, least(BITCOIN_TRANSACTION, wrong)
    key = PrivateKey(b"\1" * 32)
    signed = key.public_key_xonly.format() + b"\2" * 32 + key.sign_schnorr(b"\2" * 32)
    yield "right", BIP340, signed, None
    yield "wrong", BIP340, signed[:-1] + b"\0", least(BIP340, signed)
