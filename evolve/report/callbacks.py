"""What a run shows where Python started it: calls of the caller's functions, and plain lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from evolve.population import Population
from evolve.population.population import light_attempts
from evolve.problem import Problem
from evolve.records import AttemptKey
from evolve.records.results import (
    Call,
    Evaluated,
    Expense,
    Generation,
    LightAttempt,
    SlotResult,
)
from evolve.report.live import StandardOutput, TerminalView
from evolve.search.loop import Observer
from evolve.settings import Settings
from evolve.steps.journal import Journal
from evolve.store import Store

Callback = Callable[[dict[str, Any]], object] | None


class CallbackView:
    """Calls functions of the caller, each on the thread of the run.

    Args:
        on_attempt: Gets each committed attempt.
        on_generation: Gets each generation.
        on_improvement: Gets each new champion.
        shows: Whether progress is printed, too.
    """

    def __init__(
        self,
        on_attempt: Callback,
        on_generation: Callback,
        on_improvement: Callback,
        *,
        shows: bool,
    ) -> None:
        self._calls = (on_attempt, on_generation, on_improvement)
        self._terminal = TerminalView(StandardOutput()) if shows else None

    def tell(self, line: str) -> None:
        """Prints one line, where progress is shown."""
        if self._terminal is not None:
            self._terminal.tell(line)

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """Shows that something is waited for, where progress is shown."""
        return nullcontext() if self._terminal is None else self._terminal.waiting(what)

    @contextmanager
    def watch(
        self, store: Store, problem: Problem, settings: Settings, journal: Journal
    ) -> Iterator[Observer]:
        """Yields what sees the events of the run."""
        shown: AbstractContextManager[Observer] = nullcontext(Observer())
        if self._terminal is not None:
            shown = self._terminal.watch(store, problem, settings, journal)
        with shown as observer:
            yield _Caller(observer, *self._calls)


class _Caller(Observer):
    """Calls functions with plain data, and passes all events on."""

    def __init__(
        self,
        observer: Observer,
        on_attempt: Callback,
        on_generation: Callback,
        on_improvement: Callback,
    ) -> None:
        self._observer = observer
        self._on_attempt = on_attempt
        self._on_generation = on_generation
        self._on_improvement = on_improvement
        self._best: AttemptKey | None = None

    def on_record(self, item: Call | Evaluated | Expense) -> None:
        """Passes it on."""
        self._observer.on_record(item)

    def on_slot(self, result: SlotResult) -> None:
        """Passes it on."""
        self._observer.on_slot(result)

    def on_stop(self, reason: str, seconds: float | None) -> None:
        """Passes it on."""
        self._observer.on_stop(reason, seconds)

    def on_tick(self) -> None:
        """Passes it on."""
        self._observer.on_tick()

    def on_commit(self, population: Population, generation: Generation | None) -> None:
        """Calls what is to be called after a generation."""
        self._observer.on_commit(population, generation)
        champion = population.champion
        if champion is None:
            return
        is_new, self._best = champion.key != self._best, champion.key
        # A run that was found again is rebuilt first: nothing of that is new.
        if generation is None:
            return
        if self._on_attempt is not None:
            for attempt in light_attempts(generation):
                self._on_attempt(_describe_attempt(attempt))
        if self._on_generation is not None:
            self._on_generation(
                {
                    "generation": population.generation,
                    "evaluations": population.evaluations,
                    "objective": champion.objective,
                }
            )
        if is_new and self._on_improvement is not None:
            self._on_improvement(
                {
                    "attempt": str(champion.key),
                    "program": champion.program_id,
                    "generation": champion.key.generation,
                    "objective": champion.objective,
                }
            )


def _describe_attempt(attempt: LightAttempt) -> dict[str, Any]:
    return {
        "attempt": str(attempt.key),
        "generation": attempt.key.generation,
        "slot": attempt.key.slot,
        "island": attempt.island,
        "parent": None if attempt.parent is None else str(attempt.parent),
        "program": attempt.program_id,
        "status": str(attempt.status),
        "objective": attempt.objective,
    }
