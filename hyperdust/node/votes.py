"""Finality as a node sees it: the votes that it holds, what they settle, and the votes that it asks of its miners.

A vote is kept once it is checked, counted while its link lies on the chain that is followed, and forgotten when it can
change nothing any more. Votes that arrive before their block wait. Nothing here makes a block valid or invalid; the
importer alone refuses branches below what is final. Spec: docs/spec/finality.md.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

import structlog
from google.protobuf.message import DecodeError

from chain.errors import HyperdustError, Invalid, NotYet
from chain.params import ChainParams
from consensus.errors import UnknownCheckpoint, UnknownVoter, VoteTooLate
from consensus.finality import (
    VOTE_BYTES,
    Checkpoint,
    Committee,
    Finality,
    Vote,
    check_consistent,
    check_form,
    check_on_chain,
    committee_end,
    compute_finality,
    decode_vote,
    find_conflict,
    is_supermajority,
    recover_voter,
)
from hyperdust.node.importer import Imported, Importer, Outcome
from hyperdust.node.settled import FollowedSnapshot, Remembered
from hyperdust.node.store import ChainSnapshot, Store
from hyperdust.proto import work_pb2 as messages

log = structlog.get_logger()

MAX_EPOCHS: Final = 64  # targets above the final checkpoint, the newest of which are kept
MAX_WAITING: Final = 4_096  # votes whose target is not on the chain that is followed
MAX_OF_VOTER: Final = 4  # such votes of one voter; also its votes for one target height, of which an honest one has one
MAX_EVIDENCE: Final = 1_024  # voters, one pair of votes each
_SETTLE_SHARE: Final = 8  # a checkpoint is voted for once an eighth of an epoch lies on top: forks at the tip are over
_VOTE_KEY: Final = b"V"
_EVIDENCE_KEY: Final = b"E"


@dataclass(frozen=True, slots=True)
class SignedVote:
    """A vote as it travels."""

    vote: Vote
    signature: bytes
    """r ‖ s ‖ y-parity."""

    def encode(self) -> bytes:
        """Encoding: vote 80 ‖ signature 65."""
        return self.vote.encode() + self.signature


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Two votes of one voter that may not both exist: what `Court.prove_equivocation` takes."""

    voter: bytes
    first: SignedVote
    second: SignedVote


@dataclass(frozen=True, slots=True)
class FinalityReport:
    """What people and metrics see."""

    finality: Finality
    justified: Checkpoint
    """The last on the chain that is followed."""
    votes: tuple[tuple[bytes, Vote], ...]
    """(voter, vote) above the final checkpoint, by target."""
    committee: Committee
    """Of links from the justified checkpoint."""
    equivocations: tuple[Equivocation, ...]


class Votes:
    """The node's votes. Safe to use from any thread; takes its own lock, then the importer's, never the other way."""

    def __init__(self, params: ChainParams, store: Store, importer: Importer) -> None:
        self._params = params
        self._rules = params.finality
        self._store = store
        self._importer = importer
        self._lock = threading.RLock()
        self._remembered = Remembered()
        self._counted: dict[Vote, dict[bytes, bytes]] = {}
        """Link -> voter -> signature."""
        self._waiting: OrderedDict[tuple[bytes, Vote], bytes] = OrderedDict()
        """(voter, vote) -> signature."""
        self._by_voter: dict[bytes, dict[Vote, bytes]] = {}
        """Every vote held, counted or waiting."""
        self._equivocations: OrderedDict[bytes, Equivocation] = OrderedDict()
        self._load()
        importer.subscribe(self._on_imported)

    def add(self, vote: Vote, signature: bytes) -> bool:
        """Check a vote and count it; False where it is held already.

        Raises:
            WrongCheckpoint, BadVoteSignature, UnknownVoter: it is none of this chain's.
            VoteTooLate: it starts below what is final.
            DoubleVote, SurroundVote: kept as evidence, and counted: which came first must not matter.
            UnknownCheckpoint: its target is not on the chain that is followed; waits, if the voter is known.
            NodeFault: our own trouble.
        """
        check_form(vote, self._rules)
        voter = recover_voter(vote, signature, self._params.chain_id)
        with self._lock:
            if vote in self._by_voter.get(voter, ()):
                return False
            self._add(vote, voter, signature)
            return True

    def request_for(self, voter: bytes) -> Vote | None:
        """The vote that a coinbase should sign now; None where it has, or is in no committee."""
        with self._lock:
            snapshot = self._store.latest
            vote = self._due(snapshot)
            if vote is None:
                return None
            weight = self._chain(snapshot).committee_at(committee_end(vote, self._rules)).weights.get(voter)
            held = self._by_voter.get(voter, {})
            if not weight or vote in held or find_conflict(vote, held) is not None:
                return None
            return vote

    def report(self) -> FinalityReport:
        """What is settled, and by whom."""
        with self._lock:
            snapshot = self._store.latest
            finality = snapshot.finality
            chain = self._chain(snapshot)
            justified = finality.highest(chain)
            ordered = sorted(self._counted, key=lambda vote: (vote.target, vote.source))
            votes = tuple((voter, vote) for vote in ordered for voter in sorted(self._counted[vote]))
            committee = chain.committee_at(justified.number)
            return FinalityReport(finality, justified, votes, committee, tuple(self._equivocations.values()))

    def submit_vote(self, request: bytes, _context: Any) -> messages.Verdict:
        """The work API's SubmitVote."""
        try:
            decoded = messages.Vote.FromString(request)
            link = decoded.link
            source = Checkpoint(link.source_number, bytes(link.source))
            self.add(Vote(source, Checkpoint(link.target_number, bytes(link.target))), bytes(decoded.signature))
        except DecodeError as error:
            return messages.Verdict(rule="Malformed", text=str(error))
        except HyperdustError as error:
            return messages.Verdict(rule=type(error).__name__, text=str(error))
        return messages.Verdict(accepted=True)

    def _add(self, vote: Vote, voter: bytes, signature: bytes) -> None:
        snapshot = self._store.latest
        finality = snapshot.finality
        if vote.source.number < finality.final.number:
            raise VoteTooLate("source height", vote.source.number, f">= {finality.final.number}")
        chain = self._chain(snapshot)
        earlier = tuple(self._by_voter.get(voter, ()))
        try:
            check_on_chain(vote, chain)
        except UnknownCheckpoint:
            if voter in chain.committee_at(finality.highest(chain).number).weights:
                self._note_conflict(vote, voter, signature)
                self._wait(vote, voter, signature)
            raise
        committee = chain.committee_at(committee_end(vote, self._rules))
        if voter not in committee.weights:
            raise UnknownVoter("voter", voter, f"one of the {len(committee.weights)} in the link's committee")
        self._note_conflict(vote, voter, signature)
        if sum(held.target.number == vote.target.number for held in earlier) < MAX_OF_VOTER:
            self._count(vote, voter, signature)
            self._store.write_records({_key(voter, vote): signature})
            if is_supermajority(committee.weigh(self._counted[vote]), committee.total, self._rules):
                self._advance()
        check_consistent(vote, earlier)

    def _count(self, vote: Vote, voter: bytes, signature: bytes) -> None:
        self._counted.setdefault(vote, {})[voter] = signature
        self._by_voter.setdefault(voter, {})[vote] = signature

    def _wait(self, vote: Vote, voter: bytes, signature: bytes) -> None:
        of_voter = [(voter, held) for held in self._by_voter.get(voter, ()) if (voter, held) in self._waiting]
        if len(of_voter) >= MAX_OF_VOTER:
            self._forget(*of_voter[0])
        elif len(self._waiting) >= MAX_WAITING:
            self._forget(*next(iter(self._waiting)))
        self._waiting[voter, vote] = signature
        self._by_voter.setdefault(voter, {})[vote] = signature

    def _forget(self, voter: bytes, vote: Vote) -> None:
        self._waiting.pop((voter, vote), None)
        held = self._by_voter.get(voter, {})
        held.pop(vote, None)
        if not held:
            self._by_voter.pop(voter, None)

    def _note_conflict(self, vote: Vote, voter: bytes, signature: bytes) -> None:
        """Keep a slashable pair, one a voter."""
        earlier = self._by_voter.get(voter, {})
        conflict = find_conflict(vote, earlier)
        if conflict is None or voter in self._equivocations:
            return
        first = SignedVote(conflict, earlier[conflict])
        self._keep_evidence(Equivocation(voter, first, SignedVote(vote, signature)))
        log.warning("equivocation", voter="0x" + voter.hex(), target=vote.target.number)
        pair = self._equivocations[voter]
        self._store.write_records({_EVIDENCE_KEY + voter: pair.first.encode() + pair.second.encode()})

    def _keep_evidence(self, equivocation: Equivocation) -> None:
        self._equivocations[equivocation.voter] = equivocation
        while len(self._equivocations) > MAX_EVIDENCE:
            voter, _ = self._equivocations.popitem(last=False)
            self._store.write_records({_EVIDENCE_KEY + voter: None})

    def _advance(self) -> None:
        """Settle what the votes held settle now."""
        snapshot = self._store.latest
        before = snapshot.finality
        after = compute_finality(before, self._counted, self._chain(snapshot), self._rules)
        if after == before or not self._importer.settle(after):
            return
        log.info("settled", final=after.final.number, justified=after.justified[-1].number)
        self._drop_old()

    def _drop_old(self) -> None:
        """Forget votes that can change nothing: at or below what is final, or very old."""
        snapshot = self._store.latest
        oldest = max(snapshot.finality.final.number, snapshot.head.number - MAX_EPOCHS * self._rules.epoch_blocks)
        gone = [vote for vote in self._counted if vote.target.number <= oldest]
        records: dict[bytes, bytes | None] = {}
        for vote in gone:
            for voter in self._counted.pop(vote):
                records[_key(voter, vote)] = None
                self._forget(voter, vote)
        for voter, vote in [key for key in self._waiting if key[1].target.number <= oldest]:
            self._forget(voter, vote)
        self._store.write_records(records)

    def _on_imported(self, imported: Imported) -> None:
        if imported.outcome is not Outcome.HEAD:
            return
        with self._lock:
            snapshot = self._store.latest
            arrived = [
                (voter, vote, signature)
                for (voter, vote), signature in self._waiting.items()
                if snapshot.canonical_hash(vote.target.number) == vote.target.hash
            ]
            for voter, vote, signature in arrived:
                self._forget(voter, vote)
                try:
                    self._add(vote, voter, signature)
                except (Invalid, NotYet) as error:
                    log.info("vote dropped", voter="0x" + voter.hex(), reason=str(error))
            if imported.reorganisation is not None and imported.reorganisation.abandoned:
                self._advance()  # links of the branch that is followed now count from now on
            if snapshot.head.number % self._rules.epoch_blocks == 0:
                self._drop_old()

    def _due(self, snapshot: ChainSnapshot) -> Vote | None:
        epoch = self._rules.epoch_blocks
        number = (snapshot.head.number - epoch // _SETTLE_SHARE) // epoch * epoch
        target = snapshot.canonical_hash(number) if number > 0 else None
        source = snapshot.finality.highest(self._chain(snapshot))
        if target is None or source.number >= number:
            return None
        return Vote(source, Checkpoint(number, target))

    def _chain(self, snapshot: ChainSnapshot) -> FollowedSnapshot:
        return FollowedSnapshot(snapshot, self._rules, self._remembered)

    def _load(self) -> None:
        for key, value in self._store.load_records(_VOTE_KEY):
            self._count(decode_vote(key[29:]), key[9:29], value)
        for key, value in self._store.load_records(_EVIDENCE_KEY):
            half = VOTE_BYTES + 65
            first, second = (
                SignedVote(decode_vote(part[:VOTE_BYTES]), part[VOTE_BYTES:]) for part in (value[:half], value[half:])
            )
            self._keep_evidence(Equivocation(key[1:], first, second))
        self._advance()


def link_message(vote: Vote | None) -> messages.Link | None:
    """A vote to be signed, as a template carries it."""
    if vote is None:
        return None
    source, target = vote.source, vote.target
    return messages.Link(
        source=source.hash, source_number=source.number, target=target.hash, target_number=target.number
    )


def _key(voter: bytes, vote: Vote) -> bytes:
    return _VOTE_KEY + vote.target.number.to_bytes(8, "big") + voter + vote.encode()
