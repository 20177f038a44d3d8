"""Writes the finality vectors from the rules' own tests, when a rule changes: python -m tests.vectors.finality.make."""

import json
from dataclasses import asdict
from pathlib import Path

from consensus.errors import BadVoteSignature, ConflictsWithFinal, WrongCheckpoint
from consensus.finality import sign_vote, vote_digest
from tests.unit.consensus.test_finality import (
    ATTACKER,
    BAD_SIGNATURES,
    CHAIN_ID,
    CONFLICTS,
    CONSISTENT,
    GOOD,
    KEYS,
    PARAMS,
    TRUNK,
    VOTE,
    VOTERS,
    WRONG_FORMS,
    A,
    B,
    C,
    Line,
)

HERE = Path(__file__).parent
PRE = {
    "chain_id": CHAIN_ID,
    "params": {name: value for name, value in asdict(PARAMS).items() if name != "genesis_validators"},
    "validators": [validator.hex() for validator in PARAMS.genesis_validators],
}


def write(name, kind, given, post=None, error=None, **pre):
    vector = {"kind": kind, "pre": PRE | pre, "input": given}
    vector |= {"error": error.__name__} if error else {"post": post}
    (HERE / f"{name}.json").write_text(json.dumps(vector, indent=1) + "\n")


def settle(name, line, votes, post):
    signed = [
        {"vote": vote.encode().hex(), "signature": sign_vote(vote, CHAIN_ID, KEYS[VOTERS.index(voter)]).hex()}
        for vote, voters in votes.items()
        for voter in voters
    ]
    coinbases = [coinbase.hex() for coinbase in line.coinbases]
    pre = {"branch": line.branch, "fork": line.fork, "coinbases": coinbases}
    justified, final = post
    write(f"settle_{name}", "settle", {"votes": signed}, {"justified": justified, "final": final}, **pre)


def write_all():
    vote = {"vote": VOTE.encode().hex(), "signature": GOOD.hex()}
    write("vote_accepted", "vote", vote, {"digest": vote_digest(VOTE, CHAIN_ID).hex(), "voter": A.hex()})
    for name, signature in BAD_SIGNATURES.items():
        write(f"vote_rejected_{name}", "vote", vote | {"signature": signature.hex()}, error=BadVoteSignature)
    for name, wrong in WRONG_FORMS.items():
        signature = sign_vote(wrong, CHAIN_ID, KEYS[0])
        given = {"vote": wrong.encode().hex(), "signature": signature.hex()}
        write(f"vote_rejected_{name}", "vote", given, error=WrongCheckpoint)
    for name, (one, other, rule) in CONFLICTS.items():
        pair = {"first": one.encode().hex(), "second": other.encode().hex()}
        write(f"pair_rejected_{name}", "pair", pair, error=rule)
        turned = {"first": pair["second"], "second": pair["first"]}
        write(f"pair_rejected_{name}_reversed", "pair", turned, error=rule)
    for name, (one, other) in CONSISTENT.items():
        write(f"pair_accepted_{name}", "pair", {"first": one.encode().hex(), "second": other.encode().hex()}, {})
    final = {"final": {"number": 16, "hash": TRUNK.at(16).hash.hex()}}
    write("fork_accepted_at_the_final_checkpoint", "fork", {"number": 16, "hash": TRUNK.at(16).hash.hex()}, {}, **final)
    below = {"number": 15, "hash": TRUNK.at(15).hash.hex()}
    write("fork_rejected_below_the_final_checkpoint", "fork", below, error=ConflictsWithFinal, **final)
    two = {TRUNK.link(0, 8): (A, B), TRUNK.link(8, 16): (A, C)}
    settle("two_links_make_final", TRUNK, two, (16, 8))
    settle("one_link_makes_nothing_final", TRUNK, {TRUNK.link(0, 16): (A, B, C)}, (16, 0))
    settle("less_than_two_thirds", TRUNK, {TRUNK.link(0, 8): (A,), TRUNK.link(8, 16): (B,)}, (0, 0))
    settle("a_skipped_epoch", TRUNK, {TRUNK.link(0, 8): (A, B), TRUNK.link(8, 24): (A, B)}, (24, 0))
    fork = Line((A, B, C) * 8 + (ATTACKER,) * 60, branch="fork", fork=24)
    his = {fork.link(24, 72): (ATTACKER,), fork.link(72, 80): (ATTACKER,)}
    settle("an_attackers_window_on_a_lighter_fork", TRUNK, two | {TRUNK.link(16, 24): (A, C)} | his, (24, 16))


if __name__ == "__main__":
    write_all()
