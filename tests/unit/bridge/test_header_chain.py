"""Which branch counts, what is reported, what is kept, and where a chain may start."""

from dataclasses import replace

import pytest

from bridge import header_chain
from bridge.checkpoint import Checkpoint, check_checkpoint, genesis_checkpoint
from bridge.errors import (
    BadTarget,
    ChainMalformed,
    CheckpointInvalid,
    ForkTooDeep,
    HeaderMalformed,
    HeadersUnconnected,
    HeaderUnknown,
    InsufficientWork,
    TimestampTooOld,
    UnknownParentHeader,
)
from bridge.header_chain import KEEP_BLOCKS, HeaderChain
from bridge.params import MAIN, REGTEST, RETARGET_BLOCKS, TESTNET3
from bridge.work import sha256d
from tests.unit.bridge.mining import EASY_MAIN, NOW, extend, mine, start

OTHER, THIRD = b"\x01" * 32, b"\x02" * 32
"""Merkle roots that make other branches."""


def hashes(rows):
    return tuple(sha256d(raw) for raw in rows)


@pytest.fixture(scope="module")
def trunk():
    """60 rows and the context after the 50th."""
    rows, context = extend(EASY_MAIN, start(EASY_MAIN), 50)
    more, _ = extend(EASY_MAIN, context, 10)
    return rows + more, context


@pytest.fixture
def chain(trunk):
    grown = HeaderChain(EASY_MAIN)
    grown.extend(b"".join(trunk[0]), NOW)
    return grown


def test_growing(trunk):
    rows = trunk[0]
    chain = HeaderChain(EASY_MAIN)
    assert (chain.height, chain.tip, chain.work) == (0, sha256d(EASY_MAIN.genesis), 2)
    update = chain.extend(b"".join(rows), NOW)
    assert (update.added, update.height, update.tip, update.reorganisation) == (60, 60, sha256d(rows[-1]), None)
    assert chain.work == 2 * 61
    again = chain.extend(b"".join(rows[10:]), NOW)
    assert (again.added, again.tip) == (0, chain.tip)
    assert chain.extend(b"", NOW).added == 0
    for height, raw in enumerate(rows, 1):
        block_hash = chain.hash_at(height)
        assert block_hash in chain
        assert (chain.raw_header(block_hash), chain.header(block_hash).encode()) == (raw, raw)
        assert (chain.height_of(block_hash), chain.work_of(block_hash)) == (height, 2 * (height + 1))
        assert chain.confirmations(block_hash) == 61 - height


def test_a_row_that_overlaps_what_is_known(trunk):
    rows = trunk[0]
    chain = HeaderChain(EASY_MAIN)
    chain.extend(b"".join(rows[:30]), NOW)
    assert chain.extend(b"".join(rows[20:]), NOW).added == 30
    with pytest.raises(HeadersUnconnected):
        HeaderChain.extend(chain, rows[40] + mine(EASY_MAIN, trunk[1], root=OTHER), NOW)


def test_context_of_any_block(chain, trunk):
    context = start(EASY_MAIN)
    assert chain.context_after(chain.hash_at(0)) == context
    for height in (1, 5, 10, 11, 12, 50):
        assert chain.context_after(chain.hash_at(height)) == extend(EASY_MAIN, context, height)[1]


def test_unknown_blocks(chain):
    for ask in (chain.height_of, chain.header, chain.raw_header, chain.work_of, chain.context_after):
        with pytest.raises(HeaderUnknown):
            ask(bytes(32))
    for height in (-1, 61):
        with pytest.raises(HeaderUnknown):
            chain.hash_at(height)
        with pytest.raises(HeaderUnknown):
            chain.ancestor(chain.tip, height)
    assert bytes(32) not in chain
    assert chain.confirmations(bytes(32)) == 0


def test_all_or_nothing(chain, trunk):
    rows, context = extend(EASY_MAIN, chain.context_after(chain.tip), 5)
    before = chain.encode()
    bad = mine(EASY_MAIN, context, wins=False)
    for parent, added, error in (
        ("tip", b"".join(rows) + bad, InsufficientWork),
        ("none", rows[1], UnknownParentHeader),
    ):
        with pytest.raises(error):
            chain.extend(added, NOW)
        assert chain.encode() == before, parent
    with pytest.raises(HeaderMalformed):
        chain.extend(rows[0][:79], NOW)
    side, after = extend(EASY_MAIN, trunk[1], 12, root=OTHER)
    with pytest.raises(TimestampTooOld):
        chain.extend(b"".join(side) + mine(EASY_MAIN, after, after.median_time_past), NOW)
    assert chain.encode() == before


def test_the_first_seen_of_equal_work_stays(chain, trunk):
    side, _ = extend(EASY_MAIN, trunk[1], 10, root=OTHER)
    tip = chain.tip
    update = chain.extend(b"".join(side), NOW)
    assert (update.added, update.tip, update.reorganisation) == (10, tip, None)
    assert chain.height_of(sha256d(side[-1])) == 60
    assert chain.confirmations(sha256d(side[-1])) == 0


@pytest.mark.parametrize("depth", [1, 2, 6, 10])
@pytest.mark.parametrize("at_once", [True, False])
def test_more_work_wins(chain, trunk, depth, at_once):
    rows = trunk[0]
    fork = chain.context_after(chain.hash_at(60 - depth))
    side, context = extend(EASY_MAIN, fork, depth + 1, root=OTHER)
    updates = [chain.extend(raw, NOW) for raw in ([b"".join(side)] if at_once else side)]
    assert [update.reorganisation for update in updates[:-1]] == [None] * (len(updates) - 1)
    reorganisation = updates[-1].reorganisation
    assert reorganisation.fork_height == 60 - depth
    assert reorganisation.depth == depth
    assert reorganisation.abandoned == hashes(rows[60 - depth :])
    assert reorganisation.adopted == hashes(side)
    assert chain.context_after(chain.tip) == context
    assert [chain.hash_at(height) for height in range(61 - depth, 62)] == list(hashes(side))
    assert [chain.confirmations(gone) for gone in reorganisation.abandoned] == [0] * depth
    back, _ = extend(EASY_MAIN, chain.context_after(sha256d(rows[-1])), 2)
    returned = chain.extend(b"".join(back), NOW).reorganisation
    assert returned.abandoned == hashes(side)
    assert returned.adopted == hashes(rows[60 - depth :] + back)


def test_fewer_but_harder_blocks_win():
    """Work decides, not length: one branch ends its fast period three weeks late and stays easy."""
    chain = HeaderChain(EASY_MAIN)
    rows, before = extend(EASY_MAIN, start(EASY_MAIN), RETARGET_BLOCKS - 2, 60)
    chain.extend(b"".join(rows), NOW)
    late, after = extend(EASY_MAIN, before, 1, 21 * 86400)
    easy, _ = extend(EASY_MAIN, after, 3)
    chain.extend(b"".join(late + easy), NOW)
    assert chain.height == RETARGET_BLOCKS + 2
    hard, _ = extend(EASY_MAIN, before, 2, 60)
    update = chain.extend(b"".join(hard), NOW)
    assert (update.height, update.reorganisation.depth) == (RETARGET_BLOCKS, 4)
    assert update.reorganisation.adopted == hashes(hard)


def test_ancestors_on_every_branch(chain, trunk):
    side, _ = extend(EASY_MAIN, trunk[1], 5, root=OTHER)
    chain.extend(b"".join(side), NOW)
    twig, _ = extend(EASY_MAIN, chain.context_after(sha256d(side[2])), 2, root=THIRD)
    chain.extend(b"".join(twig), NOW)
    end = sha256d(twig[-1])
    assert chain.ancestor(end, 55) == end
    assert [chain.ancestor(end, height) for height in (51, 53, 54)] == [*hashes(side)[0:3:2], sha256d(twig[0])]
    assert chain.ancestor(end, 50) == chain.hash_at(50) == trunk[1].parent_hash
    assert chain.ancestor(end, 0) == sha256d(EASY_MAIN.genesis)
    assert chain.ancestor(chain.tip, 55) == chain.hash_at(55)


def test_a_fork_too_deep_is_refused_and_forgotten():
    chain = HeaderChain(REGTEST)
    rows, context = extend(REGTEST, start(REGTEST), 3)
    chain.extend(b"".join(rows), NOW)
    side, _ = extend(REGTEST, start(REGTEST), 2, root=OTHER)
    late, _ = extend(REGTEST, start(REGTEST), 1, root=THIRD)
    chain.extend(b"".join(side), NOW)
    more, context = extend(REGTEST, context, KEEP_BLOCKS - 3)
    chain.extend(b"".join(more), NOW)
    assert sha256d(side[-1]) in chain
    assert HeaderChain.decode(REGTEST, chain.encode()).encode() == chain.encode()
    chain.extend(mine(REGTEST, context), NOW)
    assert sha256d(side[0]) not in chain
    assert sha256d(side[1]) not in chain
    with pytest.raises(ForkTooDeep):
        chain.extend(late[0], NOW)


def test_the_lightest_branches_go_first(chain, trunk, monkeypatch):
    monkeypatch.setattr(header_chain, "KEEP_SIDE_HEADERS", 8)
    long, _ = extend(EASY_MAIN, trunk[1], 6, root=OTHER)
    chain.extend(b"".join(long), NOW)
    short, _ = extend(EASY_MAIN, trunk[1], 4, root=THIRD)
    update = chain.extend(b"".join(short), NOW)
    assert update.added == 4
    assert all(block_hash in chain for block_hash in hashes(long) + hashes(short)[:2])
    assert not any(block_hash in chain for block_hash in hashes(short)[2:])
    assert chain.extend(b"".join(short[2:]), NOW).height == 60
    winner, _ = extend(EASY_MAIN, chain.context_after(sha256d(long[-1])), 5, root=OTHER)
    assert chain.extend(b"".join(winner), NOW).reorganisation.depth == 10


def test_bytes_of_a_chain(chain, trunk):
    side, _ = extend(EASY_MAIN, trunk[1], 4, root=OTHER)
    chain.extend(b"".join(side), NOW)
    data = chain.encode()
    back = HeaderChain.decode(EASY_MAIN, data)
    assert (back.tip, back.work, back.encode()) == (chain.tip, chain.work, data)
    assert sha256d(side[-1]) in back
    size = 4 + 4 * 80
    assert data.endswith((4).to_bytes(4, "little") + b"".join(side))
    alone = data[:-size]
    wrong = [b"", data[:100], data[:-1], data + b"\x00", alone, alone + bytes(3)]
    wrong.append(alone + (2).to_bytes(4, "little") + side[0] * 2)
    wrong.append(alone + (2).to_bytes(4, "little") + side[1] + side[0])
    wrong.append(alone + (1).to_bytes(4, "little") + side[1])
    wrong.append(alone + (1).to_bytes(4, "little") + trunk[0][3])
    heavy, _ = extend(EASY_MAIN, trunk[1], 11, root=OTHER)
    wrong.append(alone + (11).to_bytes(4, "little") + b"".join(heavy))
    for malformed in wrong:
        with pytest.raises(ChainMalformed):
            HeaderChain.decode(EASY_MAIN, malformed)
    losing = mine(EASY_MAIN, trunk[1], root=OTHER, wins=False)
    with pytest.raises(InsufficientWork):
        HeaderChain.decode(EASY_MAIN, alone + (1).to_bytes(4, "little") + losing)


def test_a_checkpoint_continues(chain, trunk):
    for height in (0, 3, 10, 30, 60):
        made = chain.checkpoint_at(chain.hash_at(height))
        later = HeaderChain(EASY_MAIN, made)
        later.extend(b"".join(trunk[0][height:]), NOW)
        assert later.context_after(later.tip) == chain.context_after(chain.tip)
        assert HeaderChain.decode(EASY_MAIN, later.encode()).tip == chain.tip
        with pytest.raises(HeaderUnknown):
            later.hash_at(height - 1)
    assert chain.checkpoint_at(chain.hash_at(0)) == genesis_checkpoint(EASY_MAIN)
    assert chain.checkpoint_at(chain.hash_at(30)).timestamps == tuple(
        chain.header(chain.hash_at(height)).timestamp for height in range(20, 30)
    )


def test_checkpoints_that_contradict_themselves(chain):
    good = chain.checkpoint_at(chain.hash_at(30))
    check_checkpoint(EASY_MAIN, good)
    lost = good.header[:-4]
    losing = next(
        lost + nonce.to_bytes(4, "little")
        for nonce in range(100)
        if sha256d(lost + nonce.to_bytes(4, "little"))[-1] >= 0x80
    )
    wrong = [
        replace(good, header=losing),
        replace(good, height=0, timestamps=()),
        replace(good, height=RETARGET_BLOCKS),
        replace(good, period_first=good.header),
        replace(good, period_first=good.period_first[:72] + (0x207FFFFE).to_bytes(4, "little") + bytes(4)),
        replace(good, timestamps=good.timestamps[1:]),
        replace(good, timestamps=(*good.timestamps, 5)),
        replace(good, work=0),
        replace(good, work=2),
        replace(good, work=1 << 256),
    ]
    for checkpoint in wrong:
        with pytest.raises(CheckpointInvalid):
            HeaderChain(EASY_MAIN, checkpoint)
    with pytest.raises(BadTarget):
        HeaderChain(MAIN, good)
    with pytest.raises(HeaderMalformed):
        HeaderChain(EASY_MAIN, replace(good, header=good.header[:79]))


def test_a_checkpoint_is_its_networks():
    with pytest.raises(CheckpointInvalid):
        HeaderChain(MAIN, replace(genesis_checkpoint(MAIN), header=TESTNET3.genesis, period_first=TESTNET3.genesis))
    chain = HeaderChain(REGTEST)
    chain.extend(b"".join(extend(REGTEST, start(REGTEST), RETARGET_BLOCKS + 2, 1)[0]), NOW)
    with pytest.raises(CheckpointInvalid, match="a multiple of 2016 on regtest"):
        chain.checkpoint_at(chain.tip)
    later = HeaderChain(REGTEST, chain.checkpoint_at(chain.hash_at(RETARGET_BLOCKS)))
    assert later.extend(chain.raw_header(chain.hash_at(RETARGET_BLOCKS + 1)), NOW).added == 1


def test_bytes_of_a_checkpoint(chain):
    for height in (0, 4, 40):
        made = chain.checkpoint_at(chain.hash_at(height))
        assert Checkpoint.decode_from(made.encode()) == (made, b"")
        for size in range(len(made.encode())):
            with pytest.raises(ChainMalformed):
                Checkpoint.decode_from(made.encode()[:size])
