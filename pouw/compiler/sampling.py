"""How a decoder draws from its scores: which operators, so that the court could judge each of their elements.

Up to 15,871 tokens `sample` reads the whole row. A longer row is cut into segments: `candidates`, then `draw` (ADR 17).
"""

from math import isqrt

from pouw.compiler.llama_options import SizeOutOfRange
from pouw.operators.attention import WEIGHT_TABLE_SIZE
from pouw.operators.elements import LEAF_BYTES_MAX

SCORE_BYTES, KEY_BYTES = 4, 8
BESIDE_BYTES = 4 + 2 * WEIGHT_TABLE_SIZE  # the seed and the table of weights
SAMPLE_MAX = (LEAF_BYTES_MAX - BESIDE_BYTES) // SCORE_BYTES  # 15,871 tokens
SEGMENT_MAX = LEAF_BYTES_MAX // SCORE_BYTES  # 16,384 tokens
CANDIDATES_MAX = (LEAF_BYTES_MAX - BESIDE_BYTES) // KEY_BYTES  # 7,935 of all segments together


def choose_segment(vocabulary: int, top_k: int) -> int:
    """Return the entries of a segment for which the larger of the two proofs is about the least.

    A proof of `candidates` opens 4 * vocabulary / segments bytes, one of `draw` 8 * top_k * segments.

    Raises:
        SizeOutOfRange: the candidates of all segments are more than a proof holds.
    """
    fewest, most = -(-vocabulary // SEGMENT_MAX), CANDIDATES_MAX // top_k
    if fewest > most:
        raise SizeOutOfRange("top_k", top_k, f"at most {CANDIDATES_MAX // fewest} where there are {vocabulary} tokens")
    segments = min(max(isqrt(vocabulary // (2 * top_k)), fewest), most)
    return -(-vocabulary // segments)
