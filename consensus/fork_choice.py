"""Which of two valid chains a node follows: most cumulative difficulty, the first seen on a tie."""


def is_heavier(total_difficulty: int, head_total_difficulty: int) -> bool:
    """Whether a chain replaces the present head's. Source: protocol.md, Fork choice and finality, rule 1."""
    return total_difficulty > head_total_difficulty
