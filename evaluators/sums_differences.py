"""Scores sets of whole numbers by how much their sums outgrow their differences."""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction

from exact import format_exactly, round_down
from replies import as_integers

from evolve.scoring import Infeasible, ProgramHandle, Score

MAX_SIZE = 2000
MAX_NUMBER = 10**9

# Decimal logarithms are rounded correctly: no digit but the last can be off.
_CONTEXT = Context(prec=60)
_ERROR = Fraction(1, 10**50)


def evaluate(program: ProgramHandle) -> Score:
    """Scores `build()`, which returns a set as a list of different whole numbers."""
    numbers = as_integers(program.call("build"), MAX_SIZE, where="build", magnitude=MAX_NUMBER)
    chosen = sorted(set(numbers))
    if len(chosen) < len(numbers):
        raise Infeasible("build: expected different numbers, got one of them twice")
    if len(chosen) < 2:
        raise Infeasible(f"build: expected at least 2 numbers, got {len(chosen)}")
    sums = len({a + b for a in chosen for b in chosen})
    differences = len({a - b for a in chosen for b in chosen})
    ratio = _logarithm(sums, len(chosen)) / (_logarithm(differences, len(chosen)) + 2 * _ERROR)
    span = chosen[-1] - chosen[0]
    return Score(
        round_down(ratio),
        metrics={"sums": float(sums), "differences": float(differences), "largest": float(span)},
        measures={"size": float(len(chosen)), "density": len(chosen) / (span + 1)},
        artifacts={"certified": format_exactly(ratio, up=False), "set": _describe(chosen)},
    )


def _logarithm(count: int, size: int) -> Fraction:
    """Returns a lower bound of the logarithm of `count / size`, by less than two errors."""
    quotient = _CONTEXT.divide(Decimal(count), Decimal(size))
    return Fraction(_CONTEXT.ln(quotient)) - _ERROR


def _describe(chosen: list[int]) -> str:
    shown = ", ".join(map(str, chosen[:60]))
    return f"{len(chosen)} numbers: {shown}{', ...' if len(chosen) > 60 else ''}"
