"""The curve of a run: the best objective against what had been spent on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evolve.population import Standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evolve.archive import Elite
    from evolve.problem import Problem
    from evolve.settings.sections import SearchSettings
    from evolve.store import Store


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run stood after a generation; counts are of the whole run up to it.

    Attributes:
        generation: Its number.
        seconds: Running time.
        evaluations: Programs evaluated.
        calls: Model calls answered.
        cost_usd: US dollars of the calls whose price is known.
        champion: Best program so far; None before the first.
    """

    generation: int
    seconds: float
    evaluations: int
    calls: int
    cost_usd: float
    champion: Elite | None


def trace_curve(store: Store, problem: Problem, settings: SearchSettings) -> Iterator[Point]:
    """Returns a point for each committed generation, in order.

    Raises:
        StoreError: The database cannot be read.
    """
    standing = Standing(problem, settings)
    seconds = dict(store.generations())
    spent = store.calls_by_generation()
    calls, cost = 0, 0.0
    for number in standing.tell_all(store.light_attempts(), max(seconds, default=-1)):
        more_calls, more_cost = spent.get(number, (0, 0.0))
        calls, cost = calls + more_calls, cost + more_cost
        yield Point(number, seconds[number], standing.evaluations, calls, cost, standing.champion)
