"""Votes, committees and what they settle: every rule accepts the right and refuses, or does not count, the wrong."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

from chain.errors import Malformed
from chain.params import FinalityParams
from consensus import errors
from consensus.finality import (
    Checkpoint,
    Committee,
    Finality,
    Vote,
    check_consistent,
    check_form,
    check_on_chain,
    committee_end,
    compute_committee,
    compute_finality,
    decode_vote,
    is_supermajority,
    recover_voter,
    sign_vote,
    start_of_finality,
    vote_digest,
)
from consensus.fork_choice import check_extends_final

CHAIN_ID = 48_000_000
KEYS = [bytes([number]) * 32 for number in range(1, 10)]
VOTERS = [bytes.fromhex(Account.from_key(key).address[2:]) for key in KEYS]
A, B, C = VOTERS[:3]
ATTACKER = VOTERS[8]
PARAMS = FinalityParams(epoch_blocks=8, committee_blocks=24, genesis_validators=(A, B, C))
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True)
class Line:
    """A chain of nothing but coinbases; it leaves the trunk after `fork`."""

    coinbases: tuple[bytes, ...]
    params: FinalityParams = PARAMS
    branch: str = "trunk"
    fork: int = 0

    def hash_at(self, number: int) -> bytes | None:
        if not 0 <= number <= len(self.coinbases):
            return None
        return keccak(text=f"{self.branch if number > self.fork else 'trunk'} {number}")

    def committee_at(self, end: int) -> Committee:
        return compute_committee(end, lambda number: self.coinbases[number - 1], self.params)

    def at(self, number: int) -> Checkpoint:
        found = self.hash_at(number)
        assert found is not None
        return Checkpoint(number, found)

    def link(self, source: int, target: int) -> Vote:
        return Vote(self.at(source), self.at(target))

    def settle(self, votes: dict[Vote, Iterable[bytes]], held: Finality | None = None) -> tuple[int, int]:
        """Heights (justified, final)."""
        settled = compute_finality(
            held or start_of_finality(self.at(0).hash),
            {vote: tuple(voters) for vote, voters in votes.items()},
            self,
            self.params,
        )
        return settled.highest(self).number, settled.final.number


TRUNK = Line((A, B, C) * 40)
VOTE = TRUNK.link(8, 16)


# Votes


def test_the_digest_is_eip_712() -> None:
    typed = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
            ],
            "Vote": [
                {"name": "source", "type": "bytes32"},
                {"name": "sourceNumber", "type": "uint64"},
                {"name": "target", "type": "bytes32"},
                {"name": "targetNumber", "type": "uint64"},
            ],
        },
        "primaryType": "Vote",
        "domain": {"name": "Hyperdust Finality", "version": "1", "chainId": CHAIN_ID},
        "message": {
            "source": VOTE.source.hash,
            "sourceNumber": 8,
            "target": VOTE.target.hash,
            "targetNumber": 16,
        },
    }
    signable = encode_typed_data(full_message=typed)
    assert vote_digest(VOTE, CHAIN_ID) == keccak(b"\x19" + signable.version + signable.header + signable.body)


def test_the_signer_is_recovered_and_another_chain_gives_another() -> None:
    signature = sign_vote(VOTE, CHAIN_ID, KEYS[0])
    assert recover_voter(VOTE, signature, CHAIN_ID) == A
    assert recover_voter(VOTE, signature, CHAIN_ID + 1) != A
    assert recover_voter(TRUNK.link(0, 16), signature, CHAIN_ID) != A


def test_one_vote_has_one_encoding() -> None:
    assert decode_vote(VOTE.encode()) == VOTE
    for wrong in (VOTE.encode()[:-1], VOTE.encode() + b"\0", b""):
        with pytest.raises(Malformed):
            decode_vote(wrong)


def high_s(signature: bytes) -> bytes:
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([1 - signature[64]])


GOOD = sign_vote(VOTE, CHAIN_ID, KEYS[0])
BAD_SIGNATURES = {
    "empty": b"",
    "short": GOOD[:-1],
    "long": GOOD + b"\0",
    "parity": GOOD[:-1] + b"\x1b",
    "high_s": high_s(GOOD),
    "zero": bytes(65),
}


@pytest.mark.parametrize("name", BAD_SIGNATURES)
def test_a_bad_signature_is_refused_by_name(name: str) -> None:
    with pytest.raises(errors.BadVoteSignature):
        recover_voter(VOTE, BAD_SIGNATURES[name], CHAIN_ID)


WRONG_FORMS = {
    "target_off_the_epoch": replace(VOTE, target=Checkpoint(17, VOTE.target.hash)),
    "source_off_the_epoch": replace(VOTE, source=Checkpoint(7, VOTE.source.hash)),
    "source_is_target": Vote(VOTE.target, VOTE.target),
    "backwards": Vote(VOTE.target, VOTE.source),
}


def test_the_right_form_is_accepted() -> None:
    check_form(VOTE, PARAMS)
    check_form(TRUNK.link(0, 120), PARAMS)


@pytest.mark.parametrize("name", WRONG_FORMS)
def test_a_wrong_form_is_refused_by_name(name: str) -> None:
    with pytest.raises(errors.WrongCheckpoint):
        check_form(WRONG_FORMS[name], PARAMS)


def test_a_number_beyond_its_type_and_a_short_hash_are_refused() -> None:
    for place in (Checkpoint(1 << 64, VOTE.target.hash), Checkpoint(16, VOTE.target.hash[1:])):
        with pytest.raises(errors.WrongCheckpoint):
            check_form(replace(VOTE, target=place), PARAMS)


def test_both_ends_lie_on_the_chain() -> None:
    fork = Line(TRUNK.coinbases, branch="fork", fork=10)
    check_on_chain(VOTE, TRUNK)
    with pytest.raises(errors.UnknownCheckpoint):
        check_on_chain(fork.link(8, 16), TRUNK)
    with pytest.raises(errors.UnknownCheckpoint):
        check_on_chain(Vote(VOTE.source, Checkpoint(800, bytes(32))), TRUNK)
    with pytest.raises(errors.WrongCheckpoint, match="source"):
        check_on_chain(Vote(fork.at(16), TRUNK.at(24)), TRUNK)


# Equivocation

FORK = Line(TRUNK.coinbases, branch="fork", fork=10)
CONFLICTS: dict[str, tuple[Vote, Vote, type[Exception]]] = {
    "two_targets_at_one_height": (TRUNK.link(8, 16), FORK.link(8, 16), errors.DoubleVote),
    "two_sources_of_one_target": (TRUNK.link(0, 16), TRUNK.link(8, 16), errors.DoubleVote),
    "around_an_earlier": (TRUNK.link(16, 24), TRUNK.link(8, 32), errors.SurroundVote),
    "within_an_earlier": (TRUNK.link(8, 32), TRUNK.link(16, 24), errors.SurroundVote),
    "around_on_a_fork": (TRUNK.link(16, 24), FORK.link(8, 32), errors.SurroundVote),
}
CONSISTENT = {
    "the_next": (TRUNK.link(0, 8), TRUNK.link(8, 16)),
    "the_same": (VOTE, VOTE),
    "one_source": (TRUNK.link(0, 8), TRUNK.link(0, 16)),
    "an_epoch_missed": (TRUNK.link(0, 8), TRUNK.link(8, 24)),
    "the_other_branch_later": (TRUNK.link(8, 16), FORK.link(8, 24)),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_double_and_surround_votes_are_found_in_either_order(name: str) -> None:
    one, other, rule = CONFLICTS[name]
    for first, second in ((one, other), (other, one)):
        with pytest.raises(rule) as caught:
            check_consistent(second, [first])
        assert type(caught.value) is rule


@pytest.mark.parametrize("name", CONSISTENT)
def test_honest_sequences_are_no_equivocation(name: str) -> None:
    one, other = CONSISTENT[name]
    check_consistent(other, [one])
    check_consistent(one, [other])


# Committees


def test_one_vote_a_block_of_the_window_that_ends_at_the_source() -> None:
    line = Line((A,) * 20 + (B,) * 12 + (C,) * 30)
    committee = line.committee_at(committee_end(line.link(32, 40), PARAMS))
    assert (committee.weights, committee.total) == ({A: 12, B: 12}, 24)


def test_genesis_validators_fill_the_window_below_genesis() -> None:
    committee = TRUNK.committee_at(0)
    assert (committee.weights, committee.total) == ({A: 8, B: 8, C: 8}, 24)
    later = Line((ATTACKER,) * 8).committee_at(8)
    assert later.total == 24
    assert later.weights[ATTACKER] == 8


def test_without_validators_the_window_begins_with_block_one() -> None:
    bare = replace(PARAMS, genesis_validators=())
    assert Line(TRUNK.coinbases, bare).committee_at(0) == Committee({}, 0)
    assert Line(TRUNK.coinbases, bare).committee_at(8).total == 8


def test_a_link_longer_than_a_window_is_voted_on_by_the_window_before_its_target() -> None:
    assert committee_end(TRUNK.link(8, 32), PARAMS) == 8
    assert committee_end(TRUNK.link(8, 40), PARAMS) == 16
    assert committee_end(TRUNK.link(0, 120), PARAMS) == 96


def test_an_idle_miner_slides_out() -> None:
    line = Line((A, B, C) * 8 + (A, B) * 20)
    assert C in line.committee_at(24).weights
    assert C not in line.committee_at(48).weights


@pytest.mark.parametrize(
    ("weight", "total", "enough"), [(16, 24, True), (15, 24, False), (2, 3, True), (0, 0, False), (1, 1, True)]
)
def test_two_thirds_justify(weight: int, total: int, enough: object) -> None:
    assert is_supermajority(weight, total, PARAMS) is enough


# What votes settle


def test_two_links_in_a_row_make_the_first_target_final() -> None:
    assert TRUNK.settle({TRUNK.link(0, 8): (A, B)}) == (8, 0)
    assert TRUNK.settle({TRUNK.link(0, 8): (A, B), TRUNK.link(8, 16): (A, C)}) == (16, 8)


def test_one_link_makes_nothing_final() -> None:
    assert TRUNK.settle({TRUNK.link(0, 16): VOTERS}) == (16, 0)


def test_a_skipped_epoch_justifies_and_does_not_make_final() -> None:
    votes = {TRUNK.link(0, 8): VOTERS, TRUNK.link(8, 24): VOTERS}
    assert TRUNK.settle(votes) == (24, 0)
    assert TRUNK.settle(votes | {TRUNK.link(24, 32): VOTERS}) == (32, 24)


def test_less_than_two_thirds_justify_nothing() -> None:
    assert TRUNK.settle({TRUNK.link(0, 8): (A,), TRUNK.link(8, 16): (B,)}) == (0, 0)


def test_a_source_that_is_not_justified_carries_nothing() -> None:
    assert TRUNK.settle({TRUNK.link(8, 16): VOTERS, TRUNK.link(16, 24): VOTERS}) == (0, 0)


def test_voters_outside_of_the_committee_weigh_nothing() -> None:
    assert TRUNK.settle({TRUNK.link(0, 8): (A, *VOTERS[3:])}) == (0, 0)


def test_an_attackers_window_on_a_lighter_fork_does_not_count() -> None:
    """Vector 3: he mined every block of his fork's window and votes with all of it."""
    fork = Line((A, B, C) * 8 + (ATTACKER,) * 60, branch="fork", fork=24)
    votes = {
        TRUNK.link(0, 8): VOTERS,
        TRUNK.link(8, 16): VOTERS,
        TRUNK.link(16, 24): VOTERS,
        Vote(fork.at(24), fork.at(72)): (ATTACKER,),
        fork.link(72, 80): (ATTACKER,),
    }
    assert fork.settle(votes) == (80, 72), "on his own chain it would be final"
    assert TRUNK.settle(votes) == (24, 16)


def test_votes_for_another_branch_do_not_count_here() -> None:
    assert TRUNK.settle({FORK.link(8, 16): VOTERS, TRUNK.link(0, 8): VOTERS}) == (8, 0)
    assert TRUNK.settle({FORK.link(0, 8): VOTERS, Vote(FORK.at(8), TRUNK.at(24)): VOTERS}) == (24, 0), "8 is common"
    assert TRUNK.settle({FORK.link(0, 16): VOTERS, Vote(FORK.at(16), TRUNK.at(24)): VOTERS}) == (0, 0)


def test_when_voters_vanish_the_window_slides_until_the_rest_are_two_thirds() -> None:
    """A third that goes away stops finality for a window, not for ever."""
    line = Line((A, B, C) * 8 + (ATTACKER,) * 96)
    held = start_of_finality(line.at(0).hash)
    for target in range(8, 80, 8):
        assert line.settle({line.link(0, target): (ATTACKER,)}, held)[0] == (target if target >= 64 else 0)


def test_what_is_final_stays_final_without_votes() -> None:
    final = TRUNK.at(16)
    held = Finality(final, (final, TRUNK.at(24)))
    assert TRUNK.settle({}, held) == (24, 16)
    assert TRUNK.settle({TRUNK.link(24, 32): VOTERS}, held) == (32, 24)


def test_a_justified_checkpoint_of_an_abandoned_branch_does_not_count_until_it_is_back() -> None:
    held = Finality(TRUNK.at(8), (TRUNK.at(8), TRUNK.at(16)))
    assert FORK.settle({}, held) == (8, 8)
    again = compute_finality(held, {FORK.link(8, 16): VOTERS}, FORK, PARAMS)
    assert again.highest(FORK) == FORK.at(16)
    assert again.highest(TRUNK) == TRUNK.at(16)


# Fork choice


def test_a_branch_leaves_at_the_final_checkpoint_or_later() -> None:
    check_extends_final(16, TRUNK.at(16).hash, TRUNK.at(16))
    check_extends_final(17, TRUNK.at(17).hash, TRUNK.at(16))
    with pytest.raises(errors.ConflictsWithFinal, match="height 16"):
        check_extends_final(15, TRUNK.at(15).hash, TRUNK.at(16))


# Vectors

VECTORS = sorted((Path(__file__).parents[2] / "vectors" / "finality").glob("*.json"))


def run_vector(vector: dict[str, Any]) -> dict[str, Any]:
    """Answer a vector's question as `post` writes it."""
    pre, given = vector["pre"], vector["input"]
    params = FinalityParams(**pre["params"] | {"genesis_validators": tuple(map(bytes.fromhex, pre["validators"]))})
    if vector["kind"] == "vote":
        vote = decode_vote(bytes.fromhex(given["vote"]))
        check_form(vote, params)
        voter = recover_voter(vote, bytes.fromhex(given["signature"]), pre["chain_id"])
        return {"digest": vote_digest(vote, pre["chain_id"]).hex(), "voter": voter.hex()}
    if vector["kind"] == "pair":
        check_consistent(decode_vote(bytes.fromhex(given["second"])), [decode_vote(bytes.fromhex(given["first"]))])
        return {}
    if vector["kind"] == "fork":
        final = Checkpoint(pre["final"]["number"], bytes.fromhex(pre["final"]["hash"]))
        check_extends_final(given["number"], bytes.fromhex(given["hash"]), final)
        return {}
    coinbases = tuple(map(bytes.fromhex, pre["coinbases"]))
    line = Line(coinbases, params, pre["branch"], pre["fork"])
    votes: dict[Vote, list[bytes]] = {}
    for signed in given["votes"]:
        vote = decode_vote(bytes.fromhex(signed["vote"]))
        voter = recover_voter(vote, bytes.fromhex(signed["signature"]), pre["chain_id"])
        votes.setdefault(vote, []).append(voter)
    justified, final_number = line.settle(votes)
    return {"justified": justified, "final": final_number}


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_every_vector_on_disk(path: Path) -> None:
    vector = json.loads(path.read_text())
    if "post" in vector:
        assert run_vector(vector) == vector["post"]
    else:
        with pytest.raises(getattr(errors, vector["error"])) as caught:
            run_vector(vector)
        assert type(caught.value).__name__ == vector["error"]


def test_the_vectors_are_those_of_the_rules() -> None:
    expected = 1 + len(BAD_SIGNATURES) + len(WRONG_FORMS) + 2 * len(CONFLICTS) + len(CONSISTENT) + 2 + 5
    assert len(VECTORS) == expected
