"""The operators in torch, bit-equal to `pouw/operators`: int64 elementwise, products as `Products` says.

Functions take and return tensors of one device. Values that an operator refuses are looked for before they get here.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from pouw.backends.reference import SLICE
from pouw.operators.activation import TABLE_SIZE
from pouw.operators.arithmetic import INT16_MAX, INT32_MAX
from pouw.operators.embedding import check_positions
from pouw.operators.linear import QUANTIZE_BITS
from pouw.operators.norm import L2_INPUT_MAX, NORM_INPUT_MAX, scaled_root
from pouw.operators.sampling import INDEX_BITS, LAST_INDEX, TEMPERATURE_BITS

torch: Any = import_module("torch")  # an extra: its types are not there where mypy runs
T = Any
Kernel = Callable[..., T]
ROOT_MAX = 3_037_000_499  # the largest r with r * r < 2^63


def round_shift(x: T, n: int) -> T:
    """Return floor((x + 2^(n-1)) / 2^n)."""
    return (x + (1 << (n - 1))) >> n


def clamp16(x: T, limit: int = INT16_MAX) -> T:
    """Return x within +-limit as int16."""
    return x.clamp(-limit, limit).to(torch.int16)


def floor_divide(x: T, y: T | int) -> T:
    """Return floor(x / y): integer division, on any device."""
    return torch.div(x, y, rounding_mode="floor")


def floor_root(x: T) -> T:
    """Return the largest r with r * r <= x: float64's root is off by one at most, below 2^63."""
    root = x.to(torch.float64).sqrt().to(torch.int64).clamp(max=ROOT_MAX)
    root = root - (root * root > x).to(torch.int64)
    above = root + 1
    return torch.where((above <= ROOT_MAX) & (above * above <= x), above, root)


def embedding(ids: T, table: T) -> T:
    """See `pouw.operators.embedding.embedding`."""
    return table.index_select(0, ids.to(torch.int64))


def add_positions(x: T, table: T) -> T:
    """See `pouw.operators.embedding.add_positions`."""
    check_positions(x.shape[0], table.shape[0])
    return x.to(torch.int32) + table[: x.shape[0]].to(torch.int32)


def row_maximum(x: T, factors: T) -> T:
    """See `pouw.operators.linear.row_maximum`; 2^23 at most, so int32 holds it."""
    return (x.to(torch.int32) * factors.to(torch.int32)).abs().amax(dim=1).clamp(min=1)


def quantize(x: T, maximum: T, factors: T, q_max: int) -> T:
    """See `pouw.operators.linear.quantize`."""
    reciprocal = floor_divide(torch.full_like(maximum, 1, dtype=torch.int64) * (q_max << QUANTIZE_BITS), maximum)
    wide = (x.to(torch.int32) * factors.to(torch.int32)).to(torch.int64) * reciprocal[:, None]
    return round_shift(wide, QUANTIZE_BITS).clamp(-q_max, q_max).to(torch.int8)


def rescale(product: T, maximum: T, multipliers: T, bias: T, shift: int, limit: int) -> T:
    """See `pouw.operators.linear.rescale`."""
    wide = product.to(torch.int64) * maximum.to(torch.int64)[:, None] * multipliers.to(torch.int64)
    return clamp16(round_shift(wide, shift) + bias.to(torch.int64), limit)


def add(x: T, y: T) -> T:
    """See `pouw.operators.linear.add`."""
    return x.to(torch.int32) + y.to(torch.int32)


def layer_norm(v: T, gamma: T, beta: T) -> T:
    """See `pouw.operators.norm.layer_norm`."""
    n = v.shape[1]
    wide = v.to(torch.int64).clamp(-NORM_INPUT_MAX, NORM_INPUT_MAX)
    centered = n * wide - wide.sum(dim=1, keepdim=True)  # (m, n)
    root = floor_root((centered * centered).sum(dim=1)).clamp(min=1)
    reciprocal = floor_divide(torch.full_like(root, scaled_root(n)), root)
    y = round_shift(centered * reciprocal[:, None], 26)
    return clamp16(round_shift(y * gamma.to(torch.int64) + beta.to(torch.int64), 16))


def _heads(x: T, heads: int, head_size: int, offset: int) -> T:
    part = x[:, offset : offset + heads * head_size].to(torch.float64)
    return part.reshape(x.shape[0], heads, head_size).transpose(0, 1)  # (heads, n, head_size)


def attention_scores(
    queries: T, keys: T, heads: int, head_size: int, query_offset: int, key_offset: int, shift: int
) -> T:
    """See `pouw.operators.attention.attention_scores`; sums below 2^43 are exact in float64, in any order."""
    q = _heads(queries, heads, head_size, query_offset)
    k = _heads(keys, heads, head_size, key_offset)
    dots = torch.bmm(q, k.transpose(1, 2)).to(torch.int64)
    return round_shift(dots, shift).clamp(-INT32_MAX, INT32_MAX).to(torch.int32)


def softmax_weights(scores: T, table: T) -> T:
    """See `pouw.operators.attention.softmax_weights`."""
    wide = scores.to(torch.int64)
    below = wide.amax(dim=2, keepdim=True) - wide
    return (table.to(torch.int64)[below & 1023] >> (below >> 10).clamp(max=31)).to(torch.int16)


def attention_mix(weights: T, values: T, head_size: int, value_offset: int) -> T:
    """See `pouw.operators.attention.attention_mix`; sums below 2^30 * n are exact in float64, in any order."""
    heads, m, _ = weights.shape
    mixed = torch.bmm(weights.to(torch.float64), _heads(values, heads, head_size, value_offset)).to(torch.int64)
    total = weights.to(torch.int64).sum(dim=2).clamp(min=1)
    reciprocal = floor_divide(torch.full_like(total, 1 << 40), total)
    y = clamp16(round_shift(mixed * reciprocal[:, :, None], 40))
    return y.transpose(0, 1).reshape(m, heads * head_size)


def transpose_columns(x: T, offset: int, count: int) -> T:
    """See `pouw.operators.decoder.transpose_columns`."""
    return x[:, offset : offset + count].t().contiguous()


def grouped_mix(weights: T, values_transposed: T, kv_heads: int) -> T:
    """See `pouw.operators.causal.grouped_mix`; sums below 2^30 * n are exact in float64, in any order."""
    heads, m, n = weights.shape
    grouped = values_transposed.to(torch.float64).reshape(kv_heads, -1, n)
    v = grouped.repeat_interleave(heads // kv_heads, dim=0)  # (heads, head_size, n)
    mixed = torch.bmm(weights.to(torch.float64), v.transpose(1, 2)).to(torch.int64)
    total = weights.to(torch.int64).sum(dim=2).clamp(min=1)
    reciprocal = floor_divide(torch.full_like(total, 1 << 40), total)
    y = clamp16(round_shift(mixed * reciprocal[:, :, None], 40))
    return y.transpose(0, 1).reshape(m, -1)


def lookup(x: T, table: T) -> T:
    """See `pouw.operators.activation.lookup`."""
    half = TABLE_SIZE // 2
    wide = x.to(torch.int32)
    inside = table[(wide + half).clamp(0, TABLE_SIZE - 1)]
    return torch.where(x < -half, torch.zeros_like(x), torch.where(x >= half, x, inside))


def mean_pool(x: T, fraction_bits: int) -> T:
    """See `pouw.operators.norm.mean_pool`."""
    rows = x.shape[0]
    total = x.to(torch.int64).sum(dim=0)
    return floor_divide((total << (fraction_bits + 1)) + rows, 2 * rows).to(torch.int32)


def l2_normalize(v: T) -> T:
    """See `pouw.operators.norm.l2_normalize`."""
    wide = v.to(torch.int64).clamp(-L2_INPUT_MAX, L2_INPUT_MAX)
    root = floor_root((wide * wide).sum()).clamp(min=1)
    return clamp16(round_shift(wide * floor_divide(torch.full_like(root, 1 << 46), root), 31))


def candidates(logits: T, temperature: int, segment: int, count: int) -> T:
    """See `pouw.operators.sampling.candidates`; no key is as low as what fills the last segment."""
    m, n = logits.shape
    t = round_shift(logits.to(torch.int64) * temperature, TEMPERATURE_BITS)
    keys = (t << INDEX_BITS) + (LAST_INDEX - torch.arange(n, device=logits.device))  # (m, n)
    filled = torch.nn.functional.pad(keys, (0, -n % segment), value=-(2**63))
    found = torch.topk(filled.reshape(m, -1, segment), count, dim=2)  # (m, segments, count), descending
    return found.values.reshape(m, -1)


KERNELS: dict[str, Kernel] = {
    "embedding": embedding,
    "add_positions": add_positions,
    "row_maximum": row_maximum,
    "quantize": quantize,
    "rescale": rescale,
    "add": add,
    "layer_norm": layer_norm,
    "attention_scores": attention_scores,
    "softmax_weights": softmax_weights,
    "attention_mix": attention_mix,
    "transpose_columns": transpose_columns,
    "grouped_mix": grouped_mix,
    "lookup": lookup,
    "mean_pool": mean_pool,
    "l2_normalize": l2_normalize,
    "candidates": candidates,
}


def matmul_int8(a: T, b_transposed: T) -> T:
    """Return a @ b through the int8 units; the device's shapes are met by padding with zeros."""
    m, k = a.shape
    n = b_transposed.shape[0]
    rows = columns = depth = 0
    if a.device.type == "cuda":  # more than 16 rows; k and n multiples of 8
        rows, depth, columns = max(m, 17) - m, -k % 8, -n % 8
    elif k == 1:  # torch 2.13 leaves columns of the output as they were
        depth = 7
    if rows or depth:
        a = torch.nn.functional.pad(a, (0, depth, 0, rows))
    if columns or depth:
        b_transposed = torch.nn.functional.pad(b_transposed, (0, depth, 0, columns))
    return torch._int_mm(a, b_transposed.t())[:m, :n]  # noqa: SLF001 - the only int8 product that torch has


def matmul_float32(a: T, b_transposed: T) -> T:
    """Return a @ b by slices whose sums float32 holds exactly. CPU only: a GPU's float32 may be narrower."""
    total = torch.zeros((a.shape[0], b_transposed.shape[0]), dtype=torch.int32, device=a.device)
    for start in range(0, a.shape[1], SLICE):
        left = a[:, start : start + SLICE].to(torch.float32)
        right = b_transposed[:, start : start + SLICE].to(torch.float32)
        total += (left @ right.t()).to(torch.int32)
    return total


def matmul_float64(a: T, b_transposed: T) -> T:
    """Return a @ b; every sum is below 2^31."""
    return (a.to(torch.float64) @ b_transposed.to(torch.float64).t()).to(torch.int32)


PRODUCTS: dict[str, tuple[Kernel, ...]] = {
    "cpu": (matmul_int8, matmul_float32, matmul_float64),
    "cuda": (matmul_int8, matmul_float64),
}
