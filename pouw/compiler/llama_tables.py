"""Tables of a decoder, in correctly rounded decimal arithmetic: every machine makes the same bytes."""

from decimal import ROUND_FLOOR, Context, Decimal, localcontext

import numpy as np

from pouw.operators.activation import TABLE_SIZE
from pouw.operators.arithmetic import Int16
from pouw.operators.decoder import ROTATION_BITS

DIGITS = 50  # a product of 2^24 rotations loses fewer than 10 of them


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


def rotation_table(positions: int, head_size: int, theta: Decimal) -> Int16:
    """Return cosines, then sines, of position * theta^(-2i / head_size), i < head_size / 2, in Q.14.

    -> int16[positions, head_size]. Each position turns the one before it by the angle, whose cosine is a Taylor sum.
    """
    half = head_size // 2
    table = np.zeros((positions, head_size), dtype=np.int16)
    with localcontext(Context(prec=DIGITS)):
        logarithm = theta.ln()
        for i in range(half):
            turn = _turn((-logarithm * 2 * i / head_size).exp())
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
