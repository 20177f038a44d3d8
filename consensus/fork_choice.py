"""Which of two valid chains a node follows: the heaviest that extends its final checkpoint, the first seen on a tie."""

from consensus.errors import ConflictsWithFinal
from consensus.finality import Checkpoint


def is_heavier(total_difficulty: int, head_total_difficulty: int) -> bool:
    """Whether a chain replaces the present head's. Source: protocol.md, Fork choice and finality, rule 1."""
    return total_difficulty > head_total_difficulty


def check_extends_final(fork_number: int, fork_hash: bytes, final: Checkpoint) -> None:
    """Check that a branch leaves the followed chain, which holds the final checkpoint, at that checkpoint or later.

    `fork_number` and `fork_hash` name the last block that both have in common.

    Raises:
        ConflictsWithFinal: however heavy the branch is.
    """
    if fork_number < final.number:
        raise ConflictsWithFinal(
            f"ancestor at height {final.number} (branch leaves at {fork_number})", fork_hash, final.hash
        )
