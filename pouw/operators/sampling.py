"""From scores to a token: the largest, or a draw that anyone can repeat."""

import numpy as np

from chain.hashing import H
from pouw.operators.arithmetic import Int16, Int32, Int64, round_shift

TEMPERATURE_BITS = 16
TEMPERATURE_MAX = 2**24
SHARE_BITS = 16
VOCABULARY_MAX = 2**20  # sums of weights stay below 2^35


def argmax(x: Int32) -> Int32:
    """Return the index of each row's largest entry, the lowest one on ties. x: int32[m, n] -> int32[m].

    No arithmetic. One element: one row. In a dispute a witness refutes it: a larger entry, or an equal one before it.
    """
    largest: Int32 = x.argmax(axis=1).astype(np.int32)
    return largest


def sample(logits: Int32, seed: Int32, so_far: Int32, table: Int16, temperature: int, top_k: int, top_p: int) -> Int32:
    """Return one index for each row, drawn with weight 2^(logit / temperature) among the most likely.

    logits: int32[m, n] log2-domain Q.10, seed: int32[1], so_far: int32[p] (only its length counts), table: int16[1024]
    as for softmax -> int32[m]. `temperature` = round(2^16 / T), `top_p` = round(2^16 * share).
    1. `t = rsh(logit * temperature, 16)`; canonical order: t descending, index ascending. |product| < 2^55.
    2. The first top_k of the order stay, with weight `table[d & 1023] >> min(d >> 10, 31)`, d = t[first] - t.
    3. Of these the shortest prefix stays whose sum * 2^16 >= the sum of all * top_p; below 2^52.
    4. `u` = the first 8 bytes, little-endian, of H("sample", seed i32, position u32), position = p - m + row;
       `target = floor(u * sum of the prefix / 2^64)`; the first whose running sum exceeds the target is drawn.
    The first weight is 2^15 - 1 for a table of softmax; if all weights of the prefix are 0, the first index is drawn.
    One element: one row of logits, the seed, the table. A draw depends on all of them, so that no witness is shorter:
    a graph that can be registered has at most 15,871 entries in a row.
    """
    drawn = [
        _draw(row, int(seed[0]), so_far.shape[0] - logits.shape[0] + i, table, (temperature, top_k, top_p))
        for i, row in enumerate(logits.astype(np.int64))
    ]
    return np.array(drawn, dtype=np.int32)


def _draw(row: Int64, seed: int, position: int, table: Int16, attributes: tuple[int, int, int]) -> int:
    temperature, top_k, top_p = attributes
    t = round_shift(row * temperature, TEMPERATURE_BITS)  # (n,)
    order = np.argsort(-t, kind="stable")[:top_k]
    below = t[order[0]] - t[order]  # (k,), >= 0
    weights: Int64 = table[below & 1023].astype(np.int64) >> np.minimum(below >> 10, 31)
    sums = np.cumsum(weights)  # (k,)
    kept = int(np.argmax((sums << SHARE_BITS) >= int(sums[-1]) * top_p)) + 1
    digest = H("sample", seed.to_bytes(4, "little", signed=True), (position % 2**32).to_bytes(4, "little"))
    target = int.from_bytes(digest[:8], "little") * int(sums[kept - 1]) >> 64
    return int(order[int(np.argmax(sums[:kept] > target))])
