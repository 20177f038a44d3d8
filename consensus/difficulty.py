"""How hard the next block is: ASERT, an exponential schedule anchored at genesis, in integers."""

from typing import Final

from chain.params import ChainParams

# 2^x for x in [0, 1) as a cubic in 16-bit fixed point; largest error 0.013 %.
# Source: aserti3-2d, Bitcoin Cash specification 2020-11-15.
_CUBIC: Final = (195_766_423_245_049, 971_821_376, 5_127)
_RADIX: Final = 1 << 16
_MAX_TARGET: Final = (1 << 256) - 1
_MAX_SHIFT: Final = 512  # beyond, the target is at a bound whatever the exponent


def compute_difficulty(params: ChainParams, parent_number: int, parent_timestamp: int) -> int:
    """Difficulty, in int8 MACs, of the block after a parent: never below the network's floor.

    On schedule (`spacing_s` per block since genesis) it stays at the anchor's; one half-life late halves it.
    """
    delay = parent_timestamp - params.genesis_timestamp - params.spacing_s * parent_number
    exponent = (delay * _RADIX) // params.asert_half_life_s
    shift, fraction = exponent >> 16, exponent & (_RADIX - 1)
    if shift > _MAX_SHIFT:
        return params.difficulty_floor
    a, b, c = _CUBIC
    factor = _RADIX + ((a * fraction + b * fraction**2 + c * fraction**3 + (1 << 47)) >> 48)
    anchor_target = (1 << 256) // params.difficulty_floor
    scaled = anchor_target * factor
    target = (scaled << shift if shift >= 0 else scaled >> min(-shift, _MAX_SHIFT)) >> 16
    return max(params.difficulty_floor, (1 << 256) // min(max(target, 1), _MAX_TARGET))
