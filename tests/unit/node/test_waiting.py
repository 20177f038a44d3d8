"""Blocks that a node's view of Bitcoin does not allow yet: kept within bounds, taken in when Bitcoin shows more."""

from dataclasses import replace

import pytest

from bridge.errors import UnknownParentHeader
from bridge.header_chain import HeaderChain
from bridge.params import REGTEST
from chain.errors import Invalid
from consensus import errors
from consensus.finality import Finality
from hyperdust.node.bitcoin import BitcoinChain
from hyperdust.node.importer import Importer, Outcome
from hyperdust.node.store import open_store
from hyperdust.node.waiting import WaitingBlocks
from tests.small_chain import OTHER_MINER, SmallChain
from tests.unit.bridge.mining import NOW, extend, start

ROWS, _ = extend(REGTEST, start(REGTEST), 14, root=bytes(32))


class Behind:
    """A node that has all blocks of Bitcoin but the last ones, and another that has them all and makes blocks."""

    def __init__(self, folder, waiting=None):
        self.headers = HeaderChain(REGTEST)
        self.headers.extend(b"".join(ROWS[:10]), NOW)
        ahead = HeaderChain(REGTEST)
        ahead.extend(b"".join(ROWS), NOW)
        self.waiting = WaitingBlocks() if waiting is None else waiting
        self.chain = SmallChain(folder / "behind", self.headers)
        self.ahead = SmallChain(folder / "ahead", ahead)
        self.importer = Importer(self.chain.store, self.chain.params, self.ahead.clock, self.headers, self.waiting)
        self.told = []
        self.importer.subscribe(self.told.append)

    def refuse(self, block, rule):
        with pytest.raises(rule):
            self.importer.import_block(block)

    def see_bitcoin(self):
        self.headers.extend(b"".join(ROWS[10:]), NOW)

    @property
    def head(self):
        return self.chain.store.latest.head.number


@pytest.fixture
def behind(tmp_path):
    made = Behind(tmp_path)
    yield made
    made.chain.close()
    made.ahead.close()


def test_a_block_that_waited_is_taken_in_with_those_on_top_once_bitcoin_shows_its_origin(behind):
    first, second, third = (behind.ahead.extend() for _ in range(3))
    behind.refuse(first, errors.OriginTooShallow)
    behind.refuse(third, errors.UnknownParent)
    behind.refuse(second, errors.UnknownParent)
    behind.refuse(third, errors.UnknownParent)
    assert len(behind.waiting) == 3
    assert behind.importer.retry() == 0, "nothing has changed"
    assert (behind.head, len(behind.waiting)) == (0, 3)
    behind.see_bitcoin()
    assert behind.importer.retry() == 3
    assert behind.chain.store.latest.head.hash == third.header.hash
    assert [one.outcome for one in behind.told] == [Outcome.HEAD] * 3
    assert (len(behind.waiting), behind.waiting.size_bytes) == (0, 0)


def test_a_node_that_stops_leaves_them_where_they_are(behind):
    behind.refuse(behind.ahead.extend(), errors.OriginTooShallow)
    behind.see_bitcoin()
    behind.importer.stop()
    assert behind.importer.retry() == 0
    assert (behind.head, len(behind.waiting)) == (0, 1)


def test_what_arrives_again_takes_its_children_along(behind):
    first, second = behind.ahead.extend(), behind.ahead.extend()
    behind.refuse(first, errors.OriginTooShallow)
    behind.refuse(second, errors.UnknownParent)
    behind.see_bitcoin()
    assert behind.importer.import_block(first).outcome is Outcome.HEAD
    assert (behind.head, len(behind.waiting)) == (2, 0)


def test_a_block_without_work_or_of_an_unknown_parent_does_not_wait(behind):
    first = behind.ahead.extend()
    behind.refuse(replace(first, header=replace(first.header, parent_hash=b"\1" * 32)), errors.UnknownParent)
    behind.refuse(replace(first, header=replace(first.header, extra_data=b"\1" * 32)), Invalid)
    assert len(behind.waiting) == 0


def test_a_block_that_turns_out_to_be_invalid_is_dropped(behind):
    first, second = behind.ahead.extend(), behind.ahead.extend()
    false = replace(second, header=replace(second.header, state_root=b"\1" * 32))
    behind.refuse(first, errors.OriginTooShallow)
    behind.refuse(false, errors.UnknownParent)
    behind.see_bitcoin()
    assert behind.importer.retry() == 1
    assert (behind.head, len(behind.waiting)) == (1, 0)
    assert behind.importer.import_block(second).outcome is Outcome.HEAD, "the true one is not held against it"


def test_what_lies_below_the_final_checkpoint_is_dropped(behind):
    first = behind.ahead.extend()
    behind.refuse(first, errors.OriginTooShallow)
    own = behind.chain.extend(2, OTHER_MINER)
    behind.chain.store.write_finality(Finality(_place(own), (_place(own),)))
    assert behind.importer.retry() == 0
    assert len(behind.waiting) == 0


def _place(block):
    from consensus.finality import Checkpoint

    return Checkpoint(block.header.number, block.header.hash)


def test_room_is_bounded_by_number_and_bytes_and_those_with_work_come_first(behind):
    blocks = [behind.ahead.extend() for _ in range(5)]
    size = max(len(block.encode()) for block in blocks)
    room = WaitingBlocks(max_blocks=3, max_bytes=1 << 20)
    assert [room.keep(block, has_shown_work=False) for block in blocks] == [True] * 3 + [False] * 2
    assert room.keep(blocks[0], has_shown_work=True), "it shows it now"
    assert room.keep(blocks[3], has_shown_work=True), "in the place of the newest without"
    assert [block.header.number for block in room.by_height()] == [1, 2, 4]
    assert room.keep(blocks[2], has_shown_work=True)
    assert not room.keep(blocks[4], has_shown_work=True), "all of them have shown work"
    assert len(room) == 3
    room.drop(blocks[0].header.hash)
    assert room.keep(blocks[4], has_shown_work=True)
    assert not room.has_child(blocks[0].header.hash)
    assert room.has_child(blocks[1].header.hash)
    small = WaitingBlocks(max_bytes=2 * size)
    assert [small.keep(block, has_shown_work=True) for block in blocks[:3]] == [True, True, False]
    assert small.size_bytes <= 2 * size


def test_what_finds_no_room_is_refused_as_before(tmp_path):
    behind = Behind(tmp_path, WaitingBlocks(max_blocks=1))
    first, second = behind.ahead.extend(), behind.ahead.extend()
    behind.refuse(first, errors.OriginTooShallow)
    behind.refuse(second, errors.UnknownParent)
    behind.see_bitcoin()
    assert behind.importer.retry() == 1
    assert behind.head == 1
    assert behind.importer.import_block(second).outcome is Outcome.HEAD
    behind.chain.close()
    behind.ahead.close()


def test_new_headers_are_told_and_nothing_else_is(tmp_path):
    store = open_store(tmp_path / "db")
    chain, told = BitcoinChain(store, REGTEST, 6), []
    chain.subscribe(lambda: told.append(chain.height))
    chain.extend(b"".join(ROWS[:10]), NOW)
    chain.extend(b"".join(ROWS[:10]), NOW)
    with pytest.raises(UnknownParentHeader):
        chain.extend(bytes(80), NOW)
    chain.extend(b"".join(ROWS), NOW)
    assert told == [10, 14]
    store.close()
