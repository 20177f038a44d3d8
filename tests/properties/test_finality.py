"""Finality for any votes in any order: the order does not matter, and two conflicting checkpoints are never both final.

Both hold while less than a third of the window equivocates; the chains here keep every window's weights equal.
"""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.finality import (
    Checkpoint,
    Finality,
    Vote,
    compute_committee,
    compute_finality,
    find_conflict,
    start_of_finality,
)
from tests.unit.consensus.test_finality import PARAMS, VOTERS, Line

MEMBERS = tuple(VOTERS[:8])
FAULTY = 2  # of eight: less than a third
RULES = replace(PARAMS, genesis_validators=MEMBERS)
EPOCHS = 6
LENGTH = EPOCHS * RULES.epoch_blocks
TRUNK = Line(MEMBERS * EPOCHS, RULES)
heights = st.integers(0, EPOCHS).map(lambda epoch: epoch * RULES.epoch_blocks)
links = st.tuples(heights, heights).filter(lambda pair: pair[0] < pair[1])


def tally(votes: list[tuple[bytes, Vote]]) -> dict[Vote, list[bytes]]:
    counted: dict[Vote, list[bytes]] = {}
    for voter, vote in votes:
        counted.setdefault(vote, []).append(voter)
    return counted


@st.composite
def ballots(draw: Any, branches: tuple[Line, ...], faulty: int = FAULTY) -> list[tuple[bytes, Vote]]:
    """Votes of all members: waves that most follow, and strays; the honest ones leave out what would conflict."""
    cast: dict[bytes, list[Vote]] = {member: [] for member in MEMBERS}
    for _ in range(draw(st.integers(1, 10))):
        branch = draw(st.sampled_from(branches))
        vote = branch.link(*draw(links))
        for member in draw(st.one_of(st.just(MEMBERS), st.lists(st.sampled_from(MEMBERS), min_size=1, unique=True))):
            honest = MEMBERS.index(member) >= faulty
            if vote not in cast[member] and not (honest and find_conflict(vote, cast[member])):
                cast[member].append(vote)
    return draw(st.permutations([(member, vote) for member, votes in cast.items() for vote in votes]))


@settings(max_examples=300, deadline=None)
@given(ballots((TRUNK,)), st.randoms(use_true_random=False))
def test_the_order_in_which_votes_come_does_not_matter(votes: list[tuple[bytes, Vote]], random: Any) -> None:
    start = start_of_finality(TRUNK.at(0).hash)
    at_once = compute_finality(start, tally(votes), TRUNK, RULES)
    for _ in range(3):
        random.shuffle(votes)
        held = start
        kept: list[tuple[bytes, Vote]] = []
        for voter, vote in votes:
            if vote.source.number < held.final.number:  # a node drops what starts below what is final
                continue
            kept = [(other, old) for other, old in kept if old.source.number >= held.final.number]
            kept.append((voter, vote))
            held = compute_finality(held, tally(kept), TRUNK, RULES)
        assert held == at_once


@st.composite
def campaigns(draw: Any, branches: tuple[Line, Line]) -> list[tuple[bytes, Vote]]:
    """Both branches are voted for epoch by epoch, now and then over one; honest members vote where they still may."""
    cast: dict[bytes, list[Vote]] = {member: [] for member in MEMBERS}
    place = [0, 0]
    for side in draw(st.lists(st.integers(0, 1), min_size=4, max_size=12)):
        target = place[side] + draw(st.sampled_from((8, 8, 8, 16)))
        if target > LENGTH:
            continue
        vote = branches[side].link(place[side], target)
        place[side] = draw(st.sampled_from((target, target, target, place[side])))
        present = draw(st.one_of(st.just(255), st.integers(0, 255)))
        for index, member in enumerate(MEMBERS):
            may = index < FAULTY or not find_conflict(vote, cast[member])
            if present >> index & 1 and may and vote not in cast[member]:
                cast[member].append(vote)
    return [(member, vote) for member, votes in cast.items() for vote in votes]


@settings(max_examples=400, deadline=None)
@given(st.data(), st.integers(1, 2 * RULES.epoch_blocks))
def test_conflicting_checkpoints_are_never_both_final(data: st.DataObject, fork: int) -> None:
    other = replace(TRUNK, branch="fork", fork=fork)
    votes = tally(data.draw(campaigns((TRUNK, other))))
    start = start_of_finality(TRUNK.at(0).hash)
    here, there = (compute_finality(start, votes, line, RULES).final for line in (TRUNK, other))
    lower, higher_line = min((here, other), (there, TRUNK), key=lambda pair: pair[0].number)
    assert higher_line.hash_at(lower.number) == lower.hash, "the lower one lies below the higher one"


@settings(max_examples=300, deadline=None)
@given(ballots((TRUNK,), faulty=len(MEMBERS)), st.integers(0, 40))
def test_more_votes_never_take_anything_back(votes: list[tuple[bytes, Vote]], cut: int) -> None:
    start = start_of_finality(TRUNK.at(0).hash)
    before = compute_finality(start, tally(votes[:cut]), TRUNK, RULES)
    after = compute_finality(start, tally(votes), TRUNK, RULES)
    assert after.final >= before.final
    assert {place for place in before.justified if place >= after.final} <= set(after.justified)


@settings(max_examples=200, deadline=None)
@given(ballots((TRUNK,), faulty=len(MEMBERS)))
def test_what_is_settled_is_a_chain_of_links(votes: list[tuple[bytes, Vote]]) -> None:
    settled: Finality = compute_finality(start_of_finality(TRUNK.at(0).hash), tally(votes), TRUNK, RULES)
    assert settled.final in settled.justified
    assert settled.justified == tuple(sorted(settled.justified))
    for place in settled.justified[1:]:
        assert any(vote.target == place for _, vote in votes)
    if settled.final.number:
        following = Checkpoint(settled.final.number + 8, TRUNK.at(settled.final.number + 8).hash)
        assert following in settled.justified


@settings(max_examples=200, deadline=None)
@given(st.integers(-40, 200), st.lists(st.sampled_from(VOTERS), min_size=200, max_size=200))
def test_every_block_of_a_window_is_one_vote(end: int, coinbases: list[bytes]) -> None:
    committee = compute_committee(end, lambda number: coinbases[number - 1], RULES)
    assert committee.total == sum(committee.weights.values()) == RULES.committee_blocks
    assert list(committee.weights) == sorted(committee.weights)
