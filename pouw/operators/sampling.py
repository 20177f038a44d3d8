"""From scores to a token: the largest, or a draw that anyone can repeat."""

import numpy as np

from chain.hashing import H
from pouw.operators.arithmetic import Int16, Int32, Int64, round_shift

TEMPERATURE_BITS = 16
TEMPERATURE_MAX = 2**24
SHARE_BITS = 16
INDEX_BITS = 20
VOCABULARY_MAX = 1 << INDEX_BITS  # sums of weights stay below 2^35
LAST_INDEX = VOCABULARY_MAX - 1


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
    a graph that can be registered has at most 15,871 entries in a row. Longer rows: `candidates`, then `draw`.
    """
    first = so_far.shape[0] - logits.shape[0]
    drawn = [sample_row(row, int(seed[0]), first + i, table, temperature, top_k, top_p) for i, row in enumerate(logits)]
    return np.array(drawn, dtype=np.int32)


def sample_row(row: Int32, seed: int, position: int, table: Int16, temperature: int, top_k: int, top_p: int) -> int:
    """Return the index that `sample` draws from one row. row: int32[n]."""
    t = round_shift(row.astype(np.int64) * temperature, TEMPERATURE_BITS)  # (n,)
    order = np.argsort(-t, kind="stable")[:top_k]
    return int(order[_place(t[order], seed, position, table, top_p)])


def candidates(logits: Int32, temperature: int, segment: int, count: int) -> Int64:
    """Return the keys of each segment's most likely entries, the largest key first.

    logits: int32[m, n] -> int64[m, ceil(n / segment) * count]. A segment is `segment` entries of a row, the last one
    what is left; none holds fewer than `count`.
    `t` as for `sample`; key = t * 2^20 + 2^20 - 1 - index, so that the order of `sample` (t descending, index
    ascending) is the keys' descending order, and no two keys of a row are equal. |t| <= 2^39, |key| < 2^60.
    One element: its segment.
    """
    n = logits.shape[1]
    t = round_shift(logits.astype(np.int64) * temperature, TEMPERATURE_BITS)
    keys = (t << INDEX_BITS) + (LAST_INDEX - np.arange(n))  # (m, n)
    parts = [-np.sort(-keys[:, start : start + segment], axis=1)[:, :count] for start in range(0, n, segment)]
    found: Int64 = np.concatenate(parts, axis=1)
    return found


def draw(keys: Int64, seed: Int32, so_far: Int32, table: Int16, top_k: int, top_p: int) -> Int32:
    """Return one index for each row, drawn among its candidates as `sample` draws among its entries.

    keys: int64[m, c] of `candidates`, in any order -> int32[m]; seed, so_far, table and top_p as for `sample`.
    The keys' descending order is the canonical one; its first top_k stay, t = floor(key / 2^20), index = 2^20 - 1 -
    key mod 2^20; then steps 3 and 4. Any int64 is a key: differences of t are below 2^44.
    Where each segment gave at least top_k candidates, the value is that of `sample` on the whole row: the first top_k
    of a row are among the first top_k of their segments.
    One element: one row of keys, the seed, the table.
    """
    first = so_far.shape[0] - keys.shape[0]
    drawn = [draw_row(row, int(seed[0]), first + i, table, top_k, top_p) for i, row in enumerate(keys)]
    return np.array(drawn, dtype=np.int32)


def draw_row(row: Int64, seed: int, position: int, table: Int16, top_k: int, top_p: int) -> int:
    """Return the index that `draw` draws from one row. row: int64[c]."""
    order: Int64 = np.sort(row)[::-1][:top_k]
    place = _place(order >> INDEX_BITS, seed, position, table, top_p)
    return LAST_INDEX - (int(order[place]) & LAST_INDEX)


def _place(t: Int64, seed: int, position: int, table: Int16, top_p: int) -> int:
    """Return which of the first top_k is drawn. t: int64[k], descending."""
    below = t[0] - t  # (k,), >= 0
    weights: Int64 = table[below & 1023].astype(np.int64) >> np.minimum(below >> 10, 31)
    sums = np.cumsum(weights)  # (k,)
    kept = int(np.argmax((sums << SHARE_BITS) >= int(sums[-1]) * top_p)) + 1
    digest = H("sample", seed.to_bytes(4, "little", signed=True), (position % 2**32).to_bytes(4, "little"))
    target = int.from_bytes(digest[:8], "little") * int(sums[kept - 1]) >> 64
    return int(np.argmax(sums[:kept] > target))
