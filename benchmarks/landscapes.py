"""Landscapes made of programs, and a proposer of known statistics, for `search_alone.py`.

A program is a text of one setting a line. Its objective and its two measures, both from 0 to 1,
follow from the settings by arithmetic, so that thousands are evaluated in a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

# What the proposer does, in shares of all proposals: about what models do to programs.
FAILS, REPEATS, CROSSES = 0.15, 0.10, 0.25


@dataclass(frozen=True)
class Landscape:
    """What is searched.

    Attributes:
        name: Short name.
        genes: Number of settings.
        start: Settings of the starting program.
        objective: To be maximized.
        measures: Two coordinates from 0 to 1.
        target: Objective that counts as solved.
        is_real: Whether settings are numbers from 0 to 1, or else bits.
        budget: Evaluations of a run.
    """

    name: str
    genes: int
    start: tuple[float, ...]
    objective: Callable[[tuple[float, ...]], float]
    measures: Callable[[tuple[float, ...]], tuple[float, float]]
    target: float
    is_real: bool = False
    budget: int = 6000


def propose(landscape, parent, mates, rng):
    """Returns new settings and whether they fail; `mates` may be empty."""
    kind = rng.random()
    if kind < FAILS:
        return parent, True
    if kind < FAILS + REPEATS:
        return parent, False
    genes = list(parent)
    if mates and rng.random() < CROSSES:
        mate = mates[int(rng.integers(len(mates)))]
        first, last = sorted(rng.integers(0, len(genes) + 1, size=2).tolist())
        genes[first:last] = mate[first:last]
    count = min(1 + int(rng.poisson(0.7)), len(genes))
    for place in rng.choice(len(genes), size=count, replace=False).tolist():
        if landscape.is_real:
            step = 10.0 ** rng.uniform(-2.5, -0.3) * rng.standard_normal()
            genes[place] = round(min(max(genes[place] + step, 0.0), 1.0), 6)
        else:
            genes[place] = 1 - genes[place]
    return tuple(genes), False


def _halves(genes):
    half = len(genes) // 2
    return sum(genes[:half]) / half, sum(genes[half:]) / (len(genes) - half)


def _deceptive(genes):
    """Traps of 3 bits (Deb 1993): ones are best, but every step to them but the last is worse."""
    total = 0
    for start in range(0, len(genes), 3):
        ones = sum(genes[start : start + 3])
        total += 3 if ones == 3 else 2 - ones
    return float(total)


@cache
def _rugged_table(genes, neighbours):
    return np.random.default_rng(7).random((genes, 2 ** (neighbours + 1)))


def _rugged(genes):
    """An NK landscape (Kauffman 1993) with neighbouring bits, K = 3."""
    table = _rugged_table(len(genes), 3)
    count = len(genes)
    total = 0.0
    for i in range(count):
        index = 0
        for j in range(4):
            index = 2 * index + int(genes[(i + j) % count])
        total += table[i, index]
    return total / count


def _neutral(genes):
    """A royal staircase (van Nimwegen 1998): only whole blocks of 3 count, one after another."""
    done = 0
    for start in range(0, len(genes), 3):
        if sum(genes[start : start + 3]) < 3:
            break
        done += 1
    return float(done)


def _niched(genes):
    """Many hills over the plane of the first two settings, the highest far from the start."""
    x, y = genes[0], genes[1]
    hills = math.cos(7 * math.pi * x) ** 2 * math.cos(7 * math.pi * y) ** 2
    height = 0.5 * hills + 0.5 * (x + y) / 2.0
    rest = sum((gene - 0.5 * (x + y)) ** 2 for gene in genes[2:]) / (len(genes) - 2)
    return height - rest


def _bounded(genes):
    """Bounded by 1, with gains that shrink a hundredfold on the way."""
    distance = sum((gene - 0.3 - 0.05 * i) ** 2 for i, gene in enumerate(genes))
    return 1.0 - distance / (0.02 + distance)


def _ridge(genes):
    """A narrow, bent ridge (Rosenbrock 1960), where single settings hardly help."""
    total = 0.0
    for one, two in pairwise(genes):
        a, b = 3.0 * one - 1.0, 3.0 * two - 1.0
        total += 20.0 * (b - a * a) ** 2 + (1.0 - a) ** 2
    return -total


LANDSCAPES = {
    one.name: one
    for one in (
        Landscape("deceptive", 24, (0,) * 24, _deceptive, _halves, 20.0),
        Landscape("rugged", 30, (0,) * 30, _rugged, _halves, 0.74),
        Landscape("neutral", 30, (0,) * 30, _neutral, _halves, 4.0),
        Landscape("niched", 6, (0.1,) * 6, _niched, lambda g: (g[0], g[1]), 0.97, is_real=True),
        Landscape("bounded", 8, (0.9,) * 8, _bounded, _halves, 0.98, is_real=True),
        Landscape("ridge", 4, (0.1,) * 4, _ridge, _halves, -0.02, is_real=True),
    )
}
