"""Partial trees as a node makes them, right or wrong: the other half of `bridge.inclusion`. Source: BIP-37."""

from bridge.headers import Header
from bridge.inclusion import PartialTree
from bridge.transactions import Input, Output, Transaction
from bridge.work import sha256d

BITS = 0x207FFFFF


def transaction(number, *, script=bytes(22), witness=()):
    spent = Input(sha256d(b"%d" % number), number & 0xFF, b"", 0xFFFFFFFD, witness)
    return Transaction(2, (spent,), (Output(1000 + number, script),), 0)


def rows_of(txids):
    rows = [list(txids)]
    while len(rows[-1]) > 1:
        row = rows[-1]
        rows.append([sha256d(row[at] + row[min(at + 1, len(row) - 1)]) for at in range(0, len(row), 2)])
    return rows


def root_of(txids):
    return rows_of(txids)[-1][0]


def build_tree(txids, proven, rows=None):
    rows = rows or rows_of(txids)
    hashes, flags = [], []

    def visit(level, position):
        below = range(position << level, min((position + 1) << level, len(txids)))
        leads = any(at in proven for at in below)
        flags.append(leads)
        if not level or not leads:
            hashes.append(rows[level][position])
            return
        visit(level - 1, 2 * position)
        if 2 * position + 1 < len(rows[level - 1]):
            visit(level - 1, 2 * position + 1)

    visit(len(rows) - 1, 0)
    number = sum(flag << at for at, flag in enumerate(flags))
    return PartialTree(len(txids), tuple(hashes), number.to_bytes((len(flags) + 7) // 8, "little"))


def header_of(root):
    return Header(0x20000000, bytes(32), root, 1_700_000_000, BITS, 0)
