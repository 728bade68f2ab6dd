"""Rational arithmetic on returned doubles, and rounding that never favours a program.

Every finite double is a whole number over a power of 2, so sums and products of doubles have
exact values. Roots and trigonometric functions have none: they are enclosed between fractions.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from evolve.scoring import Infeasible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_LARGEST = Fraction(10**300)


def round_down(value: Fraction) -> float:
    """Returns the largest double that is at most the value.

    Raises:
        Infeasible: The value is beyond 1e300 in size.
    """
    if abs(value) > _LARGEST:
        raise Infeasible(f"expected an objective of at most {float(_LARGEST):g} in size, got more")
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else math.nextafter(nearest, -math.inf)


def round_up(value: Fraction) -> float:
    """Returns the smallest double that is at least the value; raises as `round_down`."""
    return 0.0 - round_down(-value)


def sqrt_down(value: Fraction, bits: int = 160) -> Fraction:
    """Returns a lower bound of a root, by less than `2 ** -bits` too small."""
    return Fraction(math.isqrt((value.numerator << (2 * bits)) // value.denominator), 1 << bits)


def sqrt_up(value: Fraction, bits: int = 160) -> Fraction:
    """Returns an upper bound of a root, by at most `2 ** -bits` too large."""
    return sqrt_down(value, bits) + Fraction(1, 1 << bits)


def scale_to_integers(values: Sequence[float]) -> tuple[list[int], int]:
    """Returns whole numbers `i` and `bits`, such that `v == i / 2**bits` for all of them."""
    ratios = [value.as_integer_ratio() for value in values]
    bits = max((below.bit_length() - 1 for _, below in ratios), default=0)
    return [above * ((1 << bits) // below) for above, below in ratios], bits


def scale_rows(rows: Iterable[Sequence[float]]) -> tuple[list[tuple[int, ...]], int]:
    """Returns rows of whole numbers and the `bits` by which all of them are too large."""
    rows = [tuple(row) for row in rows]
    flat, bits = scale_to_integers([value for row in rows for value in row])
    numbers = iter(flat)
    return [tuple(next(numbers) for _ in row) for row in rows], bits


def format_exactly(value: Fraction, *, up: bool, places: int = 20) -> str:
    """Writes a value with twenty decimal places, rounded up or down, for artifacts."""
    scaled = value * 10**places
    whole = math.ceil(scaled) if up else math.floor(scaled)
    sign, digits = ("-", -whole) if whole < 0 else ("", whole)
    before, after = divmod(digits, 10**places)
    return f"{sign}{before}.{after:0{places}d}"
