"""hyperdust_finality: what votes have settled, who voted, and with what weight."""

from consensus.finality import Checkpoint
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.shapes import Json
from hyperdust.node.settled import SettledBlocks
from hyperdust.node.votes import SignedVote


def finality(request: Request) -> Json:
    """Checkpoints, the votes above the final one, and the committee that votes from the justified one."""
    settled = SettledBlocks(request.snapshot)
    answer: Json = {
        "justified": _place(settled.safe()),
        "final": _place(settled.finalized()),
        "votes": [],
        "weights": [],
        "total_weight": 0,
        "equivocations": [],
    }
    if request.backend.votes is None:
        return answer
    report = request.backend.votes.report()
    return answer | {
        "votes": [
            {"voter": shapes.data(voter), "source": _place(vote.source), "target": _place(vote.target)}
            for voter, vote in report.votes
        ],
        "weights": [
            {"voter": shapes.data(voter), "weight": weight} for voter, weight in report.committee.weights.items()
        ],
        "total_weight": report.committee.total,
        "equivocations": [
            {"voter": shapes.data(pair.voter), "first": _signed(pair.first), "second": _signed(pair.second)}
            for pair in report.equivocations
        ],
    }


def _signed(signed: SignedVote) -> Json:
    return {
        "source": _place(signed.vote.source),
        "target": _place(signed.vote.target),
        "signature": shapes.data(signed.signature),
    }


def _place(place: Checkpoint) -> Json:
    return {"block": place.number, "hash": shapes.data(place.hash)}
