"""The loop: launch generations, take in what slots bring, commit in order."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from evolve.population.snapshot import SnapshotKeeper
from evolve.records.endings import (
    FRUITLESS,
    GENERATIONS,
    INTERRUPTED,
    MAX_EVALUATIONS,
    MAX_SECONDS,
    TARGET,
)
from evolve.records.results import Call, Evaluated, Expense, Generation, SlotResult
from evolve.search.fruitless import FruitlessWatch
from evolve.search.jobs import JobMaker
from evolve.source.light import light_attempts
from evolve.steps.slot import run_slot

if TYPE_CHECKING:
    from evolve.journal import Journal
    from evolve.population import Population
    from evolve.problem import Problem
    from evolve.search.schedule import Schedule
    from evolve.settings.launches import SettingsHistory
    from evolve.steps.tools import Job
    from evolve.store import Store

# How long running calls and evaluations are waited for once the run is asked to stop.
_GRACE_SECONDS = 10.0
_TICK_SECONDS = 0.25


class Observer(Protocol):
    """Is told what happens, on the loop's thread."""

    def on_slot(self, result: SlotResult) -> None:
        """A slot came to its end."""

    def on_commit(self, population: Population) -> None:
        """A generation is committed, or the run was rebuilt."""

    def on_tick(self) -> None:
        """Some time has passed."""


class Interrupt:
    """Asks the loop to stop."""


class Finished(tuple[int, SlotResult]):
    """A slot came to its end: number of its generation, and what it brought."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Paid:
    """A finished call or evaluation, whose slot waits until it is durable."""

    item: Call | Evaluated | Expense
    durable: threading.Event


Event = Paid | Finished | Interrupt | BaseException


def keep_paid(events: queue.SimpleQueue[Event], item: Call | Evaluated | Expense) -> None:
    """Hands what was paid for to the loop, and returns when it is durable.

    Nothing that follows from it is asked for before, so a kill loses only what is under way.
    """
    paid = Paid(item, threading.Event())
    events.put(paid)
    paid.durable.wait()


class Search:
    """Runs generations until a limit, a budget, the target or an interrupt.

    Only `run`'s thread changes any state; slots run on threads of their own and report through
    `events`.

    Args:
        problem: What is solved.
        history: The settings of each generation; those of now have the number of generations.
        store: The run's database, open to write, with the initial program committed.
        population: Empty; it is told what is committed.
        schedule: Which generation may start when.
        journal: The way to models and evaluators; it keeps by `keep_paid`.
        events: What slots, the journal and the user's interrupt report.
        observer: Is told what happens.
        threads: Slots that run at a time.
    """

    def __init__(
        self,
        *,
        problem: Problem,
        history: SettingsHistory,
        store: Store,
        population: Population,
        schedule: Schedule,
        journal: Journal,
        events: queue.SimpleQueue[Event],
        observer: Observer,
        threads: int,
    ) -> None:
        self._problem = problem
        self._history = history
        self._settings = history.now
        self._store = store
        self._population = population
        self._schedule = schedule
        self._journal = journal
        self._events = events
        self._observer = observer
        self._threads = threads
        self._maker = JobMaker(population, store, history)
        self._fruitless = FruitlessWatch(history.now.models.fruitless)
        self._snapshots = SnapshotKeeper(store, problem, history.now.search)
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._results: dict[int, dict[int, SlotResult | None]] = {}
        self._stopped_because = ""
        self._give_up_at: float | None = None
        self._seconds_before = store.seconds()
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Gives the running time of the run, over all its resumptions."""
        return self._seconds_before + time.monotonic() - self._started

    def run(self) -> str:
        """Runs until the end and says why it came.

        Raises:
            MachineError: A model, the sandbox, the evaluator or the store failed.
        """
        self._rebuild()
        for _ in range(self._threads):
            threading.Thread(target=self._work, daemon=True).start()
        while self._results and not self._is_over():
            self._take_in(self._wait())
            self._commit_finished()
            self._check_time()
            self._observer.on_tick()
        return self._stopped_because or self._exhausted()

    def _rebuild(self) -> None:
        """Folds what is committed; launches the rest from the same states as before."""
        last = self._store.last_generation()
        told = self._store.told_attempts(with_uses=True)
        for _ in self._population.tell_all(told, -1 if last is None else last):
            self._check_target()
            if not self._is_late():
                self._launch(beyond=last or 0)
        self._check_time()
        self._observer.on_commit(self._population)

    def _launch(self, beyond: int) -> None:
        if self._stopped_because:
            return
        population = self._population
        for turn in self._schedule.ready(population.generation, population.evaluations):
            if turn.generation > beyond:
                jobs = self._maker.make_jobs(turn)
                self._results[turn.generation] = dict.fromkeys(job.slot for job in jobs)
                # The tuning lane's job, the last one, takes longest.
                for job in reversed(jobs):
                    self._jobs.put(job)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                journal = self._journal.open_slot(job.generation, job.slot, job.parts)
                result = run_slot(job, self._problem, self._history.at(job.generation), journal)
            except BaseException as error:  # noqa: BLE001 - raised again on the loop's thread
                self._events.put(error)
                return
            self._events.put(Finished((job.generation, result)))

    def _wait(self) -> list[Event]:
        """Gives all events there are, after at least one or a tick."""
        events: list[Event] = []
        try:
            events.append(self._events.get(timeout=_TICK_SECONDS))
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            return events

    def _take_in(self, events: list[Event]) -> None:
        paid = [event for event in events if isinstance(event, Paid)]
        if paid:
            self._store.keep([one.item for one in paid])
        for one in paid:
            one.durable.set()
        for event in events:
            if isinstance(event, Finished):
                generation, result = event
                self._observer.on_slot(result)
                self._results[generation][result.slot] = result
                if result.cut_by and not self._stopped_because:
                    self._stop(result.cut_by)
            elif isinstance(event, Interrupt):
                self._stop(INTERRUPTED)
            elif isinstance(event, BaseException):
                raise event

    def _commit_finished(self) -> None:
        """Commits generations in order, as far as all their slots have come to an end.

        Nothing is committed after the target: what else is finished by then is a matter of time.
        """
        while self._stopped_because != TARGET:
            number = self._population.generation + 1
            slots = self._results.get(number)
            if slots is None:
                return
            results = tuple(result for result in slots.values() if result is not None)
            if len(results) < len(slots) or self._is_torn(results):
                return
            del self._results[number]
            generation = Generation(number, results, self.seconds)
            self._store.commit(generation)
            attempts = light_attempts(generation)
            self._population.tell(number, attempts)
            self._snapshots.on_commit(self._population, len(attempts))
            self._observer.on_commit(self._population)
            self._check_target()
            self._check_fruitless(results)
            self._launch(beyond=0)

    def _is_torn(self, results: tuple[SlotResult, ...]) -> bool:
        """Tells whether a generation was cut so that it is to be run again, not committed.

        What a budget cut short is committed as far as it came, for it may hold the champion.
        """
        if self._stopped_because in {INTERRUPTED, TARGET, FRUITLESS}:
            return any(result.cut_by for result in results)
        return all(result.cut_by and not result.attempts for result in results)

    def _check_target(self) -> None:
        target, champion = self._settings.budget.target, self._population.champion
        if target is None or champion is None or self._stopped_because:
            return
        if not self._problem.direction.is_better(target, champion.objective):
            self._stop(TARGET)

    def _check_fruitless(self, results: tuple[SlotResult, ...]) -> None:
        with_model = self._settings.models.is_configured
        if with_model and self._fruitless.add(results) and not self._stopped_because:
            self._stop(FRUITLESS)

    def _check_time(self) -> None:
        if self._is_late() and not self._stopped_because:
            self._stop(MAX_SECONDS)

    def _is_late(self) -> bool:
        limit = self._settings.budget.max_seconds
        return limit is not None and self.seconds >= limit

    def _stop(self, reason: str) -> None:
        self._stopped_because = reason
        self._journal.stop(reason)
        if reason in {INTERRUPTED, MAX_SECONDS}:
            self._give_up_at = time.monotonic() + _GRACE_SECONDS

    def _is_over(self) -> bool:
        """Tells whether nothing is left to wait for, or it has been waited for long enough."""
        if not self._stopped_because:
            return False
        late = self._give_up_at is not None and time.monotonic() > self._give_up_at
        if late or self._stopped_because in {TARGET, FRUITLESS}:
            return True
        oldest = self._results.get(self._population.generation + 1, {})
        done = [result for result in oldest.values() if result is not None]
        return len(done) == len(oldest) and self._is_torn(tuple(done))

    def _exhausted(self) -> str:
        committed = self._population.generation
        limit = self._settings.loop.generations or 0
        return GENERATIONS if committed >= limit else MAX_EVALUATIONS
