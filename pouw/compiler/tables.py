"""Lookup tables, made with integers alone, so that every machine makes the same bytes."""

from math import isqrt

import numpy as np

from pouw.operators.activation import TABLE_SIZE
from pouw.operators.arithmetic import Int16
from pouw.operators.attention import WEIGHT_TABLE_SIZE

GUARD_BITS = 128  # the series below loses fewer than 64 of them at |x| = 8


def gelu_table() -> Int16:
    """Return round(x * Phi(x)) in Q.10 for x in [-8, 8) in steps of 2^-10: int16[16384].

    Phi(x) = 1/2 + density(x) * (x + x^3/3 + x^5/15 + ...), here as x * sum((-x^2/2)^i / (i! (2i + 1))) / sqrt(2 pi).
    """
    half = TABLE_SIZE // 2
    root = _inverse_root_two_pi()
    values = [0] * TABLE_SIZE
    for i in range(half + 1):
        # x Phi(x) = x / 2 + x * odd, with odd = Phi(x) - 1/2 >= 0 for x = i / 1024
        odd = (i * _series(i) * root) >> (GUARD_BITS + 10)
        above = i * ((1 << (GUARD_BITS - 1)) + odd)
        below = i * (odd - (1 << (GUARD_BITS - 1)))  # the value at -x: -x * (1/2 - odd)
        if i < half:
            values[half + i] = _round(above)
        values[half - i] = _round(below)
    return np.array(values, dtype=np.int16)


def power_table() -> Int16:
    """Return min(2^15 - 1, round(2^15 * 2^(-i / 1024))): int16[1024]."""
    one = 1 << GUARD_BITS
    step = one << GUARD_BITS >> 1  # 2^-1; ten square roots give 2^(-1/1024)
    step = isqrt(step)
    for _ in range(9):
        step = isqrt(step << GUARD_BITS)
    values = []
    power = one
    for _ in range(WEIGHT_TABLE_SIZE):
        values.append(min(2**15 - 1, ((power >> (GUARD_BITS - 16)) + 1) >> 1))
        power = power * step >> GUARD_BITS
    return np.array(values, dtype=np.int16)


def _series(i: int) -> int:
    """Return sum over j of (-x^2 / 2)^j / (j! (2j + 1)) for x = i / 1024, scaled by 2^GUARD_BITS."""
    square = i * i  # x^2 / 2 = square / 2^21
    term = 1 << GUARD_BITS
    total, j = 0, 0
    while term:
        total += (term if j % 2 == 0 else -term) // (2 * j + 1)
        j += 1
        term = term * square // (j << 21)
    return total


def _inverse_root_two_pi() -> int:
    """Return 1 / sqrt(2 pi), scaled by 2^GUARD_BITS."""
    # Machin: pi = 16 atan(1/5) - 4 atan(1/239)
    bits = 2 * GUARD_BITS + 16
    pi = 16 * _arctangent(5, bits) - 4 * _arctangent(239, bits)
    return isqrt((1 << (bits + 2 * GUARD_BITS)) // (2 * pi))


def _arctangent(inverse: int, bits: int) -> int:
    total, power, j = 0, (1 << bits) // inverse, 0
    while power:
        total += (power if j % 2 == 0 else -power) // (2 * j + 1)
        power //= inverse * inverse
        j += 1
    return total


def _round(value: int) -> int:
    return (value + (1 << (GUARD_BITS - 1))) >> GUARD_BITS
