"""Headers that keep the rules, found by trying: on the easiest target every second nonce wins."""

from dataclasses import replace

from bridge.checkpoint import check_checkpoint, genesis_checkpoint
from bridge.headers import Context, Header, apply_header, check_header, compute_bits
from bridge.params import MAIN, REGTEST, BitcoinParams
from bridge.work import compact_to_target, sha256d

EASIEST = {"easiest_bits": REGTEST.easiest_bits, "easiest_target": REGTEST.easiest_target, "genesis": REGTEST.genesis}
EASY_MAIN = replace(MAIN, name="easy", bip34_height=20, bip66_height=30, bip65_height=40, **EASIEST)
"""Main network's rules, retargets included, on regtest's genesis block."""
NOW = 2_000_000_000
VERSION = 0x20000000


def start(params: BitcoinParams) -> Context:
    return check_checkpoint(params, genesis_checkpoint(params))


def mine(params, context, timestamp=None, *, bits=None, version=VERSION, root=bytes(32), parent=None, wins=True):
    """80 bytes; by default ten minutes after the parent, and right in everything."""
    timestamp = context.parent.timestamp + 600 if timestamp is None else timestamp
    bits = compute_bits(params, context, timestamp) if bits is None else bits
    target = compact_to_target(bits)
    for nonce in range(1 << 20):
        header = Header(version, context.parent_hash if parent is None else parent, root, timestamp, bits, nonce)
        raw = header.encode()
        if (int.from_bytes(sha256d(raw), "little") <= target) is wins:
            return raw
    raise AssertionError("no nonce wins")


def extend(params, context, count, spacing_s=600, *, root=bytes(32)):
    """`count` headers in a row and the context after them."""
    rows = []
    for _ in range(count):
        raw = mine(params, context, context.parent.timestamp + spacing_s, root=root)
        context = apply_header(params, context, *check_header(params, context, raw, NOW))
        rows.append(raw)
    return rows, context
