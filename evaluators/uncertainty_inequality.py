"""Scores combinations of Hermite polynomials by their last change of sign, exactly."""

from __future__ import annotations

from fractions import Fraction

from exact import format_exactly, round_up
from polynomials import Polynomial, find_last_sign_change, measure_degree

from evolve.scoring import Infeasible, ProgramHandle, Score, as_floats

# Pi, rounded down to 50 decimal places.
_PI = Fraction(314159265358979323846264338327950288419716939937510, 10**50)


def evaluate(program: ProgramHandle, *, count: int) -> Score:
    """Scores `coefficients(count)`: the factors of H_0, H_4, H_8 and so on, but the last."""
    reply = program.call("coefficients", count)
    free = as_floats(reply, (count,), where="coefficients", magnitude=1e6)
    if not free.any():
        raise Infeasible("coefficients: expected one of them to differ from 0")
    polynomial = combine([Fraction(value) for value in free.tolist()])
    square = find_last_sign_change(polynomial)
    if square is None:
        raise Infeasible("coefficients: expected a function that changes its sign, got none")
    bound = square / (2 * _PI)
    scaled = free / abs(free).max()
    return Score(
        round_up(bound),
        metrics={"root": round_up(square) ** 0.5},
        measures={
            "second": float(scaled[1]) if count > 1 else 0.0,
            "degree": float(measure_degree(polynomial)),
        },
        artifacts={"certified": format_exactly(bound, up=True)},
    )


def combine(free: list[Fraction]) -> Polynomial:
    """Returns the sum of `free[k] * H_4k` and of the multiple of the next one that makes P(0) = 0.

    As a polynomial in the square of x, divided by it, lowest power first.
    """
    parts = [hermite(4 * k) for k in range(len(free) + 1)]
    at_zero = sum(
        (factor * part[0] for factor, part in zip(free, parts, strict=False)), Fraction(0)
    )
    factors = [*free, -at_zero / parts[-1][0]]
    degree = 2 * len(free)
    total = [Fraction(0)] * (degree + 1)
    for factor, part in zip(factors, parts, strict=True):
        for power in range(0, len(part), 2):
            total[power // 2] += factor * part[power]
    return total[1:]


def hermite(degree: int) -> list[int]:
    """Returns a (physicists') Hermite polynomial, lowest power first."""
    before, current = [0], [1]
    for n in range(degree):
        following = [0] + [2 * value for value in current]
        for power, value in enumerate(before):
            following[power] -= 2 * n * value
        before, current = current, following
    return current
