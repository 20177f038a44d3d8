"""Each rule about origins: what it accepts, and what it refuses by name."""

import json
from pathlib import Path

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
ACCEPTED = {
    "no_origin_yet": (ZERO, ZERO),
    "the_first_with_six_blocks_on_top": (block(14), ZERO),
    "higher_than_the_parents": (block(14), block(13)),
    "the_parents": (block(14), block(14)),
    "old": (block(3), ZERO),
    "no_descendant_of_the_parents": (block(14), block(14, 1)),
    "the_parents_on_a_lost_branch": (STALE, STALE),
    "the_parents_that_nobody_knows": (block(99, 3), block(99, 3)),
}
REJECTED = {
    "zero_after_an_origin": (ZERO, block(3), errors.OriginDropped),
    "below_the_parents": (block(13), block(14), errors.OriginBelowParents),
    "below_the_parents_on_a_lost_branch": (block(12), STALE, errors.OriginBelowParents),
    "five_blocks_on_top": (block(15), ZERO, errors.OriginTooShallow),
    "the_tip": (block(20), block(14), errors.OriginTooShallow),
    "above_the_tip": (block(21), ZERO, errors.OriginUnknown),
    "after_an_unknown_one": (block(14), block(9, 4), errors.OriginUnknown),
    "on_a_lost_branch": (STALE, ZERO, errors.OriginStale),
    "from_the_best_chain_to_a_lost_branch": (STALE, block(14), errors.OriginStale),
}
NEVER_VALID = (errors.OriginDropped, errors.OriginBelowParents)
VIEW = FakeView(20, {STALE: 15, block(14, 1): 14})


@pytest.mark.parametrize(("origin", "parents"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(origin, parents):
    check_origin(origin, parents, DEPTH, VIEW)


@pytest.mark.parametrize(("origin", "parents", "rule"), REJECTED.values(), ids=REJECTED)
def test_refused_by_name(origin, parents, rule):
    with pytest.raises(rule) as caught:
        check_origin(origin, parents, DEPTH, VIEW)
    assert type(caught.value) is rule
    assert isinstance(caught.value, Invalid if rule in NEVER_VALID else NotYet)


VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "origins").glob("*.json"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_every_vector_on_disk(path):
    vector = json.loads(path.read_text())
    pre, origin = vector["pre"], bytes.fromhex(vector["input"])
    view = FakeView()
    view.height = len(pre["best"]) - 1
    view.heights = {bytes.fromhex(one): height for height, one in enumerate(pre["best"])}
    view.side = {bytes.fromhex(one): height for one, height in pre["side"].items()}
    given = (origin, bytes.fromhex(pre["parent_origin"]), pre["depth_blocks"], view)
    if "post" in vector:
        check_origin(*given)
    else:
        with pytest.raises(getattr(errors, vector["error"])):
            check_origin(*given)


def test_the_vectors_are_those_of_the_rules():
    assert len(VECTORS) == len(ACCEPTED) + len(REJECTED)


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
