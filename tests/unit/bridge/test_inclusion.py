"""What proves a transaction, and each way in which a proof can lie."""

from dataclasses import replace

import pytest

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
from bridge.inclusion import (
    MAX_TRANSACTIONS,
    Branch,
    PartialTree,
    build_branch,
    check_branch,
    check_size,
    check_transaction_proof,
    check_tree,
    check_txout_proof,
    compute_branch_root,
    compute_merkle_root,
)
from bridge.transactions import Transaction
from bridge.work import sha256d
from tests.unit.bridge.merkle import build_tree, header_of, root_of, transaction

TRANSACTIONS = [transaction(number) for number in range(7)]
TXIDS = tuple(made.txid for made in TRANSACTIONS)
ROOT = root_of(TXIDS)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_every_transaction_of_small_blocks(count):
    txids = TXIDS[:count]
    root = root_of(txids)
    assert compute_merkle_root(txids) == root
    for index in range(count):
        proven = check_tree(build_tree(txids, {index}))
        assert (proven.root, proven.txids) == (root, ((index, txids[index]),))
        (branch,) = proven.branches
        assert branch == build_branch(txids, index)
        assert Branch.decode(branch.encode()) == branch
        assert check_branch(branch, root, TRANSACTIONS[index].encode()) == TRANSACTIONS[index]
        raw = header_of(root).encode() + build_tree(txids, {index}).encode()
        assert check_transaction_proof(raw, header_of(root), TRANSACTIONS[index].encode()) == branch


def test_several_at_once():
    proven = check_tree(build_tree(TXIDS, {0, 3, 6}))
    assert proven.txids == tuple((index, TXIDS[index]) for index in (0, 3, 6))
    assert [compute_branch_root(branch, TXIDS[branch.index]) for branch in proven.branches] == [ROOT] * 3


def test_a_tree_that_proves_nothing():
    proven = check_tree(build_tree(TXIDS, set()))
    assert (proven.root, proven.txids) == (ROOT, ())


def test_another_block():
    tree = build_tree(TXIDS, {2})
    other = header_of(bytes(32))
    with pytest.raises(WrongMerkleRoot, match="header of the proof"):
        check_txout_proof(header_of(ROOT).encode() + tree.encode(), other)
    with pytest.raises(WrongMerkleRoot, match="Merkle root"):
        check_txout_proof(other.encode() + tree.encode(), other)
    with pytest.raises(WrongMerkleRoot):
        check_branch(build_branch(TXIDS, 2), bytes(32), TRANSACTIONS[2].encode())


def test_another_transaction():
    raw = header_of(ROOT).encode() + build_tree(TXIDS, {2}).encode()
    with pytest.raises(NotIncluded):
        check_transaction_proof(raw, header_of(ROOT), TRANSACTIONS[3].encode())
    with pytest.raises(WrongMerkleRoot):
        check_branch(build_branch(TXIDS, 2), ROOT, TRANSACTIONS[4].encode())
    with pytest.raises(DuplicateSubtree):
        check_branch(build_branch(TXIDS, 2), ROOT, TRANSACTIONS[3].encode())
    with pytest.raises(WrongMerkleRoot):
        check_branch(replace(build_branch(TXIDS, 2), index=3), ROOT, TRANSACTIONS[2].encode())


def test_a_witness_does_not_change_the_proof():
    signed = transaction(2, witness=(b"signature",))
    assert check_branch(build_branch(TXIDS, 2), ROOT, signed.encode()) == signed


@pytest.mark.parametrize("count", [0, MAX_TRANSACTIONS + 1, 0xFFFFFFFF])
def test_counts(count):
    with pytest.raises(TransactionCountWrong):
        check_tree(replace(build_tree(TXIDS, {1}), count=count))
    with pytest.raises(TransactionCountWrong):
        compute_branch_root(replace(build_branch(TXIDS, 1), count=count), TXIDS[1])


def test_a_count_of_another_shape():
    tree = build_tree(TXIDS, {1})
    for count in (1, 2, 4, 9, 16, MAX_TRANSACTIONS):
        with pytest.raises(TreeMalformed):
            check_tree(replace(tree, count=count))


def test_hashes_and_flags_fit():
    tree = build_tree(TXIDS, {1, 5})
    spare = int.from_bytes(tree.flags, "little").bit_length()
    padded = (int.from_bytes(tree.flags, "little") | 1 << len(tree.flags) * 8 - 1).to_bytes(len(tree.flags), "little")
    assert spare < len(tree.flags) * 8, "there is padding to misuse"
    wrong = {
        "a hash more": replace(tree, hashes=(*tree.hashes, bytes(32))),
        "a hash less": replace(tree, hashes=tree.hashes[:-1]),
        "no hashes": replace(tree, hashes=()),
        "more hashes than transactions": replace(tree, hashes=tree.hashes * 3),
        "flags end early": replace(tree, flags=tree.flags[:-1]),
        "no flags": replace(tree, flags=b""),
        "a byte of flags more": replace(tree, flags=tree.flags + b"\x00"),
        "padding that is not zero": replace(tree, flags=padded),
        "a flag above nothing that is proven": PartialTree(2, TXIDS[:2], b"\x01"),
    }
    for what, malformed in wrong.items():
        with pytest.raises(TreeMalformed):
            print(what, check_tree(malformed))


def test_bytes_of_a_tree():
    tree = build_tree(TXIDS, {1, 5})
    raw = tree.encode()
    assert PartialTree.decode(raw) == tree
    long_count = raw[:4] + b"\xfd" + raw[4:5] + b"\x00" + raw[5:]
    huge = raw[:4] + b"\xff" * 9
    for malformed in (b"", raw[:-1], raw + b"\x00", raw[:40], long_count, huge):
        with pytest.raises(ProofMalformed):
            PartialTree.decode(malformed)


def test_bytes_of_a_branch():
    raw = build_branch(TXIDS, 6).encode()
    assert len(raw) == 4 + 2 * 32, "the last of an odd row has no sibling there"
    for malformed in (b"", raw[:3], raw[:-1], raw + b"\x00"):
        with pytest.raises(ProofMalformed):
            Branch.decode(malformed)


def test_index_and_length_of_a_branch():
    branch = build_branch(TXIDS, 3)
    for wrong in (
        replace(branch, index=7),
        replace(branch, siblings=branch.siblings[:-1]),
        replace(branch, siblings=(*branch.siblings, bytes(32))),
        replace(branch, count=16),
        replace(branch, siblings=()),
    ):
        with pytest.raises(IndexOutsideTree):
            compute_branch_root(wrong, TXIDS[3])


def test_equal_halves():
    """CVE-2012-2459: seven transactions and eight, the last one twice, have the same root."""
    doubled = (*TXIDS, TXIDS[-1])
    assert root_of(doubled) == ROOT
    with pytest.raises(DuplicateSubtree):
        compute_merkle_root(doubled)
    for index in (6, 7):
        with pytest.raises(DuplicateSubtree):
            check_tree(build_tree(doubled, {index}))
        with pytest.raises(DuplicateSubtree):
            compute_branch_root(Branch(index, 8, (TXIDS[-1], *build_branch(TXIDS, 6).siblings)), TXIDS[-1])
    six = TXIDS[:6]
    repeated = (*six, *six[4:])
    assert root_of(repeated) == root_of(six)
    with pytest.raises(DuplicateSubtree):
        check_tree(build_tree(repeated, {6}))


def small(script):
    """64 bytes: one input, one output, scripts of 4 bytes together."""
    made = transaction(9, script=bytes(4 - len(script)))
    return replace(made, inputs=(replace(made.inputs[0], script=script),))


@pytest.mark.parametrize("script", [b"", b"\x51", b"\x51\x51", b"\x51" * 3, b"\x51" * 4])
def test_a_transaction_of_64_bytes_is_never_proven(script):
    """It may be an inner node that somebody shows as a transaction (CVE-2017-12842)."""
    made = small(script)
    assert len(made.encode()) == 64
    txids = (*TXIDS, made.txid)
    with pytest.raises(AmbiguousTransaction):
        check_branch(build_branch(txids, 7), root_of(txids), made.encode())
    raw = header_of(root_of(txids)).encode() + build_tree(txids, {7}).encode()
    with pytest.raises(AmbiguousTransaction):
        check_transaction_proof(raw, header_of(root_of(txids)), made.encode())
    with pytest.raises(AmbiguousTransaction):
        check_size(replace(made, inputs=(replace(made.inputs[0], witness=(b"x",)),)).encode())


@pytest.mark.parametrize("script", [b"", b"\x51" * 2, b"\x51" * 4])
def test_a_transaction_of_64_bytes_is_no_inner_node(script):
    """Its halves would be ids of transactions that no block holds; the prover pretends that the tree is deeper."""
    made = small(script).encode()
    fake = (made[:32], made[32:])
    assert sha256d(made[:32] + made[32:]) == Transaction.decode(made).txid
    deeper = Branch(2, 4, (fake[1], sha256d(TXIDS[0] + TXIDS[1])))
    with pytest.raises(AmbiguousTransaction):
        compute_branch_root(deeper, fake[0])
    with pytest.raises(AmbiguousTransaction):
        check_tree(build_tree((*TXIDS[:2], *fake), {2}))
    with pytest.raises(AmbiguousTransaction):
        compute_merkle_root(fake)


def test_neighbours_of_the_dangerous_size():
    for script in (bytes(3), bytes(5)):
        made = transaction(9, script=script)
        assert len(made.encode()) in {63, 65}
        txids = (*TXIDS, made.txid)
        assert check_branch(build_branch(txids, 7), root_of(txids), made.encode()) == made


def test_bytes_that_are_no_transaction():
    for raw in (b"", bytes(64), TRANSACTIONS[0].encode() + b"\x00"):
        with pytest.raises(TransactionMalformed):
            check_branch(build_branch(TXIDS, 0), ROOT, raw)
