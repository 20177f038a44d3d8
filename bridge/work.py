"""Bitcoin's proof of work as numbers: SHA256d, compact targets, retargeting. Source: Bitcoin Core, pow.cpp."""

from hashlib import sha256
from typing import Final

from bridge.errors import BadTarget
from bridge.params import RETARGET_SPAN_S, BitcoinParams

_SIGN: Final = 0x800000
_MANTISSA: Final = 0x7FFFFF


def sha256d(data: bytes) -> bytes:
    """SHA-256 twice; hashes stand in this order everywhere in `bridge` (people write them reversed)."""
    return sha256(sha256(data).digest()).digest()


def show_hash(value: bytes) -> str:
    """A block or transaction hash as people and bitcoind write it."""
    return value[::-1].hex()


def compact_to_target(bits: int) -> int:
    """The number that a compact form stands for.

    Raises:
        BadTarget: negative, zero, or above 256 bits.
    """
    size, mantissa = bits >> 24, bits & _MANTISSA
    if size <= 3:
        mantissa >>= 8 * (3 - size)
        target = mantissa
    else:
        target = mantissa << 8 * (size - 3)
    if not mantissa or bits & _SIGN or target >> 256:
        raise BadTarget("bits", f"{bits:#010x}", "a positive target below 2^256")
    return target


def target_to_compact(target: int) -> int:
    """The compact form, which keeps the first 23 bits or less and rounds down."""
    size = (target.bit_length() + 7) // 8
    mantissa = target << 8 * (3 - size) if size <= 3 else target >> 8 * (size - 3)
    if mantissa & _SIGN:
        mantissa >>= 8
        size += 1
    return size << 24 | mantissa


def check_target(params: BitcoinParams, bits: int) -> int:
    """The target of a header's bits.

    Raises:
        BadTarget: no target, or one easier than the network's limit.
    """
    target = compact_to_target(bits)
    if target > params.easiest_target:
        raise BadTarget("bits", f"{bits:#010x}", f"at most {params.easiest_bits:#010x}")
    return target


def compute_work(target: int) -> int:
    """Hashes that a block of this target takes on average."""
    return (1 << 256) // (target + 1)


def compute_retarget(params: BitcoinParams, bits: int, span_s: int) -> int:
    """The bits of the next period, from those that this one carries on and the seconds that it took."""
    if not params.retargets:
        return bits
    span_s = min(max(span_s, RETARGET_SPAN_S // 4), RETARGET_SPAN_S * 4)
    target = compact_to_target(bits) * span_s // RETARGET_SPAN_S
    return target_to_compact(min(target, params.easiest_target))
