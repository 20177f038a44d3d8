"""The database: state of every block of every branch, reorganisations, refusals, all-or-nothing commits."""

import os
import random
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.blocks import EMPTY_OMMERS_HASH, EMPTY_TRIE_ROOT, Block, Body, Header
from consensus.finality import Checkpoint, Finality
from hyperdust.node.store import ExecutedBlock, StateNotKept, Store, StoreFault, UnknownBlock, open_store

ZERO = bytes(32)
HEADER = Header(
    ZERO, EMPTY_OMMERS_HASH, bytes(20), ZERO, EMPTY_TRIE_ROOT, EMPTY_TRIE_ROOT, bytes(256), 1, 0, 30_000_000, 0, 1,
    ZERO, ZERO, bytes(8), 10**6, EMPTY_TRIE_ROOT, 0, 0, ZERO, ZERO,
)  # fmt: skip
KEYS = [b"a" + bytes([i]) * 20 for i in range(6)]


def make(parent: ExecutedBlock | None, salt: int, writes: dict[bytes, bytes | None]) -> ExecutedBlock:
    header = HEADER
    if parent is not None:
        number = parent.block.header.number + 1
        header = replace(HEADER, parent_hash=parent.hash, number=number, extra_data=salt.to_bytes(32, "big"))
    return ExecutedBlock(
        block=Block(header, Body((), (), b"")),
        hash=header.hash,
        ticket=salt.to_bytes(32, "big"),
        total_difficulty=header.number + 1,
        transaction_hashes=(salt.to_bytes(32, "little"),),
        receipts=(b"\x02" + salt.to_bytes(4, "big"),),
        writes=tuple(sorted(writes.items())),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(tmp_path / "chain")
    store.write_genesis(make(None, 0, {KEYS[0]: b"genesis"}))
    return store


writes = st.dictionaries(st.sampled_from(KEYS), st.one_of(st.none(), st.binary(min_size=1, max_size=4)), max_size=4)
steps = st.lists(st.tuples(st.integers(0, 100), st.booleans(), writes), max_size=25)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_state_of_every_block_survives_every_reorganisation(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool, dict[bytes, bytes | None]]]
) -> None:
    store = open_store(tmp_path_factory.mktemp("chain"))
    genesis = make(None, 0, {KEYS[0]: b"genesis"})
    store.write_genesis(genesis)
    blocks, states = [genesis], {genesis.hash: {KEYS[0]: b"genesis"}}
    head = genesis
    for salt, (choice, as_head, change) in enumerate(steps, 1):
        parent = blocks[choice % len(blocks)]
        block = make(parent, salt, change)
        if as_head:
            reorganisation = store.adopt(block)
            assert reorganisation.adopted[-1] == block.hash
            head = block
        else:
            store.keep_side(block)
        blocks.append(block)
        states[block.hash] = {**states[parent.hash], **change}
        assert store.latest.head.hash == head.hash
        for known in blocks:
            expected = [states[known.hash].get(key) for key in KEYS]
            assert store.latest.state_at(known.hash).read_many(KEYS) == expected
    chain = []
    walk = head
    by_hash = {block.hash: block for block in blocks}
    while walk.block.header.number:
        chain.append(walk)
        walk = by_hash[walk.block.header.parent_hash]
    for block in blocks[1:]:
        place = store.latest.locate_transaction(block.transaction_hashes[0])
        assert place == ((block.hash, 0) if block in chain else None)
    store.close()


def test_a_snapshot_does_not_move(store: Store) -> None:
    before = store.latest
    genesis_hash = before.head.hash
    child = make(make(None, 0, {}), 1, {KEYS[0]: b"new"})
    store.adopt(
        replace(child, block=replace(child.block, header=replace(child.block.header, parent_hash=genesis_hash)))
    )
    assert before.head.hash == genesis_hash
    assert before.state_at(genesis_hash).read_many(KEYS[:1]) == [b"genesis"]
    assert store.latest.head.number == 1


def test_unknown_block_is_named(store: Store) -> None:
    with pytest.raises(UnknownBlock, match="0x0707"):
        store.latest.state_at(b"\x07" * 32)


def test_state_is_dropped_where_it_is_old_and_final(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hyperdust.node.store.UNDO_BLOCKS", 2)
    parent = make(None, 0, {KEYS[0]: b"genesis"})
    hashes = [parent.hash]

    def extend() -> None:
        nonlocal parent
        salt = len(hashes)
        parent = make(parent, salt, {KEYS[1]: bytes([salt])})
        store.adopt(parent)
        hashes.append(parent.hash)

    for _ in range(8):
        extend()
    assert store.latest.state_at(hashes[1]).read_many([KEYS[1]]) == [b"\x01"], "nothing but genesis is final"
    final = Checkpoint(4, hashes[4])
    store.write_finality(Finality(final, (final,)))
    extend()
    assert store.latest.state_at(hashes[4]).read_many([KEYS[1]]) == [b"\x04"], "old, but a branch may leave here"
    with pytest.raises(StateNotKept, match="--archive"):
        store.latest.state_at(hashes[3])
    final = Checkpoint(9, hashes[9])
    store.write_finality(Finality(final, (final,)))
    extend()
    assert store.latest.state_at(hashes[8]).read_many([KEYS[1]]) == [b"\x08"], "final, but young"
    with pytest.raises(StateNotKept, match="--archive"):
        store.latest.state_at(hashes[7])


def test_finality_is_read_as_it_was_written(store: Store) -> None:
    genesis = Checkpoint(0, store.latest.genesis_hash)
    assert store.latest.finality == Finality(genesis, (genesis,))
    settled = Finality(
        Checkpoint(8, b"\x08" * 32), (genesis, Checkpoint(8, b"\x08" * 32), Checkpoint(16, b"\x10" * 32))
    )
    store.write_finality(settled)
    assert store.latest.finality == settled


def test_records_beside_the_chain(store: Store) -> None:
    store.write_records({b"Vb": b"2", b"Va": b"1", b"E": b"3"})
    store.write_records({b"E": None})
    assert store.load_records(b"V") == [(b"Va", b"1"), (b"Vb", b"2")]
    assert store.load_records(b"E") == []


def test_second_process_is_told_what_to_do(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreFault, match="in use by another node"):
        open_store(tmp_path / "chain")


def test_damaged_folder_is_named(tmp_path: Path) -> None:
    store = open_store(tmp_path / "chain")
    store.write_genesis(make(None, 0, {KEYS[0]: b"genesis"}))
    store.close()
    for file in (tmp_path / "chain").glob("MANIFEST-*"):
        file.write_bytes(b"garbage")
    with pytest.raises(StoreFault, match="delete the folder|cannot open"):
        open_store(tmp_path / "chain")


def test_other_schema_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path / "chain")
    store.write_genesis(make(None, 0, {}))
    store._db.put(b"Ischema", (99).to_bytes(4, "big"))
    store.close()
    with pytest.raises(StoreFault, match="schema 99"):
        open_store(tmp_path / "chain")


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFault, match="choose another --data-dir"):
        open_store(tmp_path / "file" / "chain")


@pytest.mark.parametrize("attempt", range(4))
def test_kill_9_leaves_the_old_head_or_the_new_one(tmp_path: Path, attempt: int) -> None:
    """A child commits blocks and prints each head only after its commit; whatever was printed must be there."""
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from tests.unit.node.test_store import KEYS, make, open_store
        store = open_store(Path(sys.argv[1]))
        parent = make(None, 0, {})
        store.write_genesis(parent)
        for salt in range(1, 100_000):
            parent = make(parent, salt, {key: salt.to_bytes(4, "big") * 500 for key in KEYS})
            store.adopt(parent)
            print(salt, flush=True)
    """)
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    root = Path(__file__).parents[3]
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "chain")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert child.stdout is not None
    seen = 0
    for _ in range(random.Random(seed).randrange(3, 60)):
        seen = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    store = open_store(tmp_path / "chain")
    head = store.latest.head
    assert head.number >= seen
    value = head.number.to_bytes(4, "big") * 500
    assert store.latest.state_at(head.hash).read_many(KEYS) == [value] * len(KEYS)
    store.close()


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on file sizes stands in for the full disk: LevelDB's writes fail the same way."""
    program = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from tests.unit.node.test_store import KEYS, StoreFault, make, open_store
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = open_store(Path(sys.argv[1]))
        parent = make(None, 0, {})
        store.write_genesis(parent)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        for salt in range(1, 100_000):
            child = make(parent, salt, {key: salt.to_bytes(4, "big") * 500 for key in KEYS})
            try:
                store.adopt(child)
            except StoreFault as error:
                assert store.latest.head.hash == parent.hash
                print(salt - 1, error)
                break
            parent = child
    """)
    root = Path(__file__).parents[3]
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "chain")],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    last, _, message = run.stdout.partition(" ")
    assert "check free space; nothing was changed" in message
    store = open_store(tmp_path / "chain")
    assert store.latest.head.number == int(last)
    assert store.latest.state_at(store.latest.head.hash).read_many(KEYS[:1]) == [int(last).to_bytes(4, "big") * 500]
    store.close()
