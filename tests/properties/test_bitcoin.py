"""Bitcoin data: codecs round trip, order of arrival does not matter, fast rules are the plain ones, proofs prove."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.checkpoint import Checkpoint
from bridge.errors import (
    ChainMalformed,
    ProofMalformed,
    TransactionMalformed,
    UnknownParentHeader,
)
from bridge.header_batch import try_batch
from bridge.header_chain import HeaderChain
from bridge.headers import Header, apply_header, check_header
from bridge.inclusion import Branch, PartialTree, build_branch, check_tree, compute_branch_root, compute_merkle_root
from bridge.params import REGTEST
from bridge.transactions import MAX_SATS, Input, Output, Transaction
from bridge.work import check_target, compact_to_target, sha256d, target_to_compact
from chain.errors import Invalid, NotYet
from tests.unit.bridge.merkle import build_tree, root_of
from tests.unit.bridge.mining import EASY_MAIN, NOW, extend, mine, start

U32 = st.integers(0, 2**32 - 1)
HASHES = st.binary(min_size=32, max_size=32)
HEADERS = st.builds(Header, st.integers(-(2**31), 2**31 - 1), HASHES, HASHES, U32, U32, U32)
SCRIPTS = st.binary(max_size=300)
WITNESSES = st.lists(st.binary(max_size=300), max_size=3).map(tuple)
INPUTS = st.builds(Input, HASHES, U32, SCRIPTS, U32, WITNESSES)
OUTPUTS = st.builds(Output, st.integers(0, MAX_SATS // 4), SCRIPTS)
TRANSACTIONS = st.builds(
    Transaction,
    U32,
    st.lists(INPUTS, min_size=1, max_size=4).map(tuple),
    st.lists(OUTPUTS, min_size=1, max_size=4).map(tuple),
    U32,
)


@given(HEADERS)
def test_headers_round_trip(header):
    assert len(header.encode()) == 80
    assert Header.decode(header.encode()) == header


@given(TRANSACTIONS, st.binary(min_size=1, max_size=3))
def test_transactions_round_trip(made, trailing):
    raw = made.encode()
    assert Transaction.decode(raw) == made
    assert Transaction.decode(raw).txid == made.txid == sha256d(made.encode_stripped())
    with pytest.raises(TransactionMalformed):
        Transaction.decode(raw + trailing)


@given(st.binary(max_size=200) | TRANSACTIONS.map(Transaction.encode), st.data())
def test_any_bytes_are_one_transaction_or_none(raw, data):
    at = data.draw(st.integers(0, max(0, len(raw) - 1)))
    raw = raw[:at] + data.draw(st.binary(max_size=4)) + raw[at + 1 :]
    try:
        made = Transaction.decode(raw)
    except TransactionMalformed:
        return
    assert made.encode() == raw


@given(st.integers(1, 2**256 - 1))
def test_compact_targets_round_down(target):
    bits = target_to_compact(target)
    rounded = compact_to_target(bits)
    assert rounded <= target
    assert target - rounded < 1 << max(0, target.bit_length() - 15)
    assert target_to_compact(rounded) == bits


@given(U32)
def test_any_bits_are_a_target_or_refused(bits):
    try:
        target = check_target(REGTEST, bits)
    except Invalid:
        return
    assert 0 < target <= REGTEST.easiest_target


@given(st.builds(Checkpoint, U32, st.binary(min_size=80, max_size=80), st.binary(min_size=80, max_size=80),
                 st.integers(0, 2**256 - 1), st.lists(U32, max_size=10).map(tuple)), st.binary(max_size=9))  # fmt: skip
def test_checkpoints_round_trip(checkpoint, trailing):
    assert Checkpoint.decode_from(checkpoint.encode() + trailing) == (checkpoint, trailing)


@given(st.integers(1, 40), st.data())
def test_partial_trees_prove_what_they_hold(count, data):
    txids = tuple(sha256d(bytes([at, count])) for at in range(count))
    proven = data.draw(st.sets(st.integers(0, count - 1)))
    tree = build_tree(txids, proven)
    assert PartialTree.decode(tree.encode()) == tree
    result = check_tree(tree)
    assert result.root == root_of(txids) == compute_merkle_root(txids)
    assert result.txids == tuple((at, txids[at]) for at in sorted(proven))
    for (at, txid), branch in zip(result.txids, result.branches, strict=True):
        assert branch == build_branch(txids, at)
        assert Branch.decode(branch.encode()) == branch
        assert compute_branch_root(branch, txid) == result.root


@given(st.integers(1, 20), st.data())
def test_a_changed_tree_never_proves_another_transaction(count, data):
    """Whatever leads to the right root proves leaves, or inner nodes: 64 bytes, which `check_size` refuses."""
    txids = tuple(sha256d(bytes([at, count])) for at in range(count))
    raw = bytearray(build_tree(txids, data.draw(st.sets(st.integers(0, count - 1)))).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        result = check_tree(PartialTree.decode(bytes(raw)))
    except Invalid:
        return
    if result.root == root_of(txids):
        nodes = {*txids, *(node for level in range(1, 5) for node in level_of(txids, level))}
        assert all(txid in nodes for _, txid in result.txids)


def level_of(txids, level):
    for _ in range(level):
        txids = [sha256d(txids[at] + txids[min(at + 1, len(txids) - 1)]) for at in range(0, len(txids), 2)]
    return txids


@given(st.integers(0, 20), HASHES, st.lists(HASHES, max_size=6).map(tuple), st.integers(0, 70))
def test_any_branch_is_refused_by_name_or_leads_somewhere(index, txid, siblings, count):
    try:
        assert len(compute_branch_root(Branch(index, count, siblings), txid)) == 32
    except Invalid:
        return


@given(st.binary(max_size=120))
def test_any_bytes_are_a_proof_or_refused(raw):
    for codec in (PartialTree, Branch):
        try:
            assert codec.decode(raw).encode() == raw
        except ProofMalformed:
            continue


TREES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=30)
"""For each new header, which earlier one it stands on (modulo) and a Merkle root."""


def plant(shape):
    """Headers of a tree in an order in which parents come first, and each one's height."""
    contexts, rows, heights = [start(REGTEST)], [], []
    for at, (parent, root) in enumerate(shape):
        context = contexts[parent % len(contexts)]
        raw = mine(REGTEST, context, root=bytes([at, root]) * 16)
        rows.append(raw)
        heights.append(context.height)
        contexts.append(apply_header(REGTEST, context, *check_header(REGTEST, context, raw, NOW)))
    return rows, heights


@given(TREES, st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_matter(shape, random):
    """Every order ends with the same headers and the most work; with the same tip where that is unique."""
    rows, heights = plant(shape)
    waiting = list(rows)
    random.shuffle(waiting)
    chain = HeaderChain(REGTEST)
    followed = [chain.tip]
    while waiting:
        raw = waiting.pop(0)
        work = chain.work
        try:
            update = chain.extend(raw, NOW)
        except UnknownParentHeader:
            waiting.append(raw)
            continue
        assert update.added == 1
        assert chain.work >= work
        if (moved := update.reorganisation) is not None:
            assert followed[moved.fork_height + 1 :] == list(moved.abandoned)
            assert moved.depth == len(moved.abandoned) > 0
            followed = followed[: moved.fork_height + 1] + list(moved.adopted)
        elif update.tip != followed[-1]:
            followed.append(update.tip)
        assert followed == [chain.hash_at(height) for height in range(chain.height + 1)], "updates tell the whole story"
    assert all(sha256d(raw) in chain for raw in rows)
    assert chain.height == max(heights)
    best = [raw for raw, height in zip(rows, heights, strict=True) if height == max(heights)]
    assert chain.raw_header(chain.tip) in best
    for raw, height in zip(rows, heights, strict=True):
        block_hash = sha256d(raw)
        assert chain.height_of(block_hash) == height
        assert chain.ancestor(block_hash, height) == block_hash
        assert chain.ancestor(block_hash, height - 1) == Header.decode(raw).parent_hash
        again = HeaderChain(REGTEST)
        for at in range(1, height + 1):
            again.extend(chain.raw_header(chain.ancestor(block_hash, at)), NOW)
        assert again.context_after(block_hash) == chain.context_after(block_hash)
    data = chain.encode()
    assert HeaderChain.decode(REGTEST, data).encode() == data
    with pytest.raises(ChainMalformed):
        HeaderChain.decode(REGTEST, data + b"\x00")


MOVES = ("timestamp", "version", "bits", "parent", "root")


@settings(max_examples=60)
@given(st.data())
def test_the_fast_rules_are_the_plain_ones(data):
    """A row of headers with at most one change, rules by rules: both ways say the same of all of it."""
    before = extend(EASY_MAIN, start(EASY_MAIN), data.draw(st.integers(10, 45)))[1]
    now = before.parent.timestamp + data.draw(st.sampled_from([0, 3_000, 10_000]))
    context, rows = before, []
    changed = data.draw(st.integers(0, 11))
    for at in range(10):
        change = data.draw(st.sampled_from(MOVES)) if at == changed else None
        shift = data.draw(st.integers(-4000, 4000)) if change == "timestamp" else data.draw(st.integers(-900, 1500))
        raw = mine(
            EASY_MAIN,
            context,
            context.parent.timestamp + shift
            if at == changed
            else max(context.median_time_past + 1, context.parent.timestamp + shift),
            version=data.draw(st.integers(0, 5)) if change == "version" else 0x20000000,
            bits=0x2070FFFF if change == "bits" else None,
            parent=bytes(32) if change == "parent" else None,
            root=bytes([at]) * 32,
            wins=change != "root",
        )
        rows.append(raw)
        header = Header.decode(raw)
        context = apply_header(EASY_MAIN, context, header, sha256d(raw))
    fast = try_batch(EASY_MAIN, before, b"".join(rows), now)
    plain, hashes, works = before, [], []
    try:
        for raw in rows:
            header, block_hash = check_header(EASY_MAIN, plain, raw, now)
            plain = apply_header(EASY_MAIN, plain, header, block_hash)
            hashes.append(block_hash)
            works.append(plain.work)
    except (Invalid, NotYet):
        assert fast is None
        return
    assert fast is not None
    assert (fast.hashes, fast.works, fast.context) == (tuple(hashes), tuple(works), plain)
