"""Every header rule, accepting and rejecting, by the plain way and by the fast one."""

from dataclasses import replace

import numpy as np
import pytest

from bridge import header_batch
from bridge.errors import (
    BadTarget,
    HeaderMalformed,
    HeadersUnconnected,
    InsufficientWork,
    ObsoleteVersion,
    TimestampTooNew,
    TimestampTooOld,
    TimeWarp,
    WrongBits,
)
from bridge.header_batch import try_batch
from bridge.headers import Header, apply_header, check_header, compute_bits, required_version, split_headers
from bridge.params import MAX_FUTURE_S, REGTEST, RETARGET_BLOCKS, TESTNET3, TESTNET4
from bridge.work import compact_to_target, compute_work, sha256d
from chain.errors import NotYet
from tests.unit.bridge.mining import EASIEST, EASY_MAIN, NOW, extend, mine, start

LATE = 20 * 60 + 1
EASY_TEST3 = replace(TESTNET3, **EASIEST)
EASY_TEST4 = replace(TESTNET4, **EASIEST)


@pytest.fixture(scope="module")
def grown():
    """Context above 50 blocks, beyond every version's height."""
    return extend(EASY_MAIN, start(EASY_MAIN), 50)[1]


@pytest.fixture(scope="module")
def period():
    """Context at the first retarget of a period that took half of its time."""
    return extend(EASY_MAIN, start(EASY_MAIN), RETARGET_BLOCKS - 1, 300)[1]


def rejected(params, context, raw, error, now=NOW):
    with pytest.raises(error):
        check_header(params, context, raw, now)
    assert try_batch(params, context, raw, now) is None


def accepted(params, context, raw, now=NOW):
    header, block_hash = check_header(params, context, raw, now)
    assert (header.encode(), block_hash) == (raw, sha256d(raw))
    after = apply_header(params, context, header, block_hash)
    batch = try_batch(params, context, raw, now)
    assert batch is None or batch.context == after
    return after


def test_a_right_header(grown):
    after = accepted(EASY_MAIN, grown, mine(EASY_MAIN, grown))
    assert (after.height, after.work) == (grown.height + 1, grown.work + 2)
    assert try_batch(EASY_MAIN, grown, mine(EASY_MAIN, grown), NOW) is not None


def test_size():
    for size in (0, 79, 81):
        with pytest.raises(HeaderMalformed):
            Header.decode(bytes(size))
    with pytest.raises(HeaderMalformed):
        split_headers(bytes(161))
    assert split_headers(bytes(160)) == [bytes(80), bytes(80)]


def test_parent(grown):
    rejected(EASY_MAIN, grown, mine(EASY_MAIN, grown, parent=bytes(32)), HeadersUnconnected)


def test_a_gap_in_a_row(grown):
    rows, _ = extend(EASY_MAIN, grown, 3)
    assert try_batch(EASY_MAIN, grown, b"".join(rows), NOW) is not None
    assert try_batch(EASY_MAIN, grown, rows[0] + rows[2], NOW) is None


def test_work_of_a_hash(grown):
    rejected(EASY_MAIN, grown, mine(EASY_MAIN, grown, wins=False), InsufficientWork)


@pytest.mark.parametrize("bits", [0, 0x04923456, 0xFF123456, 0x21008000])
def test_bits_that_are_no_target(grown, bits):
    raw = mine(EASY_MAIN, grown)
    rejected(EASY_MAIN, grown, raw[:72] + bits.to_bytes(4, "little") + raw[76:], BadTarget)


def test_bits_that_are_not_the_periods(grown):
    rejected(EASY_MAIN, grown, mine(EASY_MAIN, grown, bits=0x207FFFFE), WrongBits)


def test_retarget(period):
    assert period.height == RETARGET_BLOCKS
    half = compact_to_target(period.parent.bits) * (300 * (RETARGET_BLOCKS - 2) + 600) // (14 * 86400)
    raw = mine(EASY_MAIN, period)
    after = accepted(EASY_MAIN, period, raw)
    bits = Header.decode(raw).bits
    assert bits != period.parent.bits
    assert compact_to_target(bits) <= half
    assert after.period_first == Header.decode(raw)
    assert after.work == period.work + compute_work(compact_to_target(bits))
    rejected(EASY_MAIN, period, mine(EASY_MAIN, period, bits=period.parent.bits), WrongBits)
    assert Header.decode(mine(EASY_MAIN, after)).bits == bits


def test_a_batch_across_a_retarget():
    first = start(EASY_MAIN)
    rows, before = extend(EASY_MAIN, first, 40)
    more, after = extend(EASY_MAIN, before, RETARGET_BLOCKS, 300)
    batch = try_batch(EASY_MAIN, before, b"".join(more), NOW)
    assert batch is not None
    assert batch.context == after
    assert batch.works[-1] == after.work
    assert batch.hashes == tuple(sha256d(raw) for raw in more)
    wrong = mine(EASY_MAIN, extend(EASY_MAIN, before, RETARGET_BLOCKS - 41, 300)[1], bits=0x207FFFFF)
    at = RETARGET_BLOCKS - 41
    assert try_batch(EASY_MAIN, before, b"".join(more[:at]) + wrong, NOW) is None
    assert try_batch(EASY_MAIN, first, b"".join(rows), NOW) is None, "no median of eleven yet"


def test_median_time_past(grown):
    median = sorted(grown.timestamps)[5]
    assert grown.median_time_past == median
    accepted(EASY_MAIN, grown, mine(EASY_MAIN, grown, median + 1))
    rejected(EASY_MAIN, grown, mine(EASY_MAIN, grown, median), TimestampTooOld)


def test_a_median_that_is_the_maximum(grown):
    latest = grown.parent.timestamp
    level = replace(grown, timestamps=(*range(latest - 5, latest), *[latest] * 6))
    rejected(EASY_MAIN, level, mine(EASY_MAIN, level, latest), TimestampTooOld)
    accepted(EASY_MAIN, level, mine(EASY_MAIN, level, latest + 1))


def test_a_hash_just_above_the_target():
    """Its top word alone does not tell."""
    target = compact_to_target(0x1D00FFFF)
    for value, below in ((target, True), (target + 1, False), (target - 1, True), (target << 1, False)):
        block_hash = value.to_bytes(32, "little")
        words = np.frombuffer(block_hash, "<u8").reshape(1, 4)
        assert header_batch._below(target, words, [block_hash]) is below


def test_median_of_few():
    context = start(EASY_MAIN)
    rejected(EASY_MAIN, context, mine(EASY_MAIN, context, context.parent.timestamp, version=1), TimestampTooOld)
    one = accepted(EASY_MAIN, context, mine(EASY_MAIN, context, context.parent.timestamp + 5, version=1))
    assert one.median_time_past == one.parent.timestamp, "of two, the later"


def test_the_clock(grown):
    stamp = grown.parent.timestamp + 600
    raw = mine(EASY_MAIN, grown, stamp)
    accepted(EASY_MAIN, grown, raw, now=stamp - MAX_FUTURE_S)
    rejected(EASY_MAIN, grown, raw, TimestampTooNew, now=stamp - MAX_FUTURE_S - 1)
    assert issubclass(TimestampTooNew, NotYet)


@pytest.mark.parametrize(("height", "version"), [(19, 1), (20, 2), (29, 2), (30, 3), (39, 3), (40, 4)])
def test_versions(height, version):
    context = extend(EASY_MAIN, start(EASY_MAIN), height - 1)[1]
    assert context.height == height
    accepted(EASY_MAIN, context, mine(EASY_MAIN, context, version=version))
    if height >= 20:
        rejected(EASY_MAIN, context, mine(EASY_MAIN, context, version=version - 1), ObsoleteVersion)
        rejected(EASY_MAIN, context, mine(EASY_MAIN, context, version=-(1 << 31)), ObsoleteVersion)
    else:
        accepted(EASY_MAIN, context, mine(EASY_MAIN, context, version=-1))
    assert required_version(EASY_MAIN, 0) < 0


def test_versions_in_a_batch_start_at_their_height():
    context = extend(EASY_MAIN, start(EASY_MAIN), 15)[1]
    rows = []
    for height in range(16, 25):
        rows.append(mine(EASY_MAIN, context, version=1 if height < 20 else 2))
        context = apply_header(EASY_MAIN, context, *check_header(EASY_MAIN, context, rows[-1], NOW))
    before = extend(EASY_MAIN, start(EASY_MAIN), 15)[1]
    assert try_batch(EASY_MAIN, before, b"".join(rows), NOW) is not None


def test_a_late_block_may_be_easy_on_testnet():
    """Bits as after a retarget, then an exception, then the rule again."""
    hard = 0x200FFFFF
    context = replace(extend(EASY_TEST3, start(EASY_TEST3), 20)[1], regular_bits=hard)
    context = replace(context, parent=replace(context.parent, bits=hard))
    stamp = context.parent.timestamp
    assert compute_bits(EASY_TEST3, context, stamp + LATE - 1) == hard
    assert compute_bits(EASY_TEST3, context, stamp + LATE) == EASY_TEST3.easiest_bits
    assert compute_bits(EASY_MAIN, context, stamp + LATE) == hard
    easy = accepted(EASY_TEST3, context, mine(EASY_TEST3, context, stamp + LATE))
    assert easy.regular_bits == hard
    rejected(EASY_TEST3, easy, mine(EASY_TEST3, easy, bits=EASY_TEST3.easiest_bits), WrongBits)
    back = accepted(EASY_TEST3, easy, mine(EASY_TEST3, easy))
    assert (back.parent.bits, back.regular_bits) == (hard, hard)


@pytest.mark.parametrize(("params", "carried"), [(EASY_TEST3, "last"), (EASY_TEST4, "first")])
def test_what_a_retarget_carries_on(params, carried):
    """An easy last block resets testnet3; BIP-94 takes the period's first bits instead."""
    context = extend(params, start(params), 20)[1]
    first = replace(context.parent, bits=0x1D00FFFF, timestamp=context.parent.timestamp - 14 * 86400)
    context = replace(context, height=RETARGET_BLOCKS, period_first=first)
    expected = context.parent.bits if carried == "last" else first.bits
    assert compute_bits(params, context, context.parent.timestamp + 600) == expected


def test_a_first_block_keeps_its_bits_even_if_easiest():
    context = replace(extend(EASY_TEST3, start(EASY_TEST3), 20)[1], height=RETARGET_BLOCKS, regular_bits=0x200FFFFF)
    slow = replace(context.period_first, timestamp=context.parent.timestamp - 15 * 86400)
    context = replace(context, period_first=slow)
    after = accepted(EASY_TEST3, context, mine(EASY_TEST3, context))
    assert after.regular_bits == after.parent.bits == EASY_TEST3.easiest_bits
    assert after.period_first == after.parent


def test_time_warp():
    context = replace(extend(EASY_TEST4, start(EASY_TEST4), 20)[1], height=RETARGET_BLOCKS)
    stamp = context.parent.timestamp
    accepted(EASY_TEST4, context, mine(EASY_TEST4, context, stamp - 600))
    rejected(EASY_TEST4, context, mine(EASY_TEST4, context, stamp - 601), TimeWarp)
    accepted(EASY_TEST3, context, mine(EASY_TEST3, context, stamp - 601))


def test_regtest_is_always_easy():
    rows, context = extend(REGTEST, start(REGTEST), RETARGET_BLOCKS + 1, 1)
    assert {Header.decode(raw).bits for raw in rows} == {REGTEST.easiest_bits}
    assert context.work == 2 * (RETARGET_BLOCKS + 2)
    assert try_batch(REGTEST, context, mine(REGTEST, context), NOW) is None, "not for the fast way"
