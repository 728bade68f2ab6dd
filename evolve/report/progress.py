"""What a run has come to, reduced to what people look at: the one source of all live views.

`Progress` takes in each call, evaluation, slot and commit when it happens; `reduce` returns a
frozen `Dashboard`, in time that does not depend on how long the run has been.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from evolve.archive import Elite
from evolve.archive.credit import Merit, merit_of, outranks
from evolve.problem import Problem, Reference
from evolve.records import AttemptKey, Direction, EvaluationPlace, Plan, Status, results
from evolve.records.results import (
    Call,
    Evaluated,
    Expense,
    Generation,
    ModelUse,
    Payoff,
    SlotResult,
    Totals,
    rank_payoffs,
)
from evolve.report.figures import find_levels, map_objectives
from evolve.report.history import describe_source
from evolve.runs.outcome import ReasonCounts
from evolve.search.loop import Observer
from evolve.search.population import Population
from evolve.settings import Settings
from evolve.steps.journal import Traffic
from evolve.store import Store

_IMPROVEMENTS = 40
_NOTES = 200
_MOST_POINTS = 2000
_MAP_EVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Improvement:
    """A new champion.

    Attributes:
        key: Place of its evaluation.
        objective: Its objective.
        gain: What it gained on the champion before.
        plan: What made it, in words; empty until its slot has ended.
        source: Operator, `tuning` or model that made it; empty until its slot has ended.
    """

    key: AttemptKey
    objective: float
    gain: float
    plan: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class IslandMap:
    """The archive of an island.

    Attributes:
        elites: Elites in it.
        coverage: Share of cells that hold one.
        levels: Heat map on the first two measures, as `find_levels` returns it; empty without
            measures.
    """

    elites: int
    coverage: float
    levels: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Cap:
    """What ends a run, and how far it is.

    Attributes:
        name: As endings name it.
        used: What is used of it.
        most: The cap.
        seconds_left: Time until it is reached at the rate so far; None when nothing shows a rate.
    """

    name: str
    used: float
    most: float
    seconds_left: float | None

    @property
    def share(self) -> float:
        """Returns which share of it is used, from 0 to 1."""
        return min(max(self.used / self.most, 0.0), 1.0) if self.most else 1.0


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What a live view shows at a moment.

    Attributes:
        run: Name of the run.
        direction: Of the objective.
        seconds: Running time of the run.
        initial: Objective of the starting program, the first that has one.
        champion: That of the champion; None while no program has an objective.
        noise: How far two objectives of one program may lie apart.
        references: What to compare with, by name.
        generation: The last committed one.
        evaluations: Programs evaluated.
        rate: Evaluations per second in this part of the run.
        curve: Evaluations and the champion's objective from there on.
        measures: The names of the heat maps' axes.
        islands: Their archives.
        improvements: The last ones, the newest first.
        outcomes: Attempts by status, in the order of `Status`.
        rejection: The most frequent reason of rejections, and how many it has.
        payoffs: What operators and models have brought.
        traffic: What is waited for; None where another process knows.
        stall: What is done about a stall, or that there is none.
        caps: All caps, the nearest first.
        spent: By role and model.
        lesson: The last one.
        stopping: Why the run stops, while it does.
        seconds_to_stop: How long what is running is waited for then; None for its end.
        notes: Lines for people, the oldest first.
        now: Moment of the monotonic clock.
    """

    run: str
    direction: Direction
    seconds: float
    initial: float | None
    champion: float | None
    noise: float
    references: Mapping[str, Reference]
    generation: int
    evaluations: int
    rate: float
    curve: tuple[tuple[float, float], ...]
    measures: tuple[str, ...]
    islands: tuple[IslandMap, ...]
    improvements: tuple[Improvement, ...]
    outcomes: Mapping[str, int]
    rejection: tuple[str, int] | None
    payoffs: tuple[Payoff, ...]
    traffic: Traffic | None
    stall: str
    caps: tuple[Cap, ...]
    spent: Mapping[tuple[str, str], Totals]
    lesson: str
    stopping: str
    seconds_to_stop: float | None
    notes: tuple[str, ...]
    now: float

    @property
    def total(self) -> Totals:
        """Returns what all calls used."""
        return sum(self.spent.values(), Totals())


class _Leader:
    """The champion as evaluations finish, and how it came to be: a fold over evaluations."""

    def __init__(self, problem: Problem) -> None:
        self._direction, self._noise = problem.direction, problem.noise
        self._merit: Merit | None = None
        self.evaluations = 0
        self.initial: float | None = None
        self.curve: list[tuple[float, float]] = []
        self.improvements: deque[Improvement] = deque(maxlen=_IMPROVEMENTS)

    @property
    def objective(self) -> float | None:
        """Returns the champion's objective; None while there is no champion."""
        return self.initial if self._merit is None else self._merit.objective

    def add(
        self,
        key: AttemptKey,
        objective: float | None,
        instances: Mapping[str, float],
        evaluations: int,
    ) -> None:
        """Adds the verdict on a program, None where it has no objective."""
        self.evaluations += evaluations
        if objective is None:
            return
        merit, before = merit_of(objective, instances), self._merit
        if before is None:
            self.initial = objective
        elif outranks(self._direction.sign, merit, before, self._noise):
            gain = self._direction.gain(objective, before.objective)
            self.improvements.append(Improvement(key, objective, gain))
        else:
            return
        self._lead(merit)

    def settle(self, champion: Elite | None, initial: float | None) -> None:
        """Takes over the committed start and champion, unless one in flight has passed that.

        Of two programs within the noise of each other the first leads: here the one that was
        evaluated first, in the run the one of the lower slot.
        """
        if champion is None or self._merit is None:
            return
        self.initial = initial
        if champion.merit == self._merit:
            return
        if not outranks(self._direction.sign, self._merit, champion.merit, self._noise):
            self._lead(champion.merit)

    def _lead(self, merit: Merit) -> None:
        self._merit = merit
        self.curve.append((float(self.evaluations), merit.objective))
        if len(self.curve) > _MOST_POINTS:
            # The first and the last point stay.
            self.curve[1:-1] = self.curve[1:-1:2]

    def name(self, place: EvaluationPlace, plan: Plan | None, source: str) -> None:
        """Adds what made an improvement, if this evaluation was one."""
        for number, one in enumerate(self.improvements):
            if one.key in place and not one.source:
                change = plan.change if plan else ""
                self.improvements[number] = replace(one, plan=change, source=source)


class Progress(Observer):
    """Takes in what happens in a run; safe to read from other threads.

    Args:
        store: The run's database, with its starting program committed.
        problem: Its problem.
        settings: Its settings.
        spent: Returns what calls have used, by role and model.
        traffic: Returns what is waited for; None where another process knows.

    Raises:
        StoreError: The database cannot be read.
    """

    def __init__(
        self,
        store: Store,
        problem: Problem,
        settings: Settings,
        spent: Callable[[], Mapping[tuple[str, str], Totals]],
        traffic: Callable[[], Traffic] | None = None,
    ) -> None:
        self._run, self._problem, self._settings = store.folder.name, problem, settings
        self._spent, self._traffic = spent, traffic
        self._lock = threading.Lock()
        self._leader = _Leader(problem)
        self._outcomes: Counter[Status] = Counter()
        self._reasons = ReasonCounts()
        self._payoffs: tuple[Payoff, ...] = ()
        self._state: Population | None = None
        self._islands: tuple[IslandMap, ...] = ()
        self._mapped = float("-inf")
        self._pending: list[SlotResult] = []
        self._lesson = self._stopping = ""
        self._stops_at: float | None = None
        self._notes: deque[str] = deque(maxlen=_NOTES)
        self._seconds_before = store.seconds()
        self._generation = store.last_generation() or 0
        self._restore(store)
        self._started = time.monotonic()
        self._used_before = {name: used for name, used, _ in self._list_used(0.0)}

    def _restore(self, store: Store) -> None:
        """Folds what was recorded before."""
        leader = self._leader
        for attempt in store.light_attempts():
            if attempt.status is not Status.REJECTED:
                leader.add(attempt.key, attempt.objective, attempt.instances, attempt.evaluations)
        for one in list(leader.improvements):
            plan = store.load_attempt(one.key).plan
            source = _find_source(plan, store.uses_of(*one.key[:2]))
            leader.name(EvaluationPlace(one.key, one.key), plan, source)
        for evaluated in store.finished_after(self._generation)[1]:
            self._record(evaluated)
        # Of some programs that were evaluated at the same time one attempt is a duplicate.
        leader.evaluations = store.spent()["evaluations"]
        self._read_lesson(store.load_generation(self._generation))

    def on_record(self, item: Call | Evaluated | Expense) -> None:
        """Takes in what has just been recorded."""
        if isinstance(item, Evaluated):
            with self._lock:
                self._record(item)

    def on_slot(self, result: SlotResult) -> None:
        """Takes in the attempts of a slot, before its generation is committed."""
        with self._lock:
            self._pending.append(result)
            self._name_improvements(result)

    def on_commit(self, population: Population, generation: Generation | None) -> None:
        """Takes in what the run has reached at a checkpoint; None where it was found so."""
        with self._lock:
            self._state, self._generation = population, population.generation
            self._leader.settle(population.champion, population.initial)
            self._outcomes = population.outcomes.copy()
            self._payoffs = rank_payoffs(population.payoffs.values())
            if generation is None:
                self._reasons = ReasonCounts(population.rejections)
            else:
                for attempt in population.newest:
                    if attempt.status is Status.REJECTED:
                        self._reasons.add(attempt.reason)
                for result in generation.slots:
                    self._name_improvements(result)
                self._read_lesson(generation)
            self._pending = [one for one in self._pending if not self._is_committed(one)]
            now = time.monotonic()
            if now - self._mapped >= _MAP_EVERY_SECONDS:
                self._mapped = now
                self._islands = draw_islands(population)

    def _read_lesson(self, generation: Generation) -> None:
        summary = generation.summary
        if summary is not None and summary.lessons:
            self._lesson = summary.lessons[-1].claim

    def on_stop(self, reason: str, seconds: float | None) -> None:
        """Takes note that the run stops, and for how long it waits for what is running."""
        with self._lock:
            self._stopping = reason
            self._stops_at = None if seconds is None else time.monotonic() + seconds

    def note(self, line: str) -> None:
        """Takes a line for people."""
        with self._lock:
            self._notes.append(line)

    def reduce(self) -> Dashboard:
        """Returns what there is to see now."""
        with self._lock:
            now, leader = time.monotonic(), self._leader
            elapsed = now - self._started
            seconds = self._seconds_before + elapsed
            evaluated = leader.evaluations - self._used_before[results.MAX_EVALUATIONS]
            return Dashboard(
                run=self._run,
                direction=self._problem.direction,
                seconds=seconds,
                initial=leader.initial,
                champion=leader.objective,
                noise=self._problem.noise,
                references=self._problem.references,
                generation=self._generation,
                evaluations=leader.evaluations,
                rate=evaluated / max(elapsed, 1e-9),
                curve=tuple(leader.curve),
                measures=tuple(measure.name for measure in self._problem.measures[:2]),
                islands=self._islands,
                improvements=tuple(reversed(leader.improvements)),
                outcomes=self._count_outcomes(),
                rejection=next(iter(self._reasons.most_common(1)), None),
                payoffs=self._payoffs,
                traffic=None if self._traffic is None else self._traffic(),
                stall="" if self._state is None else self._state.stalls.describe(),
                caps=self._list_caps(seconds, elapsed),
                spent=self._spent(),
                lesson=self._lesson,
                stopping=self._stopping,
                seconds_to_stop=None if self._stops_at is None else max(self._stops_at - now, 0.0),
                notes=tuple(self._notes),
                now=now,
            )

    def _record(self, item: Evaluated) -> None:
        verdict = item.evaluation
        if verdict.status is not Status.REJECTED:
            count = len(verdict.repeats) or 1
            self._leader.add(item.key, verdict.objective, verdict.instances, count)

    def _name_improvements(self, result: SlotResult) -> None:
        for attempt in result.attempts:
            if attempt.evaluated is not None:
                source = _find_source(attempt.plan, result.uses)
                self._leader.name(attempt.evaluated, attempt.plan, source)

    def _is_committed(self, result: SlotResult) -> bool:
        attempts = result.attempts
        return not attempts or attempts[0].key.generation <= self._generation

    def _count_outcomes(self) -> dict[str, int]:
        """Returns how many attempts came to what, those in flight among them."""
        counts = self._outcomes.copy()
        for result in self._pending:
            counts.update(one.evaluation.status for one in result.attempts)
        return {str(status): counts[status] for status in Status}

    def _list_used(self, seconds: float) -> list[tuple[str, float, float | None]]:
        """Returns the caps by name, with what is used of each; None for no cap."""
        caps, state = self._settings.budget, self._state
        total = sum(self._spent().values(), Totals())
        return [
            (results.GENERATIONS, self._generation, self._settings.loop.generations),
            (results.MAX_SECONDS, seconds, caps.max_seconds),
            (results.MAX_EVALUATIONS, self._leader.evaluations, caps.max_evaluations),
            (results.MAX_CALLS, total.calls + total.lost_requests, caps.max_calls),
            (results.MAX_TOKENS, total.tokens + total.lost_tokens, caps.max_tokens),
            (results.MAX_COST, total.cost_usd + total.lost_usd, caps.max_cost_usd),
            (
                results.PATIENCE,
                state.evaluations - state.progressed_at if state else 0,
                caps.patience,
            ),
        ]

    def _list_caps(self, seconds: float, elapsed: float) -> tuple[Cap, ...]:
        """Returns the caps, the one that will be reached first before the others."""
        caps = []
        for name, used, most in self._list_used(seconds):
            if most is None:
                continue
            # Patience is counted anew at every progress: only evaluations without any use it up.
            before = 0.0 if name == results.PATIENCE else self._used_before[name]
            source = self._leader.evaluations - self._used_before[results.MAX_EVALUATIONS]
            gone = source if name == results.PATIENCE else used - before
            left = (most - used) * elapsed / gone if gone > 0 else None
            exact = most - used if name == results.MAX_SECONDS else left
            caps.append(Cap(name, used, most, None if exact is None else max(exact, 0.0)))
        return tuple(sorted(caps, key=_rank_cap))


def _rank_cap(cap: Cap) -> tuple[float, float]:
    return (float("inf") if cap.seconds_left is None else cap.seconds_left, -cap.share)


def draw_islands(state: Population) -> tuple[IslandMap, ...]:
    """Returns the archives of a run as heat maps on the first two measures."""
    archives = state.islands.archives
    axes = archives[0].space.axes
    maps = [map_objectives(one, 0, 1 if len(axes) > 1 else None) for one in archives if axes]
    levels = find_levels(maps, state.direction.sign) if maps else [()] * len(archives)
    return tuple(
        IslandMap(len(archive), archive.coverage, level)
        for archive, level in zip(archives, levels, strict=True)
    )


def _find_source(plan: Plan | None, uses: Sequence[ModelUse]) -> str:
    """Returns the operator or model behind an attempt."""
    return describe_source(plan.operator if plan else "", uses[-1].model if uses else "")
