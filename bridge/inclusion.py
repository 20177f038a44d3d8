"""Whether a transaction is in a block: Merkle branches, and partial trees as `gettxoutproof` gives them (BIP-37).

The pitfalls: equal halves (CVE-2012-2459), and 64-byte transactions, which an inner node passes for and which pass for
inner nodes (CVE-2017-12842). A header does not commit to the number of transactions, so no depth is trusted: no node on
the way may read as a 64-byte transaction, and no transaction of that size is ever proven.
"""

from dataclasses import dataclass
from typing import Final, Self

from bridge.errors import (
    AmbiguousTransaction,
    DuplicateSubtree,
    IndexOutsideTree,
    NotIncluded,
    ProofMalformed,
    TransactionCountWrong,
    TransactionMalformed,
    TreeMalformed,
    WrongMerkleRoot,
)
from bridge.headers import HEADER_BYTES, Header
from bridge.transactions import Reader, Transaction, encode_size
from bridge.work import sha256d, show_hash

MAX_TRANSACTIONS: Final = 4_000_000 // 240  # block weight over that of the smallest transaction
HASH_BYTES: Final = 32
NODE_BYTES: Final = 2 * HASH_BYTES
_Nodes = dict[tuple[int, int], bytes]
"""Known nodes of a tree by level (leaves 0) and position."""


@dataclass(frozen=True, slots=True)
class Branch:
    """The way from one transaction to the root: what evidence carries."""

    index: int
    """Of the transaction in its block."""
    count: int
    """Of the block's transactions, as the prover says."""
    siblings: tuple[bytes, ...]
    """From the leaves up; none where a node is the last of an odd row."""

    def encode(self) -> bytes:
        """u16 index, u16 count, siblings; the count says how many."""
        return self.index.to_bytes(2, "little") + self.count.to_bytes(2, "little") + b"".join(self.siblings)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read exactly one branch.

        Raises:
            ProofMalformed: no whole hashes. Everything else is for `check_branch`.
        """
        if len(raw) < 4 or len(raw) % HASH_BYTES != 4:
            raise ProofMalformed("branch", f"{len(raw)} bytes")
        siblings = tuple(raw[at : at + HASH_BYTES] for at in range(4, len(raw), HASH_BYTES))
        return cls(int.from_bytes(raw[:2], "little"), int.from_bytes(raw[2:4], "little"), siblings)


@dataclass(frozen=True, slots=True)
class PartialTree:
    """A pruned Merkle tree, walked depth first."""

    count: int
    """Of the block's transactions, as the prover says."""
    hashes: tuple[bytes, ...]
    """Of pruned subtrees and of leaves."""
    flags: bytes
    """One bit a visited node, lowest first: whether a proven leaf lies at or below it."""

    def encode(self) -> bytes:
        """BIP-37's `merkleblock` after the header."""
        sizes = encode_size(len(self.hashes)), encode_size(len(self.flags))
        return self.count.to_bytes(4, "little") + sizes[0] + b"".join(self.hashes) + sizes[1] + self.flags

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read exactly one tree.

        Raises:
            ProofMalformed: another encoding, or none.
        """
        reader = Reader(raw)
        try:
            count = reader.number(4)
            hashes = tuple(reader.take(HASH_BYTES) for _ in range(reader.count(HASH_BYTES)))
            tree = cls(count, hashes, reader.take(reader.size()))
            reader.end()
        except TransactionMalformed as error:
            raise ProofMalformed("partial tree", str(error)) from error
        return tree


@dataclass(frozen=True, slots=True)
class Proven:
    """What a checked partial tree says."""

    root: bytes
    """Merkle root."""
    txids: tuple[tuple[int, bytes], ...]
    """Index and id of each proven transaction, in order."""
    branches: tuple[Branch, ...]
    """One for each."""


def check_tree(tree: PartialTree) -> Proven:
    """Walk a partial tree to its root.

    Raises:
        TransactionCountWrong, TreeMalformed, DuplicateSubtree, AmbiguousTransaction: by rule.
    """
    if not 0 < tree.count <= MAX_TRANSACTIONS:
        raise TransactionCountWrong("transactions", tree.count, f"1 to {MAX_TRANSACTIONS}")
    if len(tree.hashes) > tree.count or len(tree.flags) * 8 < len(tree.hashes):
        raise TreeMalformed("partial tree", f"{len(tree.hashes)} hashes, {len(tree.flags)} flag bytes")
    walk = _Walk(tree)
    root = walk.visit(_top_level(tree.count), 0)
    walk.check_end()
    proven = tuple((index, walk.nodes[0, index]) for index in walk.proven)
    return Proven(root, proven, tuple(_branch(walk.nodes, index, tree.count) for index in walk.proven))


def check_txout_proof(raw: bytes, header: Header) -> Proven:
    """What a `gettxoutproof` answer proves of the block of `header`.

    Raises:
        ProofMalformed: no answer of that kind.
        WrongMerkleRoot: another header, or a tree with another root.
        And the rules of `check_tree`.
    """
    if (got := raw[:HEADER_BYTES]) != header.encode():
        raise WrongMerkleRoot("header of the proof", got.hex(), header.encode().hex())
    proven = check_tree(PartialTree.decode(raw[HEADER_BYTES:]))
    if proven.root != header.merkle_root:
        raise WrongMerkleRoot("Merkle root", show_hash(proven.root), show_hash(header.merkle_root))
    return proven


def check_transaction_proof(raw: bytes, header: Header, transaction: bytes) -> Branch:
    """The branch of a transaction that a `gettxoutproof` answer proves.

    Raises:
        NotIncluded: it proves others.
        TransactionMalformed, AmbiguousTransaction: the transaction can be none that is proven.
        And the rules of `check_txout_proof`.
    """
    txid = check_size(transaction)
    proven = check_txout_proof(raw, header)
    for (_, found), branch in zip(proven.txids, proven.branches, strict=True):
        if found == txid:
            return branch
    raise NotIncluded(txid)


def check_branch(branch: Branch, merkle_root: bytes, transaction: bytes) -> Transaction:
    """The transaction that stands in the block of `merkle_root`.

    Raises:
        TransactionCountWrong, IndexOutsideTree, DuplicateSubtree, AmbiguousTransaction, WrongMerkleRoot,
        TransactionMalformed: by rule.
    """
    txid = check_size(transaction)
    if (root := compute_branch_root(branch, txid)) != merkle_root:
        raise WrongMerkleRoot("Merkle root", show_hash(root), show_hash(merkle_root))
    return Transaction.decode(transaction)


def check_size(transaction: bytes) -> bytes:
    """The id of a transaction that is not of the one dangerous size.

    Raises:
        AmbiguousTransaction: 64 bytes without its witnesses.
        TransactionMalformed: none.
    """
    stripped = Transaction.decode(transaction).encode_stripped()
    if len(stripped) == NODE_BYTES:
        raise AmbiguousTransaction("transaction size", len(stripped), f"any but {NODE_BYTES}")
    return sha256d(stripped)


def compute_branch_root(branch: Branch, txid: bytes) -> bytes:
    """The root that a branch leads to.

    Raises:
        TransactionCountWrong, IndexOutsideTree, DuplicateSubtree, AmbiguousTransaction: by rule.
    """
    if not 0 < branch.count <= MAX_TRANSACTIONS:
        raise TransactionCountWrong("transactions", branch.count, f"1 to {MAX_TRANSACTIONS}")
    if branch.index >= branch.count:
        raise IndexOutsideTree("index", branch.index, f"below {branch.count}")
    if len(branch.siblings) != (wanted := _siblings(branch.index, branch.count)):
        raise IndexOutsideTree("siblings", len(branch.siblings), wanted)
    node, position, siblings = txid, branch.index, iter(branch.siblings)
    for level in range(_top_level(branch.count)):
        if position & 1:
            node = _join(next(siblings), node)
        else:
            node = _join(node, next(siblings) if position + 1 < _width(branch.count, level) else None)
        position >>= 1
    return node


def compute_merkle_root(txids: tuple[bytes, ...]) -> bytes:
    """The root over all transactions of a block.

    Raises:
        DuplicateSubtree: equal halves, so that a shorter list has the same root.
    """
    return _all_nodes(txids)[_top_level(len(txids)), 0]


def build_branch(txids: tuple[bytes, ...], index: int) -> Branch:
    """The branch of one of all transactions of a block."""
    return _branch(_all_nodes(txids), index, len(txids))


class _Walk:
    """Depth first through a partial tree."""

    def __init__(self, tree: PartialTree) -> None:
        self._tree = tree
        self._bits = 0
        self._hashes = 0
        self.nodes: _Nodes = {}
        self.proven: list[int] = []

    def visit(self, level: int, position: int) -> bytes:
        if self._bits >= 8 * len(self._tree.flags):
            raise TreeMalformed("partial tree", "flags end early")
        leads = self._tree.flags[self._bits >> 3] >> (self._bits & 7) & 1
        self._bits += 1
        if level and leads:
            known = len(self.proven)
            left = self.visit(level - 1, 2 * position)
            has_right = 2 * position + 1 < _width(self._tree.count, level - 1)
            node = _join(left, self.visit(level - 1, 2 * position + 1) if has_right else None)
            if len(self.proven) == known:
                raise TreeMalformed("partial tree", "a flag leads to nothing that is proven")
        else:
            if self._hashes == len(self._tree.hashes):
                raise TreeMalformed("partial tree", "hashes end early")
            node = self._tree.hashes[self._hashes]
            self._hashes += 1
            if leads:
                self.proven.append(position)
        self.nodes[level, position] = node
        return node

    def check_end(self) -> None:
        if self._hashes != len(self._tree.hashes):
            raise TreeMalformed("partial tree", f"{len(self._tree.hashes) - self._hashes} hashes left over")
        flags = int.from_bytes(self._tree.flags, "little")
        if (self._bits + 7) // 8 != len(self._tree.flags) or flags >> self._bits:
            raise TreeMalformed("partial tree", f"{8 * len(self._tree.flags) - self._bits} flags left over")


def _join(left: bytes, right: bytes | None) -> bytes:
    """An inner node; the last of an odd row is paired with itself, and only there may both be equal."""
    if right == left:
        raise DuplicateSubtree("right node", show_hash(left), "another than the left one")
    inner = left + (left if right is None else right)
    if _reads_as_transaction(inner):
        raise AmbiguousTransaction("inner node", inner, "one that does not read as a transaction")
    return sha256d(inner)


def _reads_as_transaction(inner: bytes) -> bool:
    """64 bytes have room for one input, one output and scripts of 4 bytes together (one node in 10^9 by chance)."""
    script = inner[41]
    return inner[4] == 1 and script <= 4 and inner[46 + script] == 1 and inner[55 + script] == 4 - script


def _width(count: int, level: int) -> int:
    return (count + (1 << level) - 1) >> level


def _top_level(count: int) -> int:
    return (count - 1).bit_length()


def _siblings(index: int, count: int) -> int:
    return sum((index >> level) ^ 1 < _width(count, level) for level in range(_top_level(count)))


def _branch(nodes: _Nodes, index: int, count: int) -> Branch:
    positions = [(level, (index >> level) ^ 1) for level in range(_top_level(count))]
    return Branch(index, count, tuple(nodes[at] for at in positions if at[1] < _width(count, at[0])))


def _all_nodes(txids: tuple[bytes, ...]) -> _Nodes:
    nodes = {(0, position): txid for position, txid in enumerate(txids)}
    for level in range(_top_level(len(txids))):
        width = _width(len(txids), level)
        for position in range(0, width, 2):
            right = nodes[level, position + 1] if position + 1 < width else None
            nodes[level + 1, position >> 1] = _join(nodes[level, position], right)
    return nodes
