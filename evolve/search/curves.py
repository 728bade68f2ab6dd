"""The best objective of runs against what was spent on them, alone and side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evolve.archive import Elite
from evolve.errors import UsageError
from evolve.problem import Problem
from evolve.records.results import LightAttempt
from evolve.search.population import Population
from evolve.settings import Settings, flatten_settings
from evolve.settings.sections import STRATEGIES, SearchSettings
from evolve.store import Store

# What objectives are shown against, with the name of the field in a curve's point.
AXES = {
    "evaluations": "evaluations",
    "calls": "calls",
    "tokens": "tokens",
    "money": "cost_usd",
    "seconds": "seconds",
}
CONFIDENCE = 0.95
_RESAMPLES = 2000
_STEPS = 40
# They change how a run is done or when it stops, not what it is.
_INCIDENTAL = {"loop.seed", "loop.workers", "loop.generations"}
# A baseline has one island and no tuning whatever the others have.
_FIXED_FOR_BASELINES = {"search.islands", "tuning.share"}
_INCIDENTAL_SECTIONS = {"budget", "sandbox"}


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Where a run stood after a generation; counts are of the whole run up to it.

    Attributes:
        generation: Its number.
        seconds: Running time.
        evaluations: Evaluations up to it.
        calls: Model calls answered.
        tokens: Tokens read and written by them.
        cost_usd: US dollars of the calls whose price is known.
        champion: Best program so far; None before the first.
    """

    generation: int
    seconds: float
    evaluations: int
    calls: int
    tokens: int
    cost_usd: float
    champion: Elite | None


class CurveTracer:
    """Follows a run from generation to generation, also while it is written.

    Args:
        state: What the run has reached so far; it is brought forward.
    """

    def __init__(self, state: Population) -> None:
        self._state = state
        self._calls, self._tokens, self._cost_usd = 0, 0, 0.0

    def advance(self, store: Store, attempts: Iterable[LightAttempt]) -> Iterator[CurvePoint]:
        """Yields a point for each generation that was committed since, in order.

        Args:
            store: The run's database.
            attempts: Those of these generations, in order.

        Raises:
            StoreError: The database cannot be read.
        """
        state = self._state
        since = state.generation + 1
        seconds = {one.number: one.seconds for one in store.generations(state.generation)}
        spent = store.calls_by_generation(since)
        for number in state.add_all(attempts, max(seconds, default=-1)):
            calls, tokens, cost_usd = spent.get(number, (0, 0, 0.0))
            self._calls += calls
            self._tokens += tokens
            self._cost_usd += cost_usd
            sums = (self._calls, self._tokens, self._cost_usd)
            yield CurvePoint(number, seconds[number], state.evaluations, *sums, state.champion)


def trace_curve(store: Store, problem: Problem, settings: SearchSettings) -> Iterator[CurvePoint]:
    """Returns a point for each committed generation, in order.

    Raises:
        StoreError: The database cannot be read.
    """
    return CurveTracer(Population(problem, settings)).advance(store, store.light_attempts())


@dataclass(frozen=True, slots=True)
class Trace:
    """What a run reached for what it had spent.

    Attributes:
        run: Name of its folder.
        problem: Name of its problem.
        direction: Of the objective.
        settings: All of them by `section.name`.
        spent: For each of `AXES`, what was spent by each point, shape `(points,)`.
        best: Objective of the champion at each point, shape `(points,)`.
        cooperative: Whether programs can forge their scores.
    """

    run: str
    problem: str
    direction: str
    settings: Mapping[str, Any]
    spent: Mapping[str, NDArray[np.float64]]
    best: NDArray[np.float64]
    cooperative: bool = False

    def at(self, axis: str, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the champion's objective by each count; of the start before the first point.

        A run that has ended keeps what it reached.
        """
        places = np.searchsorted(self.spent[axis], counts, side="right") - 1
        found: NDArray[np.float64] = self.best[np.maximum(places, 0)]
        return found


@dataclass(frozen=True, slots=True)
class Curve:
    """A group of runs against one axis; all arrays have the shape `(len(counts),)`."""

    counts: NDArray[np.float64]
    median: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RunGroup:
    """Runs that differ in nothing but their seed.

    Attributes:
        name: What sets them apart from other groups.
        traces: Theirs.
        curves: By axis; none for an axis on which nothing was spent.
    """

    name: str
    traces: tuple[Trace, ...]
    curves: Mapping[str, Curve]


def trace_run(store: Store, problem: Problem, settings: Settings) -> Trace:
    """Reads what a run reached.

    Raises:
        UsageError: It has no evaluated program yet.
        StoreError: The database cannot be read.
    """
    points = [
        point
        for point in trace_curve(store, problem, settings.search)
        if point.champion is not None
    ]
    if not points:
        raise UsageError(f"{store.folder}: the run has no evaluated program yet")
    return Trace(
        run=store.folder.name,
        problem=problem.name,
        direction=str(problem.direction),
        settings=flatten_settings(settings),
        spent={
            axis: np.array([getattr(point, name) for point in points], dtype=np.float64)
            for axis, name in AXES.items()
        },
        best=np.array([point.champion.objective for point in points if point.champion]),
        cooperative=problem.cooperative,
    )


def compare(traces: Sequence[Trace]) -> list[RunGroup]:
    """Groups runs by settings and returns medians and intervals over the runs of each group.

    Raises:
        UsageError: They are runs of different problems.
    """
    problems = {(trace.problem, trace.direction) for trace in traces}
    if len(problems) > 1:
        names = ", ".join(sorted(name for name, _ in problems))
        raise UsageError(f"expected runs of one problem, got runs of several: {names}")
    varying = _find_varying(traces)
    grouped: dict[str, list[Trace]] = {}
    for trace in traces:
        grouped.setdefault(_name(trace, varying), []).append(trace)
    ends = {axis: max(float(trace.spent[axis][-1]) for trace in traces) for axis in AXES}
    return [
        RunGroup(
            name,
            tuple(group),
            {axis: _make_curve(group, axis, end) for axis, end in ends.items() if end > 0.0},
        )
        for name, group in grouped.items()
    ]


def bootstrap(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the ends of the interval of the median, by resampling the first dimension.

    Efron 1979, Bootstrap methods: another look at the jackknife; the percentile interval. The
    resamples are always the same, so that a table can be made again.

    Args:
        values: Shape `(runs, n)`.

    Returns:
        Two arrays of shape `(n,)`; both are the values themselves where there is one run.
    """
    runs = len(values)
    drawn = np.random.default_rng(runs).integers(runs, size=(_RESAMPLES, runs))
    medians = np.median(values[drawn], axis=1)
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(medians, [tail, 1.0 - tail], axis=0)
    return low, high


def _make_curve(group: Sequence[Trace], axis: str, end: float) -> Curve:
    counts = np.linspace(0.0, end, _STEPS + 1)
    values = np.array([trace.at(axis, counts) for trace in group])
    low, high = bootstrap(values)
    return Curve(counts, np.median(values, axis=0), low, high)


def _find_varying(traces: Sequence[Trace]) -> list[str]:
    known = [_list_relevant(trace) for trace in traces]
    names = dict.fromkeys(name for settings in known for name in settings)
    return [
        name
        for name in names
        if len({repr(settings[name]) for settings in known if name in settings}) > 1
    ]


def _list_relevant(trace: Trace) -> dict[str, Any]:
    """Returns the settings that may make a difference to what a run finds."""
    is_baseline = STRATEGIES[trace.settings["search.strategy"]].is_baseline
    return {
        name: value
        for name, value in trace.settings.items()
        if name not in _INCIDENTAL
        and name.partition(".")[0] not in _INCIDENTAL_SECTIONS
        and not (is_baseline and name in _FIXED_FOR_BASELINES)
    }


def _name(trace: Trace, varying: Sequence[str]) -> str:
    """Returns the strategy and what else varies."""
    known = _list_relevant(trace)
    others = [
        f"{name.removeprefix('search.')}={known[name]}"
        for name in varying
        if name in known and name != "search.strategy"
    ]
    return " ".join([trace.settings["search.strategy"], *others])
