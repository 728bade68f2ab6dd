"""The axes of measure space, as a problem declares them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evolve.errors import ProblemError
from evolve.source import BUILT_IN_MEASURES

if TYPE_CHECKING:
    from evolve.records import Program
    from evolve.tables import Table

MAX_CELLS = 1_000_000


@dataclass(frozen=True, slots=True)
class Measure:
    """A coordinate of measure space, cut into cells.

    Attributes:
        name: Under which evaluations report it.
        low: Lower end of the range; what lies below counts as in the first cell.
        high: Upper end of the range, above `low`; what lies beyond counts as in the last cell.
        cells: How many cells the range is cut into.
        scale: `linear` or `log`.
        source: `built-in` when it is measured here, from the source or the time a program
            takes, else `evaluator`.
    """

    name: str
    low: float
    high: float
    cells: int
    scale: str = "linear"
    source: str = "evaluator"


def read_measures(top: Table, initial: Program) -> tuple[Measure, ...]:
    """Reads `[[measures]]`; where there is none, gives two that fit every program.

    Raises:
        ProblemError: A range is reversed, a name is taken twice or is the objective's, or there
            are too many cells.
    """
    tables = top.tables("measures", ("name", "low", "high", "cells", "scale"))
    if tables is None:
        # Something sensible for every program: how long it is, and how far from the start.
        length = max(sum(len(text) for _, text in initial.files), 64)
        return (
            Measure("length", length / 4, length * 4, 12, "log", "built-in"),
            Measure("similarity", 0.0, 1.0, 8, "linear", "built-in"),
        )
    measures = tuple(_read_measure(table) for table in tables)
    names = [measure.name for measure in measures]
    if len(set(names)) < len(names):
        raise ProblemError(f"{top.where}: [[measures]]: expected different names, got {names}")
    if math.prod(measure.cells for measure in measures) > MAX_CELLS:
        raise ProblemError(
            f"{top.where}: [[measures]]: expected at most {MAX_CELLS} cells in "
            "all; give each fewer `cells`, which `search.archive=cvt` passes over"
        )
    return measures


def _read_measure(table: Table) -> Measure:
    name = table.text("name")
    if name == "objective":
        raise ProblemError(
            f"{table.where}: `name`: expected something else than the objective; measures say "
            "how programs differ, not how good they are"
        )
    scale = table.choice("scale", ("linear", "log"), "linear")
    low, high = table.number("low"), table.number("high")
    if not low < high:
        raise ProblemError(f"{table.where}: expected `low` below `high`, got {low:g} and {high:g}")
    if scale == "log" and low <= 0.0:
        raise ProblemError(f"{table.where}: `low`: expected it above 0 for `log`, got {low:g}")
    source = "built-in" if name in BUILT_IN_MEASURES else "evaluator"
    return Measure(name, low, high, table.integer("cells", 10), scale, source)
