"""Tables of a decoder, in correctly rounded decimal arithmetic: every machine makes the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal, localcontext

import numpy as np

from pouw.compiler.tables import gelu_table
from pouw.operators.activation import TABLE_SIZE
from pouw.operators.arithmetic import Int16
from pouw.operators.decoder import ROTATION_BITS

DIGITS = 50  # a product of 2^24 rotations loses fewer than 10 of them
PI = Decimal("3.14159265358979323846264338327950288419716939937510582")


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How a model slows its rotations down for texts longer than those it was first trained on."""

    factor: Decimal
    """Frequencies are divided by it."""
    low: Decimal = Decimal(0)
    """With `original`: a turn longer than original / low positions is slowed in full (Llama 3)."""
    high: Decimal = Decimal(0)
    """With `original`: a turn shorter than original / high positions is left alone."""
    original: int = 0
    """Positions of the first training; 0: all frequencies are divided alike."""


def silu_table() -> Int16:
    """Return round(x / (1 + e^-x)) in Q.10 for x in [-8, 8) in steps of 2^-10: int16[16384]."""
    half = TABLE_SIZE // 2
    values = [0] * TABLE_SIZE
    with localcontext(Context(prec=DIGITS)):
        step = (Decimal(1) / 1024).exp()
        power = Decimal(1)  # e^(i / 1024)
        for i in range(half + 1):
            above = i * power / (1 + power)
            if i < half:
                values[half + i] = _round(above)
            values[half - i] = _round(above - i)
            power *= step
    return np.array(values, dtype=np.int16)


def activation_table(name: str) -> Int16:
    """Return an activation in Q.10 for x in [-8, 8) in steps of 2^-10: int16[16384]."""
    if name == "silu":
        return silu_table()
    if name == "gelu":
        return gelu_table()
    if name == "gelu_tanh":
        return gelu_tanh_table()
    return np.maximum(np.arange(-TABLE_SIZE // 2, TABLE_SIZE // 2), 0).astype(np.int16)  # relu


def gelu_tanh_table() -> Int16:
    """Return round(x / (1 + e^-2z)), z = sqrt(2 / pi) * (x + 0.044715 x^3), in Q.10: int16[16384]."""
    half = TABLE_SIZE // 2
    values = [0] * TABLE_SIZE
    with localcontext(Context(prec=DIGITS)):
        root, cubic = (2 / PI).sqrt(), Decimal("0.044715")
        for i in range(half + 1):
            x = Decimal(i) / 1024
            power = (2 * root * (x + cubic * x * x * x)).exp()
            above = i * power / (1 + power)
            if i < half:
                values[half + i] = _round(above)
            values[half - i] = _round(above - i)
    return np.array(values, dtype=np.int16)


def frequencies(
    head_size: int, theta: Decimal, scaling: RopeScaling | None = None, turned: int | None = None
) -> tuple[Decimal, ...]:
    """Return the angle by which one position turns each pair of a head: head_size / 2 of them.

    `turned`: how many entries of a head are turned at all (the first ones of each half); the others' angle is 0.
    """
    turned = head_size if turned is None else turned
    with localcontext(Context(prec=DIGITS)):
        logarithm = theta.ln()
        found = [(-logarithm * 2 * i / turned).exp() for i in range(turned // 2)]
        if scaling is not None:
            found = [_slowed(frequency, scaling) for frequency in found]
    return (*found, *[Decimal(0)] * (head_size // 2 - turned // 2))


def _slowed(frequency: Decimal, scaling: RopeScaling) -> Decimal:
    """Return a frequency scaled. Source: transformers, modeling_rope_utils.py, linear and llama3."""
    slow = frequency / scaling.factor
    if not scaling.original:
        return slow
    turns = scaling.original * frequency / (2 * PI)
    if turns > scaling.high:
        return frequency
    if turns < scaling.low:
        return slow
    share = (turns - scaling.low) / (scaling.high - scaling.low)
    return (1 - share) * slow + share * frequency


def rotation_table(positions: int, angles: Sequence[Decimal]) -> Int16:
    """Return cosines, then sines, of position * angle for each angle of at most 1, in Q.14.

    -> int16[positions, 2 * angles]. Each position turns the one before it, whose cosine is a Taylor sum.
    """
    half = len(angles)
    table = np.zeros((positions, 2 * half), dtype=np.int16)
    with localcontext(Context(prec=DIGITS)):
        for i, angle in enumerate(angles):
            turn = _turn(angle)
            cosine, sine = Decimal(1), Decimal(0)
            for position in range(positions):
                table[position, i] = _round(cosine * 2**ROTATION_BITS)
                table[position, half + i] = _round(sine * 2**ROTATION_BITS)
                cosine, sine = cosine * turn[0] - sine * turn[1], sine * turn[0] + cosine * turn[1]
    return table


def _turn(angle: Decimal) -> tuple[Decimal, Decimal]:
    """Return cosine and sine of an angle of at most 1."""
    parts = [Decimal(0), Decimal(0)]
    term, i = Decimal(1), 0
    while abs(term) > Decimal(10) ** -DIGITS:
        parts[i % 2] += term if i % 4 < 2 else -term  # signs + + - -
        i += 1
        term = term * angle / i
    return parts[0], parts[1]


def _round(value: Decimal) -> int:
    return int((value + Decimal("0.5")).to_integral_value(ROUND_FLOOR))
