"""What a run shows where Python started it: calls of the caller's functions, and plain lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from evolve.population import Population
from evolve.population.population import light_attempts
from evolve.problem import Problem
from evolve.records import AttemptKey
from evolve.records.results import Generation, LightAttempt
from evolve.report.live import StandardOutput, TerminalView
from evolve.report.trackers import TrackedRun, TrackerObserver, open_trackers
from evolve.runs.opening import RunView
from evolve.search.loop import Observer
from evolve.settings import Settings, flatten_settings
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
    ) -> Iterator[Sequence[Observer]]:
        """Returns what sees the events of the run."""
        shown: AbstractContextManager[Sequence[Observer]] = nullcontext(())
        if self._terminal is not None:
            shown = self._terminal.watch(store, problem, settings, journal)
        with shown as observers:
            yield (*observers, _Caller(*self._calls))


class _Caller(Observer):
    """Calls functions with plain data."""

    def __init__(
        self, on_attempt: Callback, on_generation: Callback, on_improvement: Callback
    ) -> None:
        self._on_attempt = on_attempt
        self._on_generation = on_generation
        self._on_improvement = on_improvement
        self._best: AttemptKey | None = None

    def on_commit(self, population: Population, generation: Generation | None) -> None:
        """Calls what is to be called after a generation."""
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
                    "id": champion.program_id,
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
        "id": attempt.program_id,
        "status": str(attempt.status),
        "objective": attempt.objective,
    }


class TrackedView:
    """A view beside which trackers follow the run.

    Args:
        view: What people see.
        names: Of the trackers.
    """

    def __init__(self, view: RunView, names: Sequence[str]) -> None:
        self._view = view
        self._names = names
        self.tell = view.tell
        self.waiting = view.waiting

    @contextmanager
    def watch(
        self, store: Store, problem: Problem, settings: Settings, journal: Journal
    ) -> Iterator[Sequence[Observer]]:
        """Returns what sees the events of the run."""
        run = TrackedRun(store.folder, problem.name, flatten_settings(settings))
        observer = TrackerObserver(open_trackers(self._names, run), journal, self.tell)
        with self._view.watch(store, problem, settings, journal) as observers:
            try:
                yield (*observers, observer)
            finally:
                observer.end()
