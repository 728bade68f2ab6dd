"""The loop: select, plan, execute, evaluate, summarize, commit, add.

Four methods of `Search` are the page to read: `run`, `_start` (select), `_run_generation` (plan,
execute, evaluate, summarize: `evolve.search.generation`) and `_commit` (commit, add). The others
start generations when their turn comes, make durable what they bring, and decide when to stop.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from evolve.errors import BudgetExhaustedError
from evolve.problem import Problem
from evolve.records import Plan, results
from evolve.records.results import FRUITLESS_UNTIL, Call, Evaluated, Expense, Generation, SlotResult
from evolve.search.generation import (
    GenerationRunner,
    Planned,
    SlotEnded,
    Threads,
    mark_duplicates,
    reject_known,
)
from evolve.search.population import Population, light_attempts
from evolve.search.schedule import FruitlessWatch, Schedule, Turn, size_of
from evolve.search.select import JobMaker
from evolve.settings import SettingsHistory
from evolve.settings.sections import MOST_LAG
from evolve.steps.jobs import GenerationJob
from evolve.steps.journal import Journal
from evolve.store import Store

# How long running calls and evaluations are waited for once the run is asked to stop.
_GRACE_SECONDS = {results.INTERRUPTED: 10.0, results.MAX_SECONDS: 0.5}
_TICK_SECONDS = 0.25


class Interrupt:
    """Asks the loop to stop."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A finished call or evaluation, whose slot waits until it is durable."""

    item: Call | Evaluated | Expense
    durable: Future[None] = field(default_factory=Future)


Event = Recorded | Planned | SlotEnded | Generation | Interrupt | BaseException


class Inbox:
    """Events on their way to the loop. It has no lock, for a signal's handler puts some in."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._is_closed = False

    def put(self, event: Event) -> None:
        """Adds an event; once the loop has ended, nothing comes of it."""
        self._events.put(event)
        if self._is_closed:
            self.close()

    def record(self, item: Call | Evaluated | Expense) -> None:
        """Hands over a finished call or evaluation, and returns when it is durable.

        Nothing that follows from it is asked for before, so a kill loses only what is under way.

        Raises:
            BudgetExhaustedError: The loop has ended, so it never will be.
        """
        recorded = Recorded(item)
        self.put(recorded)
        recorded.durable.result()

    def wait(self, seconds: float) -> list[Event]:
        """Returns all events there are, after at least one or so long."""
        events: list[Event] = []
        try:
            events.append(self._events.get(timeout=seconds))
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            return events

    def close(self) -> None:
        """Lets nobody wait any longer for what is not taken out any more."""
        self._is_closed = True
        for event in self.wait(0.0):
            if isinstance(event, Recorded):
                event.durable.set_exception(BudgetExhaustedError(results.INTERRUPTED))


class Observer:
    """Sees what happens, on the loop's thread; overrides what it is interested in."""

    def on_record(self, item: Call | Evaluated | Expense) -> None:
        """A finished call, evaluation or expense is recorded."""

    def on_slot(self, result: SlotResult) -> None:
        """A slot has ended."""

    def on_commit(self, population: Population, generation: Generation | None) -> None:
        """A generation is committed; None once a run was rebuilt from its database."""

    def on_stop(self, reason: str, seconds: float | None) -> None:
        """The run stops for a reason; running work is waited for so long, None for its end."""

    def on_tick(self) -> None:
        """Some time has passed."""


class SearchCore:
    """What decides which generation starts when, with which job: alike in a run and its replay.

    Args:
        problem: What is solved.
        history: The settings of each generation.
        store: The run's database.
        last: The last generation.
        injected_at: Returns how many programs of the user's a generation evaluates.

    Attributes:
        population: The state after what is committed.
        schedule: Says which generation may start.
    """

    def __init__(
        self,
        problem: Problem,
        history: SettingsHistory,
        store: Store,
        last: int,
        injected_at: Callable[[int], int],
    ) -> None:
        self._history = history
        self.population = Population(problem, history.now.search)
        self.schedule = Schedule(
            generations=last,
            size_at=lambda number: size_of(history.at(number)),
            injected_at=injected_at,
        )
        self._maker = JobMaker(problem, self.population, store, history)

    def select(self, turn: Turn, plans: Mapping[int, Sequence[Plan]]) -> GenerationJob:
        """Returns the job of a generation that starts now; plans are those of all before it."""
        in_flight = range(self.population.generation + 1, turn.generation)
        pending = [plan for number in in_flight for plan in plans[number]]
        return self._maker.select(turn, pending)

    def run(
        self,
        job: GenerationJob,
        journal: Journal,
        workers: Threads,
        report: Callable[[Planned | SlotEnded], None] = lambda _: None,
    ) -> Generation:
        """Plans, executes, evaluates and summarizes; reports what happens meanwhile."""
        seed = self._history.at(job.number).loop.seed
        return GenerationRunner(seed, journal, workers, report).run(job)


class Search:
    """Runs generations until a limit, a budget, the target or an interrupt.

    Only `run`'s thread changes any state; generations run on threads of their own and report
    through `events`.

    Args:
        problem: What is solved.
        history: The settings of each generation; those of now have the number of generations.
        store: The run's database, open to write, with the initial program committed.
        journal: The way to models and evaluators, new; it keeps by `events.record`.
        events: Takes what generations, the journal and the user's interrupt report.
        observers: See what happens.
        threads: Slots that run at a time.

    Attributes:
        population: The state after what is committed.
    """

    def __init__(
        self,
        problem: Problem,
        history: SettingsHistory,
        store: Store,
        *,
        journal: Journal,
        events: Inbox,
        observers: Sequence[Observer],
        threads: int,
    ) -> None:
        self._problem = problem
        self._settings = history.now
        self._store = store
        last = store.last_generation() or 0
        limit = history.now.loop.generations or last
        self._core = SearchCore(problem, history, store, limit, self._count_injected)
        self.population, self._schedule = self._core.population, self._core.schedule
        # The generations up to this one have begun before, with what steered them.
        self._begun = store.newest_recorded()
        self._journal = journal
        journal.recall(*store.finished_after(last))
        # What is in flight began before these were committed.
        journal.share(store.finished_after(last - MOST_LAG - 1, last)[1])
        self._events = events
        self._observers = observers
        self._workers = Threads(threads)
        self._fruitless = FruitlessWatch(0 if "fruitless" in history.now.search.without else 3)
        # The generations up to this one are counted, or ended an earlier invocation.
        self._counted = int(store.facts().get(FRUITLESS_UNTIL, 0))
        # The generations in flight, in order; the results of those that have ended.
        self._running: deque[int] = deque()
        self._results: dict[int, Generation] = {}
        self._ended: dict[int, list[SlotResult]] = {}
        self._plans: dict[int, tuple[Plan, ...]] = {}
        self._planned = 0
        self._stopped_because = ""
        self._give_up_at: float | None = None
        self._seconds_before = store.seconds()
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """The running time of the run, over all its resumptions."""
        return self._seconds_before + time.monotonic() - self._started

    def run(self) -> str:
        """Runs until the end and returns why it came.

        Raises:
            MachineError: A model, the sandbox, the evaluator or the store failed.
        """
        try:
            self._rebuild()
            while self._running and not self._is_over():
                self._process(self._events.wait(_TICK_SECONDS))
                self._commit_finished()
                self._check_time()
                for observer in self._observers:
                    observer.on_tick()
            self._commit_ended_slots()
        finally:
            # What still runs ends as soon as it has an answer.
            self._events.close()
            self._workers.close()
        return self._stopped_because or self._exhausted()

    def _start(self, turn: Turn) -> None:
        """Selects for a generation, and lets it run on a thread of its own."""
        job = self._core.select(turn, self._plans)
        self._running.append(turn.generation)
        if job.digest is None:
            self._note_plans(turn.generation, ())
        threading.Thread(target=self._run_generation, args=(job,), daemon=True).start()

    def _run_generation(self, job: GenerationJob) -> None:
        """Plans, executes, evaluates and summarizes; on a thread of the generation's own."""
        try:
            found = self._core.run(job, self._journal, self._workers, self._events.put)
            self._events.put(found)
        except BaseException as error:  # noqa: BLE001 - raised again on the loop's thread
            self._events.put(error)

    def _commit(self, result: Generation) -> None:
        """Commits a generation and adds it to the population, from which others are selected."""
        number = result.number
        self._running.popleft()
        self._results.pop(number, None)
        self._ended.pop(number, None)
        generation = replace(
            reject_known(result, self.population),
            seconds=self.seconds,
            plans=self._plans.get(number, ()),
        )
        self._store.commit(generation)
        self.population.add(number, light_attempts(generation))
        # A generation in flight knows what was committed when it started.
        self._journal.forget(number - MOST_LAG)
        for observer in self._observers:
            observer.on_commit(self.population, generation)

    def _rebuild(self) -> None:
        """Adds what is committed to the population; starts the rest from the same states."""
        last = self._store.last_generation()
        committed = -1 if last is None else last
        attempts = self._store.light_attempts(self.population.generation + 1)
        for number in self.population.add_all(attempts, committed):
            self._note_plans(number, self._store.load_generation(number).plans)
            self._check_target()
            self._check_fruitless()
            if not self._is_late():
                self._start_turns(beyond=committed)
            # As in the first run: no later state before what starts from this one has started.
            while number < committed and self._running and self._holds_commits():
                self._process(self._events.wait(_TICK_SECONDS))
        self._check_time()
        for observer in self._observers:
            observer.on_commit(self.population, None)

    def _start_turns(self, beyond: int = 0) -> None:
        """Starts the generations whose turn has come; those up to `beyond` are committed."""
        population = self.population
        while not self._stopped_because:
            if self._schedule.waits_for_plans(population.generation, self._planned):
                return
            turn = self._schedule.next(population.generation, population.evaluations)
            if turn is None:
                return
            if turn.generation > beyond:
                self._start(turn)
            elif turn.generation > population.generation:
                # It was started from this state, and its plans are committed with it.
                plans = self._store.load_generation(turn.generation).plans
                self._note_plans(turn.generation, plans)

    def _count_injected(self, generation: int) -> int:
        """Reads what people ask of a generation that is to begin; returns its injected programs."""
        if generation > self._begun:
            self._store.begin_steering(generation)
        return len(results.steering_of(self._store.steering(), generation).injected)

    def _process(self, events: list[Event]) -> None:
        self._keep([event for event in events if isinstance(event, Recorded)])
        for event in events:
            if isinstance(event, Planned):
                self._note_plans(event.generation, event.plans)
                self._start_turns()
            elif isinstance(event, SlotEnded):
                self._ended.setdefault(event.generation, []).append(event.result)
                for observer in self._observers:
                    observer.on_slot(event.result)
                self._stop_for(event.result.cut_by)
            elif isinstance(event, Generation):
                self._results[event.number] = event
                self._stop_for(event.cut_by)
            elif isinstance(event, Interrupt):
                self._stop(results.INTERRUPTED)
            elif isinstance(event, BaseException):
                raise event

    def _keep(self, recorded: list[Recorded]) -> None:
        if recorded:
            self._store.keep([one.item for one in recorded])
        for one in recorded:
            one.durable.set_result(None)
            for observer in self._observers:
                observer.on_record(one.item)

    def _note_plans(self, generation: int, plans: tuple[Plan, ...]) -> None:
        self._plans.setdefault(generation, plans)
        while self._planned + 1 in self._plans:
            self._planned += 1

    def _commit_finished(self) -> None:
        """Commits generations in order, as far as they have ended.

        Nothing is committed after the target: what else is finished by then is a matter of time.
        """
        while self._running and self._stopped_because != results.TARGET:
            result = self._results.get(self._running[0])
            if result is None or self._is_torn(result) or self._holds_commits():
                return
            self._commit(result)
            self._check_target()
            self._check_patience()
            self._check_fruitless()
            self._start_turns()

    def _holds_commits(self) -> bool:
        """Returns whether a generation is yet to start from the present state."""
        return not self._stopped_because and self._schedule.waits_for_plans(
            self.population.generation, self._planned
        )

    def _is_torn(self, result: Generation) -> bool:
        """Returns whether a generation was cut so that it is to be run again, not committed.

        What a budget cut short is committed as far as it came, for it may hold the champion.
        """
        if self._stopped_because in {results.INTERRUPTED, results.TARGET, results.FRUITLESS}:
            return bool(result.cut_by) or any(slot.cut_by for slot in result.slots)
        if not result.slots:
            return bool(result.cut_by)
        return all(slot.cut_by and not slot.attempts for slot in result.slots)

    def _check_target(self) -> None:
        target, champion = self._settings.budget.target, self.population.champion
        if target is None or champion is None or self._stopped_because:
            return
        if not self._problem.direction.is_better(target, champion.objective):
            self._stop(results.TARGET)

    def _check_fruitless(self) -> None:
        population = self.population
        if not self._settings.models.is_configured or population.generation <= self._counted:
            return
        if self._fruitless.add(population.newest):
            self._stop_for(results.FRUITLESS)

    def _check_patience(self) -> None:
        patience = self._settings.budget.patience
        population = self.population
        if patience and population.evaluations - population.progressed_at >= patience:
            self._stop_for(results.PATIENCE)

    def _check_time(self) -> None:
        if self._is_late():
            self._stop_for(results.MAX_SECONDS)

    def _is_late(self) -> bool:
        limit = self._settings.budget.max_seconds
        return limit is not None and self.seconds >= limit

    def _stop_for(self, reason: str) -> None:
        """Stops for a reason, if there is one and the run is not stopping already."""
        if reason and not self._stopped_because:
            self._stop(reason)

    def _stop(self, reason: str) -> None:
        self._stopped_because = reason
        self._journal.stop(reason)
        grace = _GRACE_SECONDS.get(reason)
        if grace is not None:
            self._give_up_at = time.monotonic() + grace
        for observer in self._observers:
            observer.on_stop(reason, grace)

    def _is_over(self) -> bool:
        """Returns whether nothing is left to wait for, or it has been waited for long enough."""
        if not self._stopped_because:
            return False
        if self._give_up_at is not None and time.monotonic() > self._give_up_at:
            return True
        if self._stopped_because in {results.TARGET, results.FRUITLESS}:
            return True
        result = self._results.get(self._running[0])
        return result is not None and self._is_torn(result)

    def _commit_ended_slots(self) -> None:
        """Commits what the generations in flight have when a cap on time cuts their other slots."""
        while self._stopped_because == results.MAX_SECONDS and self._running:
            number = self._running[0]
            ended = sorted(self._ended.get(number, ()), key=lambda result: result.slot)
            if not any(result.attempts for result in ended):
                return
            self._commit(self._results.get(number) or Generation(number, mark_duplicates(ended)))

    def _exhausted(self) -> str:
        committed = self.population.generation
        limit = self._settings.loop.generations or 0
        return results.GENERATIONS if committed >= limit else results.MAX_EVALUATIONS
