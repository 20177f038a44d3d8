"""The rules of `headers` for thousands of headers at once: says yes or nothing; the reason is for `headers` to say."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from bridge.headers import Context, Header, compute_bits, split_headers
from bridge.params import MAX_FUTURE_S, MEDIAN_BLOCKS, RETARGET_BLOCKS, BitcoinParams
from bridge.work import check_target, compute_work, sha256d

_LAYOUT: Final = np.dtype(
    [
        ("version", "<i4"),
        ("parent", "<u8", 4),
        ("root", "<u8", 4),
        ("timestamp", "<u4"),
        ("bits", "<u4"),
        ("nonce", "<u4"),
    ]
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Headers that keep every rule on the context that they were checked on."""

    hashes: tuple[bytes, ...]
    works: tuple[int, ...]
    """Cumulative, one for each header."""
    context: Context
    """For the header after the last."""


def try_batch(params: BitcoinParams, context: Context, raw: bytes, now: int) -> Batch | None:
    """All of `raw` on `context`, or None: a rule is broken, or these headers are not for the fast way.

    Not for the fast way: networks with exceptions for late blocks, and the first eleven blocks of a chain.
    """
    if params.min_difficulty or params.bip94 or len(context.timestamps) < MEDIAN_BLOCKS or not raw:
        return None
    headers = split_headers(raw)
    hashes = [sha256d(header) for header in headers]
    table = np.frombuffer(raw, _LAYOUT)
    words = np.frombuffer(b"".join(hashes), "<u8").reshape(-1, 4)
    stamps = np.concatenate([np.array(context.timestamps, np.int64), table["timestamp"].astype(np.int64)])
    if not (
        headers[0][4:36] == context.parent_hash
        and np.array_equal(table["parent"][1:], words[:-1])
        and int(stamps[MEDIAN_BLOCKS:].max()) <= now + MAX_FUTURE_S
        and _after_medians(stamps)
        and _versions_fit(params, context.height, table["version"])
    ):
        return None
    works: list[int] = []
    start = 0
    while start < len(headers):
        height = context.height
        end = min(len(headers), start + RETARGET_BLOCKS - height % RETARGET_BLOCKS)
        bits = compute_bits(params, context, int(stamps[MEDIAN_BLOCKS + start]))
        target = check_target(params, bits)
        if (table["bits"][start:end] != bits).any() or not _below(target, words[start:end], hashes[start:end]):
            return None
        work = compute_work(target)
        works.extend(range(context.work + work, context.work + (end - start) * work + 1, work))
        last = Header.decode(headers[end - 1])
        context = Context(
            height + end - start,
            last,
            hashes[end - 1],
            tuple(stamps[end : end + MEDIAN_BLOCKS].tolist()),
            Header.decode(headers[start]) if height % RETARGET_BLOCKS == 0 else context.period_first,
            bits,
            works[-1],
        )
        start = end
    return Batch(tuple(hashes), tuple(works), context)


def _after_medians(stamps: npt.NDArray[np.int64]) -> bool:
    """Whether every stamp but the first eleven lies after the median of the eleven before it."""
    new = stamps[MEDIAN_BLOCKS:]
    latest = stamps[:-MEDIAN_BLOCKS]
    for shift in range(1, MEDIAN_BLOCKS):
        latest = np.maximum(latest, stamps[shift : len(stamps) - MEDIAN_BLOCKS + shift])
    unclear = np.flatnonzero(new <= latest)  # above the maximum is above the median
    windows = stamps[unclear[:, None] + np.arange(MEDIAN_BLOCKS)]  # (unclear, 11)
    medians = np.sort(windows, axis=1)[:, MEDIAN_BLOCKS // 2]
    return bool((new[unclear] > medians).all())


def _versions_fit(params: BitcoinParams, height: int, versions: npt.NDArray[np.int32]) -> bool:
    starts = ((params.bip34_height, 2), (params.bip66_height, 3), (params.bip65_height, 4))
    return all(bool((versions[max(0, start - height) :] >= least).all()) for start, least in starts)


def _below(target: int, words: npt.NDArray[np.uint64], hashes: list[bytes]) -> bool:
    """Whether every hash is at most `target`; the top word decides all but one in 2^30."""
    unclear = np.flatnonzero(words[:, 3] >= target >> 192).tolist()
    return all(int.from_bytes(hashes[index], "little") <= target for index in unclear)
