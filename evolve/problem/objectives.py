"""What is optimised beside the objective, and values to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evolve.errors import ProblemError
from evolve.records import Direction

if TYPE_CHECKING:
    from evolve.tables import Table


@dataclass(frozen=True, slots=True)
class Objective:
    """A further objective, which evaluators report among the metrics.

    Attributes:
        name: Of the metric.
        direction: Whether a larger or a smaller value is better.
    """

    name: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class Reference:
    """A value of the objective to compare with, and where it comes from."""

    value: float
    source: str


def read_objectives(top: Table) -> tuple[Objective, ...]:
    """Reads `[[objectives]]`: what is optimised beside the objective.

    Raises:
        ProblemError: A name is taken twice, or is the objective's.
    """
    objectives = tuple(
        Objective(table.text("name"), Direction(table.choice("direction", tuple(Direction))))
        for table in top.tables("objectives", ("name", "direction")) or ()
    )
    names = ["objective", *(objective.name for objective in objectives)]
    if len(set(names)) < len(names):
        raise ProblemError(
            f"{top.where}: [[objectives]]: expected different names, none of them `objective`, "
            f"which comes first by itself; got {names[1:]}"
        )
    return objectives


def read_reference(top: Table, key: str) -> Reference | None:
    """Reads a table with `value` and `source`; None when there is none.

    Raises:
        ProblemError: One of them is missing.
    """
    if key not in top.values:
        return None
    table = top.table(key, ("value", "source"))
    return Reference(table.number("value"), table.text("source"))
