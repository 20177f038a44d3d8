"""Each rule about origins: what it accepts, and what it refuses by name."""

import pytest

from bridge.errors import HeaderUnknown
from chain.errors import Invalid, NotYet
from consensus import errors
from consensus.origin import check_origin, choose_origin

DEPTH = 6
ZERO = bytes(32)


def block(height, branch=0):
    return bytes([branch + 1, height]) + bytes(30)


class FakeView:
    """A best chain of `height` blocks, and side branches that leave it at `fork`."""

    def __init__(self, height=20, side=()):
        self.height = height
        self.heights = {block(at): at for at in range(height + 1)}
        self.side = dict(side)

    def hash_at(self, height):
        if not 0 <= height <= self.height:
            raise HeaderUnknown("height", height, f"0 to {self.height}")
        return block(height)

    def height_of(self, block_hash):
        if block_hash not in self.heights and block_hash not in self.side:
            raise HeaderUnknown("hash", block_hash, "known")
        return self.heights.get(block_hash, self.side.get(block_hash))

    def confirmations(self, block_hash):
        return self.height - self.heights[block_hash] + 1 if block_hash in self.heights else 0


STALE = block(15, 1)
VIEW = FakeView(20, {STALE: 15})


@pytest.mark.parametrize(
    ("origin", "parents"),
    [
        (ZERO, ZERO),  # no origin yet
        (block(14), ZERO),  # the first: six blocks on top
        (block(14), block(13)),
        (block(14), block(14)),
        (block(3), ZERO),  # old, and allowed
        (block(14), block(14, 1)),  # need not descend from the parent's
        (STALE, STALE),  # the parent's is always allowed,
        (block(99, 3), block(99, 3)),  # even where nobody knows it any more
    ],
)
def test_accepted(origin, parents):
    view = FakeView(20, {STALE: 15, block(14, 1): 14})
    check_origin(origin, parents, DEPTH, view)


@pytest.mark.parametrize(
    ("origin", "parents", "rule", "branch"),
    [
        (ZERO, block(3), errors.OriginDropped, Invalid),
        (block(13), block(14), errors.OriginBelowParents, Invalid),
        (block(12), STALE, errors.OriginBelowParents, Invalid),
        (block(15), ZERO, errors.OriginTooShallow, NotYet),
        (block(20), block(14), errors.OriginTooShallow, NotYet),
        (block(21), ZERO, errors.OriginUnknown, NotYet),
        (block(14), block(9, 4), errors.OriginUnknown, NotYet),  # the parent's height is not known
        (STALE, ZERO, errors.OriginStale, NotYet),
        (STALE, block(14), errors.OriginStale, NotYet),
    ],
)
def test_refused_by_name(origin, parents, rule, branch):
    with pytest.raises(rule) as caught:
        check_origin(origin, parents, DEPTH, VIEW)
    assert type(caught.value) is rule
    assert isinstance(caught.value, branch)


def test_without_bitcoin_an_origin_is_not_yet_and_zero_goes_on():
    check_origin(ZERO, ZERO, DEPTH, None)
    check_origin(block(3), block(3), DEPTH, None)
    with pytest.raises(errors.OriginNotFollowed, match="--bitcoin-rpc"):
        check_origin(block(3), ZERO, DEPTH, None)
    with pytest.raises(errors.OriginDropped):
        check_origin(ZERO, block(3), DEPTH, None)


def test_a_reorganisation_of_six_reaches_no_origin_and_one_of_seven_does():
    newest = choose_origin(ZERO, DEPTH, VIEW)
    assert VIEW.height - VIEW.height_of(newest) == 6


@pytest.mark.parametrize(
    ("parents", "view", "expected"),
    [
        (ZERO, VIEW, block(14)),
        (block(9), VIEW, block(14)),
        (block(14), VIEW, block(14)),
        (STALE, VIEW, STALE),  # higher than the newest: keep it
        (block(14, 1), FakeView(20, {block(14, 1): 14}), block(14)),
        (block(9, 4), VIEW, block(9, 4)),  # unknown: keep it
        (ZERO, FakeView(5), ZERO),
        (ZERO, FakeView(6), block(0)),
        (ZERO, None, ZERO),
        (block(9), None, block(9)),
    ],
)
def test_the_newest_that_is_allowed_is_chosen(parents, view, expected):
    assert choose_origin(parents, DEPTH, view) == expected
    check_origin(expected, parents, DEPTH, view)
