"""ASERT: on schedule nothing moves; a half-life early doubles, late never falls below the floor."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.difficulty import compute_difficulty
from tests.unit.consensus.test_headers import PARAMS

FLOOR = PARAMS.difficulty_floor


def at(number: int, late_s: int) -> int:
    return compute_difficulty(PARAMS, number, PARAMS.genesis_timestamp + number * PARAMS.spacing_s + late_s)


@given(st.integers(0, 10**9))
def test_on_schedule_is_the_anchor(number: int) -> None:
    assert at(number, 0) == FLOOR


@pytest.mark.parametrize("half_lives", [1, 2, 3, 10, 40])
def test_each_half_life_early_doubles(half_lives: int) -> None:
    difficulty = at(10**6, -half_lives * PARAMS.asert_half_life_s)
    assert abs(Fraction(difficulty, FLOOR << half_lives) - 1) < Fraction(1, 1000)


@given(st.integers(0, 2**63))
def test_late_never_falls_below_the_floor(late_s: int) -> None:
    assert at(10, late_s) == FLOOR


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_earlier_is_never_easier(a: int, b: int) -> None:
    early, late = max(a, b), min(a, b)
    assert at(10**7, -early) >= at(10**7, -late)


def test_fraction_follows_the_cubic_within_its_error() -> None:
    half = at(10**6, -PARAMS.asert_half_life_s // 2)
    assert abs(Fraction(half, FLOOR) ** 2 - 2) < Fraction(1, 500)


def test_absurd_schedules_stay_bounded() -> None:
    rushed = replace(PARAMS, genesis_timestamp=2**63)
    assert compute_difficulty(rushed, 2**63, 0) <= 2**256
