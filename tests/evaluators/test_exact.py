import math
from fractions import Fraction

import pytest
from exact import (
    format_exactly,
    round_down,
    round_up,
    scale_rows,
    scale_to_integers,
    sqrt_down,
    sqrt_up,
)
from hypothesis import given
from hypothesis import strategies as st
from replies import as_indices, as_integers

from evolve.scoring import Infeasible

NUMBERS = st.fractions(-(10**6), 10**6)


@given(NUMBERS)
def test_rounding_encloses_a_number_between_neighbours(number):
    low, high = round_down(number), round_up(number)
    assert Fraction(low) <= number <= Fraction(high)
    assert high == low if number == Fraction(low) else high == math.nextafter(low, math.inf)


@given(st.fractions(0, 10**6))
def test_roots_are_enclosed(number):
    assert sqrt_down(number) ** 2 <= number < sqrt_up(number) ** 2
    assert sqrt_up(number) - sqrt_down(number) == Fraction(1, 1 << 160)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5))
def test_doubles_become_whole_numbers_over_one_power_of_two(values):
    whole, bits = scale_to_integers(values)
    assert [Fraction(number, 1 << bits) for number in whole] == [
        Fraction(value) for value in values
    ]


def test_rows_are_scaled_together():
    assert scale_rows([[0.5, 1.0], [0.25, -2.0]]) == ([(2, 4), (1, -8)], 2)


def test_twenty_places_are_rounded_to_the_wanted_side():
    assert format_exactly(Fraction(1, 3), up=False) == "0.33333333333333333333"
    assert format_exactly(Fraction(1, 3), up=True) == "0.33333333333333333334"
    assert format_exactly(Fraction(-1, 3), up=True) == "-0.33333333333333333333"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ([1, 2.0], r"f\[1\]: expected a whole number, got a float"),
        ([True], r"f\[0\]: expected a whole number, got a bool"),
        ([1, 10**30], r"f\[1\]: expected at most 1000 in size"),
        ([1] * 6, r"f: expected at most 5 numbers, got 6"),
        ({1, 2}, r"f: expected a list of whole numbers, got a set"),
    ],
)
def test_whole_numbers_are_checked_strictly(reply, message):
    with pytest.raises(Infeasible, match=message):
        as_integers(reply, 5, where="f", magnitude=1000)


@pytest.mark.parametrize("reply", [[0.5, 1], [1 + 1e-9, 1], [-1, 0], [0, 3], [0]])
def test_indices_are_whole_numbers_in_range(reply):
    with pytest.raises(Infeasible, match=r"^f"):
        as_indices(reply, (2,), 3, where="f")
    assert as_indices([0.0, 2], (2,), 3, where="f").tolist() == [0, 2]
