"""A node's votes on a real chain: what is counted, kept waiting, refused by name, and what survives a restart."""

import json
import multiprocessing
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.blocks import Block
from consensus import errors
from consensus.finality import Checkpoint, Vote, sign_vote
from hyperdust.miner import votes as miner_votes
from hyperdust.miner.votes import Protection, ProtectionFault, Voter
from hyperdust.node import settled
from hyperdust.node import votes as node_votes
from hyperdust.node.importer import Outcome
from hyperdust.node.settled import FollowedSnapshot, SettledBlocks
from hyperdust.node.votes import Votes
from hyperdust.proto import work_pb2 as messages
from tests.small_chain import MINER, OTHER_MINER, SmallChain
from tests.unit.miner_harness import Context

STRANGER = Account.from_key(b"\x77" * 32)
EPOCH = 4


def address(account: Any) -> bytes:
    return bytes.fromhex(account.address[2:])


class VoteChain(SmallChain):
    """Epochs of 4 blocks, a window of 12, two genesis validators."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        rules = replace(
            self.params.finality,
            epoch_blocks=EPOCH,
            committee_blocks=12,
            genesis_validators=(address(MINER), address(OTHER_MINER)),
        )
        self.network = replace(self.network, params=replace(self.params, finality=rules))
        self.votes = Votes(self.params, self.store, self.importer)

    def grow(self, blocks: int, *miners: Any) -> None:
        """The miners in turn; both where none is named."""
        chosen = miners or (MINER, OTHER_MINER)
        for _ in range(blocks):
            self.extend(1, chosen[self.store.latest.head.number % len(chosen)])

    def at(self, number: int) -> Checkpoint:
        found = self.store.latest.canonical_hash(number)
        assert found is not None
        return Checkpoint(number, found)

    def link(self, source: int, target: int) -> Vote:
        return Vote(self.at(source), self.at(target))

    def cast(self, vote: Vote, *voters: Any) -> None:
        for voter in voters or (MINER, OTHER_MINER):
            assert self.votes.add(vote, self.sign(vote, voter))

    def sign(self, vote: Vote, voter: Any = MINER) -> bytes:
        return sign_vote(vote, self.params.chain_id, bytes(voter.key))

    @property
    def settled(self) -> tuple[int, int]:
        """Heights (justified, final)."""
        blocks = SettledBlocks(self.store.latest)
        return blocks.safe().number, blocks.finalized().number


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[VoteChain]:
    chain = VoteChain(tmp_path / "chain")
    yield chain
    chain.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[VoteChain]:
    """Another node of the same network."""
    chain = VoteChain(tmp_path / "other")
    yield chain
    chain.close()


def blocks_of(chain: VoteChain, first: int, last: int) -> list[Block]:
    view = chain.store.latest
    found = []
    for number in range(first, last + 1):
        block_hash = chain.at(number).hash
        body = view.load_body(block_hash)
        assert body is not None
        found.append(Block(view.require_header(block_hash), body))
    return found


def feed(chain: VoteChain, blocks: list[Block]) -> list[Outcome]:
    chain.clock.now = max(chain.clock.now, *(block.header.timestamp for block in blocks))
    return [chain.importer.import_block(block).outcome for block in blocks]


# The pool


def test_two_epochs_of_votes_make_a_checkpoint_final(chain: VoteChain) -> None:
    chain.grow(9)
    assert chain.settled == (0, 0)
    chain.cast(chain.link(0, 4))
    assert chain.settled == (4, 0)
    chain.cast(chain.link(4, 8))
    assert chain.settled == (8, 4)
    report = chain.votes.report()
    assert (report.justified, report.finality.final) == (chain.at(8), chain.at(4))
    assert report.committee.total == 12
    assert [vote for _, vote in report.votes] == [chain.link(4, 8)] * 2, "votes at or below what is final are forgotten"


def test_one_voter_of_two_is_not_enough(chain: VoteChain) -> None:
    chain.grow(9)
    chain.cast(chain.link(0, 4), MINER)
    assert chain.settled == (0, 0)


def test_a_vote_held_already_is_no_news(chain: VoteChain) -> None:
    chain.grow(5)
    chain.cast(chain.link(0, 4), MINER)
    assert not chain.votes.add(chain.link(0, 4), chain.sign(chain.link(0, 4)))


def test_what_is_refused_by_name(chain: VoteChain) -> None:
    chain.grow(14)
    chain.cast(chain.link(0, 4))
    chain.cast(chain.link(4, 8))
    good = chain.link(8, 12)
    refused: list[tuple[Vote, bytes, type[Exception]]] = [
        (good, chain.sign(good)[:-1], errors.BadVoteSignature),
        (good, chain.sign(good, STRANGER), errors.UnknownVoter),
        (good, chain.sign(chain.link(4, 12)), errors.UnknownVoter),
        (chain.link(0, 12), chain.sign(chain.link(0, 12)), errors.VoteTooLate),
        (Vote(good.source, Checkpoint(13, good.target.hash)), bytes(65), errors.WrongCheckpoint),
        (Vote(good.target, good.source), bytes(65), errors.WrongCheckpoint),
    ]
    wrong_source = Vote(Checkpoint(8, b"\x08" * 32), good.target)
    refused.append((wrong_source, chain.sign(wrong_source), errors.WrongCheckpoint))
    for vote, signature, rule in refused:
        with pytest.raises(rule) as caught:
            chain.votes.add(vote, signature)
        assert type(caught.value) is rule
    assert chain.settled == (8, 4)
    assert chain.votes.add(good, chain.sign(good))


def test_double_and_surround_votes_are_named_and_kept_as_evidence(chain: VoteChain) -> None:
    chain.grow(17)
    chain.cast(chain.link(0, 4), MINER)
    chain.cast(chain.link(4, 8), MINER, OTHER_MINER)
    with pytest.raises(errors.DoubleVote):
        chain.votes.add(chain.link(0, 8), chain.sign(chain.link(0, 8)))
    with pytest.raises(errors.SurroundVote):
        chain.votes.add(chain.link(0, 12), chain.sign(chain.link(0, 12), OTHER_MINER))
    mine, theirs = sorted(chain.votes.report().equivocations, key=lambda pair: pair.voter != address(MINER))
    assert (mine.voter, mine.first.vote, mine.second.vote) == (address(MINER), chain.link(4, 8), chain.link(0, 8))
    assert theirs.second.signature == chain.sign(chain.link(0, 12), OTHER_MINER)
    reopened = Votes(chain.params, chain.store, chain.importer)
    assert {pair.voter for pair in reopened.report().equivocations} == {address(MINER), address(OTHER_MINER)}


def test_a_voter_cannot_fill_the_pool(chain: VoteChain) -> None:
    chain.grow(30)
    sources = [chain.link(source, 28) for source in range(0, 28, 4)]
    for vote in sources:
        with suppress(errors.DoubleVote):
            chain.votes.add(vote, chain.sign(vote))
    assert len(chain.votes.report().votes) == node_votes.MAX_OF_VOTER
    for number in range(20):
        vote = Vote(chain.at(0), Checkpoint(32, bytes([number]) * 32))
        with pytest.raises(errors.UnknownCheckpoint):
            chain.votes.add(vote, chain.sign(vote))
    assert len(chain.votes._waiting) == node_votes.MAX_OF_VOTER


def test_waiting_votes_are_bounded_and_strangers_do_not_wait(chain: VoteChain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_votes, "MAX_WAITING", 3)
    chain.grow(5)
    for voter in (MINER, OTHER_MINER, STRANGER):
        for number in (1, 2):
            vote = Vote(chain.at(0), Checkpoint(8, bytes([number]) * 32))
            with pytest.raises(errors.UnknownCheckpoint):
                chain.votes.add(vote, chain.sign(vote, voter))
    assert [voter for voter, _ in chain.votes._waiting] == [address(MINER)] + [address(OTHER_MINER)] * 2


def test_votes_before_their_block_count_once_it_is_there(chain: VoteChain, other: VoteChain) -> None:
    other.grow(9)
    blocks = blocks_of(other, 1, 9)
    feed(chain, blocks[:3])
    for vote in (other.link(0, 4), other.link(4, 8)):
        for voter in (MINER, OTHER_MINER):
            with pytest.raises(errors.UnknownCheckpoint):
                chain.votes.add(vote, chain.sign(vote, voter))
    assert chain.settled == (0, 0)
    feed(chain, blocks[3:4])
    assert chain.settled == (4, 0)
    feed(chain, blocks[4:])
    assert chain.settled == (8, 4)


@pytest.mark.parametrize("seed", range(6))
def test_blocks_and_votes_in_any_order_settle_the_same(chain: VoteChain, other: VoteChain, seed: int) -> None:
    other.grow(17)
    links = [(other.link(place, place + 4), voter) for place in (0, 4, 8, 12) for voter in (MINER, OTHER_MINER)]
    blocks = blocks_of(other, 1, 17)
    arrivals: list[Any] = [None] * len(blocks) + links
    random.Random(seed).shuffle(arrivals)
    for arrival in arrivals:
        if arrival is None:
            feed(chain, [blocks.pop(0)])
            continue
        vote, voter = arrival
        with suppress(errors.UnknownCheckpoint):
            chain.votes.add(vote, chain.sign(vote, voter))
    assert chain.settled == (16, 12)
    assert chain.votes.report().equivocations == ()


# Forks


def test_votes_for_a_lighter_fork_do_not_count_even_if_its_window_is_the_attackers(
    chain: VoteChain, other: VoteChain
) -> None:
    """Vector 3: every block of his window is his own, and so are all its votes."""
    other.grow(24, STRANGER)
    chain.grow(25, MINER, OTHER_MINER)
    feed(chain, blocks_of(other, 1, 24))
    for vote in (other.link(0, 20), other.link(20, 24)):
        with pytest.raises(errors.UnknownCheckpoint):
            chain.votes.add(vote, chain.sign(vote, STRANGER))
    assert chain.settled == (0, 0)
    other.cast(other.link(0, 20), STRANGER)
    assert other.settled == (20, 0), "on his own chain it counts"


def test_a_branch_below_the_final_checkpoint_is_refused_even_if_heavier(chain: VoteChain, other: VoteChain) -> None:
    chain.grow(9)
    other.grow(12, STRANGER)
    chain.cast(chain.link(0, 4))
    assert feed(chain, blocks_of(other, 1, 9)) == [Outcome.SIDE] * 9, "justified is not final"
    chain.cast(chain.link(4, 8))
    head = chain.at(9)
    with pytest.raises(errors.ConflictsWithFinal, match="height 4"):
        feed(chain, blocks_of(other, 10, 10))
    assert chain.store.latest.head.hash == head.hash
    assert chain.settled == (8, 4)


def test_a_reorganisation_above_the_final_checkpoint_takes_justification_back_and_brings_it_again(
    chain: VoteChain, other: VoteChain
) -> None:
    chain.grow(6)
    feed(other, blocks_of(chain, 1, 6))
    chain.grow(3)
    chain.cast(chain.link(0, 4))
    chain.cast(chain.link(0, 8))
    assert chain.settled == (8, 0)
    mine = blocks_of(chain, 7, 9)
    justified = chain.at(8)
    other.grow(4, STRANGER)
    feed(chain, blocks_of(other, 7, 10))
    assert chain.store.latest.head.hash == other.at(10).hash
    assert chain.settled == (4, 0), "8 was on the branch that was left"
    feed(other, mine)
    other_head = other.store.latest.head
    assert other_head.number == 10
    assert not other.store.latest.is_canonical(justified.hash)


# Restart


def test_a_restart_keeps_what_is_settled_and_the_votes(tmp_path: Path) -> None:
    chain = VoteChain(tmp_path / "chain")
    chain.grow(13)
    chain.cast(chain.link(0, 4))
    chain.cast(chain.link(4, 8))
    chain.cast(chain.link(8, 12), MINER)
    chain.close()
    again = VoteChain(tmp_path / "chain")
    assert again.settled == (8, 4)
    again.cast(again.link(8, 12), OTHER_MINER)
    assert again.settled == (12, 8), "the vote from before the restart counted"
    again.close()


def test_finality_that_was_not_written_follows_from_the_votes_that_were(chain: VoteChain) -> None:
    chain.grow(9)
    chain.cast(chain.link(0, 4))
    chain.store.write_finality(type(chain.store.latest.finality)(chain.at(0), (chain.at(0),)))
    assert chain.settled == (0, 0)
    Votes(chain.params, chain.store, chain.importer)
    assert chain.settled == (4, 0)


# What safe and finalized mean


class Anchored:
    """Anchors that say a block each."""

    def __init__(self, safe: Checkpoint, finalized: Checkpoint) -> None:
        self._safe, self._finalized = safe, finalized

    def safe(self, _snapshot: Any) -> Checkpoint:
        return self._safe

    def finalized(self, _snapshot: Any) -> Checkpoint:
        return self._finalized


def test_anchors_decide_where_there_are_any(chain: VoteChain) -> None:
    chain.grow(9)
    chain.cast(chain.link(0, 8))
    blocks = SettledBlocks(chain.store.latest, Anchored(chain.at(4), chain.at(0)))
    assert (blocks.safe(), blocks.finalized()) == (chain.at(4), chain.at(0))
    assert SettledBlocks(chain.store.latest).safe() == chain.at(8)


def test_what_is_remembered_is_bounded_and_changes_no_committee(
    chain: VoteChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled, "MAX_COMMITTEES", 2)
    monkeypatch.setattr(settled, "_WINDOWS", 1)
    chain.grow(30)
    remembered = settled.Remembered()
    rules = chain.params.finality
    for end in (0, 4, 29, 8, 4, 16, 29, 30, 0):
        fresh = FollowedSnapshot(chain.store.latest, rules).committee_at(end)
        assert FollowedSnapshot(chain.store.latest, rules, remembered).committee_at(end) == fresh
        assert len(remembered.committees) <= 2
        assert len(remembered.coinbases) <= 2 * rules.committee_blocks


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_random_bytes_get_a_verdict(chain: VoteChain, data: bytes) -> None:
    verdict = chain.votes.submit_vote(data, Context())
    assert not verdict.accepted
    assert verdict.rule


# What is asked of a coinbase


def test_a_vote_is_asked_for_a_block_after_the_checkpoint_until_it_is_there(tmp_path: Path, chain: VoteChain) -> None:
    rules = replace(chain.params.finality, epoch_blocks=8)
    votes = Votes(replace(chain.params, finality=rules), chain.store, chain.importer)
    chain.grow(8)
    assert votes.request_for(address(MINER)) is None, "a fork at the tip may still take it back"
    chain.grow(1)
    assert votes.request_for(address(MINER)) == chain.link(0, 8)
    assert votes.request_for(address(STRANGER)) is None
    votes.add(chain.link(0, 8), chain.sign(chain.link(0, 8)))
    assert votes.request_for(address(MINER)) is None
    assert votes.request_for(address(OTHER_MINER)) == chain.link(0, 8)
    votes.add(chain.link(0, 8), chain.sign(chain.link(0, 8), OTHER_MINER))
    chain.grow(8)
    assert votes.request_for(address(OTHER_MINER)) == chain.link(8, 16)


def test_no_vote_is_asked_that_would_be_an_equivocation(chain: VoteChain) -> None:
    chain.grow(9)
    chain.cast(chain.link(0, 8), MINER)
    chain.cast(chain.link(0, 4), OTHER_MINER)
    with pytest.raises(errors.DoubleVote):
        chain.votes.add(chain.link(4, 8), chain.sign(chain.link(4, 8)))
    assert chain.votes.request_for(address(MINER)) is None


def test_the_work_api_answers_with_a_verdict(chain: VoteChain) -> None:
    chain.grow(5)
    link = node_votes.link_message(chain.link(0, 4))
    good = messages.Vote(link=link, signature=chain.sign(chain.link(0, 4)))
    assert chain.votes.submit_vote(good.SerializeToString(), Context()).accepted
    assert chain.votes.submit_vote(good.SerializeToString(), Context()).accepted, "again is fine"
    for wrong, rule in (
        (b"\xff", "Malformed"),
        (messages.Vote().SerializeToString(), "WrongCheckpoint"),
        (messages.Vote(link=link, signature=bytes(65)).SerializeToString(), "BadVoteSignature"),
    ):
        verdict = chain.votes.submit_vote(wrong, Context())
        assert (verdict.accepted, verdict.rule) == (False, rule)
        assert verdict.text


# The miner's side


def vote_on(source: int, target: int, branch: int = 0) -> Vote:
    return Vote(Checkpoint(source, bytes([branch, source]) * 16), Checkpoint(target, bytes([branch, target]) * 16))


def test_protection_takes_what_is_ahead_and_nothing_else(tmp_path: Path) -> None:
    protection = Protection(tmp_path / "votes.json")
    protection.record(vote_on(0, 8))
    protection.record(vote_on(0, 8))
    protection.record(vote_on(8, 16))
    for wrong, rule in (
        (vote_on(8, 16, branch=1), errors.DoubleVote),
        (vote_on(0, 16), errors.DoubleVote),
        (vote_on(8, 12), errors.DoubleVote),
        (vote_on(0, 24), errors.SurroundVote),
    ):
        with pytest.raises(rule):
            protection.record(wrong)
    assert protection.last == vote_on(8, 16)
    protection.close()
    reopened = Protection(tmp_path / "votes.json")
    assert reopened.last == vote_on(8, 16)
    with pytest.raises(errors.DoubleVote):
        reopened.record(vote_on(8, 16, branch=1))
    reopened.record(vote_on(8, 24, branch=1))
    reopened.close()


def test_one_key_has_one_voter(tmp_path: Path) -> None:
    first = Protection(tmp_path / "votes.json")
    with pytest.raises(ProtectionFault, match="another miner"):
        Protection(tmp_path / "votes.json")
    first.close()
    Protection(tmp_path / "votes.json").close()


@pytest.mark.parametrize("content", ["", "{}", '{"version": 2}', "[]", '{"version": 1, "last": {"source": 1}}', "\x00"])
def test_a_damaged_file_is_named_and_never_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "votes.json"
    path.write_text(content)
    with pytest.raises(ProtectionFault, match="damaged"):
        Protection(path)
    assert path.read_text() == content


@pytest.fixture
def miner(tmp_path: Path) -> Iterator["MinerSide"]:
    made = MinerSide(tmp_path)
    yield made
    made.close()


class MinerSide:
    """A voter that may be restarted, and the node that it sends to, which may be away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = Node()
        self.voter = Voter(MINER, folder, self.node)

    def ask(self, vote: Vote, genesis: bytes = bytes(32)) -> None:
        self.voter.act(template(vote, genesis))

    def restart(self) -> None:
        self.voter.close()
        self.voter = Voter(MINER, self.folder, self.node)

    def close(self) -> None:
        self.voter.close()

    @property
    def taken(self) -> list[messages.Vote]:
        return self.node.taken


class Node:
    """Takes votes."""

    def __init__(self) -> None:
        self.taken: list[messages.Vote] = []
        self.away = False

    def __call__(self, vote: messages.Vote) -> messages.Verdict:
        if self.away:
            raise miner_votes.WorkUnreachable("away")
        self.taken.append(vote)
        return messages.Verdict(accepted=True)


def template(vote: Vote, genesis: bytes = bytes(32)) -> messages.Template:
    return messages.Template(
        vote=node_votes.link_message(vote), number=vote.target.number + 2, chain_id=48_000_000, genesis_hash=genesis
    )


def signed(vote: Vote) -> messages.Vote:
    return messages.Vote(link=node_votes.link_message(vote), signature=sign_vote(vote, 48_000_000, bytes(MINER.key)))


def test_a_miner_signs_what_it_may(miner: MinerSide) -> None:
    miner.voter.act(messages.Template(number=3))
    for vote in (vote_on(0, 8), vote_on(8, 16), vote_on(0, 24), vote_on(8, 12)):
        miner.ask(vote)
    assert miner.taken == [signed(vote_on(0, 8)), signed(vote_on(8, 16))]


def test_a_vote_that_did_not_arrive_is_sent_again_and_never_another_for_its_target(miner: MinerSide) -> None:
    miner.node.away = True
    miner.ask(vote_on(0, 16))
    miner.node.away = False
    miner.ask(vote_on(8, 16))
    assert miner.taken == [signed(vote_on(0, 16))], "8 was justified meanwhile; what was signed is signed"


def test_another_chain_has_another_file_and_a_wiped_node_changes_nothing(miner: MinerSide) -> None:
    miner.ask(vote_on(0, 16))
    miner.ask(vote_on(0, 8))
    miner.ask(vote_on(0, 8), genesis=b"\1" * 32)
    miner.restart()
    miner.ask(vote_on(0, 16, branch=1))
    assert miner.taken == [signed(vote_on(0, 16)), signed(vote_on(0, 8))]
    assert len(list(miner.folder.glob("votes-*.json"))) == 2


def test_a_node_cannot_lift_the_protection_above_its_own_head(miner: MinerSide) -> None:
    far = template(vote_on(0, 200))
    far.number = 10
    miner.voter.act(far)
    miner.ask(vote_on(0, 8))
    assert miner.taken == [signed(vote_on(0, 8))]


def test_a_full_disk_signs_nothing(miner: MinerSide, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    miner.ask(vote_on(0, 8))
    assert miner.taken == []


def die_before_sending(folder: Path) -> None:
    def die(_vote: messages.Vote) -> messages.Verdict:
        os.kill(os.getpid(), 9)
        raise AssertionError

    Voter(MINER, folder, die).act(template(vote_on(0, 16)))


def test_kill_9_between_file_and_send(miner: MinerSide) -> None:
    process = multiprocessing.get_context("fork").Process(target=die_before_sending, args=(miner.folder,))
    process.start()
    process.join(30)
    assert process.exitcode == -9
    (path,) = miner.folder.glob("votes-*.json")
    assert json.loads(path.read_text())["last"]["target"]["number"] == 16
    miner.ask(vote_on(0, 16, branch=1))
    assert miner.taken == [], "another block at that height"
    miner.ask(vote_on(0, 16))
    assert miner.taken == [signed(vote_on(0, 16))]
