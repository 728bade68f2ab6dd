"""A run that another process writes, shown from its database while it goes on."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

from evolve.errors import UsageError
from evolve.population.snapshot import load_standing
from evolve.report.live import LiveView, PlainView, Progress, Terminal
from evolve.run.outcome import Outcome, read_outcome
from evolve.run.wiring import restore_budget
from evolve.store import Store, is_locked

if TYPE_CHECKING:
    from pathlib import Path

    from evolve.population import Standing
    from evolve.problem import Problem
    from evolve.settings import Settings

_POLL_SECONDS = 0.5


def follow_run(folder: Path, problem: Problem, settings: Settings, stream: Terminal) -> Outcome:
    """Shows a run until no process writes it any more, and gives how it ended.

    The outcome's reason is empty when the process left none: it was killed.

    Args:
        folder: The run's folder.
        problem: Its problem.
        settings: Its settings.
        stream: Gets a live view when it is a terminal, else plain lines.

    Raises:
        UsageError: The run has no checkpoint yet.
        StoreError: The database cannot be read.
    """
    with closing(Store.open_to_read(folder)) as store:
        standing = load_standing(store, problem, settings.search)
        if standing.champion is None or standing.initial is None:
            raise UsageError(f"{folder}: the run has no checkpoint yet; try again in a moment")
        generations = settings.loop.generations or standing.generation
        budget = restore_budget(store, settings)
        progress = Progress(folder.name, generations, budget, standing.initial)
        before = Counter(store.outcomes())
        with LiveView(progress) if stream.isatty() else PlainView(progress, stream) as view:
            goes_on = True
            while goes_on:
                # What was committed last is read once more after the process has gone.
                goes_on = is_locked(folder)
                tell_new(store, standing)
                progress.budget = restore_budget(store, settings)
                progress.outcomes = Counter(store.outcomes()) - before
                view.on_commit(standing)
                if goes_on:
                    time.sleep(_POLL_SECONDS)
        return read_outcome(store, standing, store.facts().get("stopped_because") or "")


def tell_new(store: Store, standing: Standing) -> None:
    """Brings a standing up to the last committed generation."""
    last = store.last_generation()
    if last is not None and last > standing.generation:
        told = store.light_attempts(standing.generation + 1)
        for _ in standing.tell_all(told, last):
            pass
