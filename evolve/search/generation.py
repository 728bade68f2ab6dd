"""One generation: plan, execute and evaluate, summarize (Wan 2025, LoongFlow)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from evolve.errors import BudgetExhaustedError
from evolve.records import Attempt, AttemptKey, Plan, Rejected, Summary
from evolve.records.results import Generation, SlotResult
from evolve.search.population import Population
from evolve.source.analysis import fingerprint
from evolve.steps.execute import UNNAMED
from evolve.steps.jobs import GenerationJob, InjectedJob, ModelJob, SlotJob
from evolve.steps.journal import Journal, SlotJournal
from evolve.steps.plan import make_plans
from evolve.steps.recorder import reject, reject_plan, same_as, seen_before
from evolve.steps.slot import run_slot
from evolve.steps.summarize import summarize_attempts

# The calls that serve a whole generation are recorded under this slot.
WHOLE = -1


@dataclass(frozen=True, slots=True)
class Planned:
    """The plans of all slots of a generation are known; only the first report of them counts."""

    generation: int
    plans: tuple[Plan, ...]


@dataclass(frozen=True, slots=True)
class SlotEnded:
    """A slot has ended."""

    generation: int
    result: SlotResult


@dataclass(frozen=True, slots=True)
class GenerationRunner:
    """Runs a generation to its end: plans, slots side by side, and a summary.

    Attributes:
        seed: Of the run.
        journal: The way to models and evaluators.
        workers: Run the slots; a slot never waits for another one.
        report: Learns of plans and ended slots, from any thread.
    """

    seed: int
    journal: Journal
    workers: Threads
    report: Callable[[Planned | SlotEnded], None]

    def run(self, job: GenerationJob) -> Generation:
        """Runs a generation; a budget that runs out cuts it short and keeps what there is.

        Raises:
            MachineError: A model, the sandbox, the evaluator or the store failed.
        """
        whole = self.journal.open_slot(job.number, WHOLE, job.parts)
        # A random stream of its own, apart from those of the slots.
        rng = np.random.default_rng([self.seed, job.number, len(job.slots), 4])
        seeds = [int(seed) for seed in rng.integers(2**31, size=2)]
        results: tuple[SlotResult, ...] = ()
        try:
            plans = self._plan(job, whole, seeds[0])
            if isinstance(plans, Rejected):
                return self._refuse(job, reject_plan(job, plans))
            results = self._execute(job, plans)
            summary = self._summarize(job, results, whole, seeds[1])
        except BudgetExhaustedError as error:
            self.report(Planned(job.number, ()))
            return Generation(job.number, results, cut_by=error.cap)
        return Generation(job.number, results, summary=summary)

    def _refuse(self, job: GenerationJob, refused: SlotResult) -> Generation:
        """Returns a generation whose planner gave no plan: only programs of people's count."""
        self.report(Planned(job.number, ()))
        injected = [slot for slot in job.slots if isinstance(slot, InjectedJob)]
        return Generation(job.number, (refused, *self._run_slots(injected, job, {})))

    def _plan(
        self, job: GenerationJob, whole: SlotJournal, seed: int
    ) -> Mapping[int, Plan] | Rejected:
        """Returns the plan of each slot that has one made for it, by slot."""
        slots = [slot.slot for slot in job.slots if isinstance(slot, ModelJob)]
        if job.digest is None or not job.digest.models.plans_apart:
            return {}
        plans = make_plans(job.digest, len(slots), ask=whole.ask, seed=seed)
        return plans if isinstance(plans, Rejected) else dict(zip(slots, plans, strict=False))

    def _execute(self, job: GenerationJob, plans: Mapping[int, Plan]) -> tuple[SlotResult, ...]:
        """Runs all slots; those for which a planner had no plan are left out."""
        slots = [
            slot
            for slot in job.slots
            if not plans or not isinstance(slot, ModelJob) or slot.slot in plans
        ]
        return self._run_slots(slots, job, plans)

    def _run_slots(
        self, slots: Sequence[SlotJob], job: GenerationJob, plans: Mapping[int, Plan]
    ) -> tuple[SlotResult, ...]:
        models = [slot.slot for slot in slots if isinstance(slot, ModelJob)]
        gathered = _Plans(models, lambda plans: self.report(Planned(job.number, plans)))
        # The tuning slot, the last one, takes longest.
        running = [
            self.workers.submit(partial(self._run_slot, slot, job, plans.get(slot.slot), gathered))
            for slot in reversed(slots)
        ]
        return mark_duplicates([future.result() for future in reversed(running)])

    def _run_slot(
        self, slot: SlotJob, job: GenerationJob, plan: Plan | None, gathered: _Plans
    ) -> SlotResult:
        parts = slot.parts if isinstance(slot, ModelJob) else {}
        result = run_slot(
            slot,
            job,
            plan,
            rng=np.random.default_rng([self.seed, job.number, slot.slot]),
            journal=self.journal.open_slot(job.number, slot.slot, parts, job.rules),
            on_plan=partial(gathered.add, slot.slot),
        )
        self.report(SlotEnded(job.number, result))
        return result

    def _summarize(
        self,
        job: GenerationJob,
        results: Sequence[SlotResult],
        whole: SlotJournal,
        seed: int,
    ) -> Summary | None:
        if job.digest is None or not job.summarizes:
            return None
        models = {slot.slot for slot in job.slots if isinstance(slot, ModelJob)}
        attempts = [one.attempts for one in results if one.slot in models]
        return summarize_attempts(job.digest, attempts, ask=whole.ask, seed=seed)


class _Plans:
    """Gathers the plans of the slots of a generation, and reports them once all are known."""

    def __init__(self, slots: Sequence[int], report: Callable[[tuple[Plan, ...]], None]) -> None:
        self._lock = threading.Lock()
        self._missing = set(slots)
        self._plans: dict[int, Plan] = {}
        self._report = report

    def add(self, slot: int, plan: Plan | None) -> None:
        """Adds the plan of a slot, or that it has none; only the first word of a slot counts."""
        with self._lock:
            if slot not in self._missing:
                return
            self._missing.discard(slot)
            if plan is not None and plan.change != UNNAMED:
                self._plans[slot] = plan
            if self._missing:
                return
        self._report(tuple(self._plans[slot] for slot in sorted(self._plans)))


def mark_duplicates(results: Iterable[SlotResult]) -> tuple[SlotResult, ...]:
    """Returns the results of a generation with each program counted once, in slot order.

    Slots run side by side, and an evaluation is shared by those that need it at the same time:
    which of them counts must not depend on which came first.
    """
    first: dict[str, AttemptKey] = {}

    def find_earlier(attempt: Attempt, mark: str) -> Rejected | None:
        owner = first.setdefault(mark, attempt.key)
        return None if owner == attempt.key else same_as(owner)

    return _reject_duplicates(results, find_earlier)


def reject_known(generation: Generation, population: Population) -> Generation:
    """Returns a generation without programs that an earlier one had while it was in flight.

    Args:
        generation: About to be committed.
        population: As of the generation before it.
    """

    def find_earlier(_: Attempt, mark: str) -> Rejected | None:
        earlier = population.find_duplicate(mark, population.generation)
        return None if earlier is None else seen_before(earlier)

    return replace(generation, slots=_reject_duplicates(generation.slots, find_earlier))


def _reject_duplicates(
    results: Iterable[SlotResult], find_earlier: Callable[[Attempt, str], Rejected | None]
) -> tuple[SlotResult, ...]:
    """Returns results in which evaluated attempts are rejected for which there is a reason."""

    def check(attempt: Attempt) -> Attempt:
        if attempt.evaluated is None or attempt.program is None:
            return attempt
        reason = find_earlier(attempt, fingerprint(attempt.program))
        if reason is None:
            return attempt
        return replace(attempt, evaluation=reject(reason), evaluated=None)

    return tuple(replace(one, attempts=tuple(map(check, one.attempts))) for one in results)


T = TypeVar("T")


class Threads:
    """Daemon threads: a model or an evaluator that hangs does not keep a run from ending.

    Args:
        count: How many functions run at a time.
    """

    def __init__(self, count: int) -> None:
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._waiting = queue.SimpleQueue()
        self._count = count
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Starts a function as soon as there is a thread for it; functions begin in order."""
        future: Future[T] = Future()
        self._waiting.put((future, function))
        return future

    def close(self) -> None:
        """Ends each thread as soon as it has nothing to do."""
        for _ in range(self._count):
            self._waiting.put(None)

    def _work(self) -> None:
        while (work := self._waiting.get()) is not None:
            future, function = work
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
                future.set_exception(error)
