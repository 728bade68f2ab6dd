"""A smaller run that goes on as if nothing were missing."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from evolve.population import Standing
from evolve.population.frozen import expect_frozen
from evolve.store import Store
from evolve.store.copying import prune_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evolve.problem import Problem
    from evolve.records import AttemptKey
    from evolve.records.results import LightAttempt
    from evolve.settings import Settings
    from evolve.store.copying import Pruned


def prune_run(
    folder: Path, problem: Problem, settings: Settings, *, age: int, fewest_bytes: int
) -> Pruned:
    """Drops artifacts, and sources of rejected programs, that no prompt will show.

    Args:
        folder: The run's folder.
        problem: Its problem.
        settings: Its settings.
        age: Only what is older than so many generations is dropped.
        fewest_bytes: Smaller artifacts, compressed, are kept.

    Raises:
        UsageError: The folder is no run, or is in use.
        StoreError: The database cannot be read or written.
    """
    with closing(Store.open_to_read(folder)) as store:
        last = store.last_generation()
        if last is None:
            last = -1
        keep = find_shown(store, problem, settings, last)
    return prune_database(folder, keep=keep, upto=last - age, fewest_bytes=fewest_bytes, last=last)


def find_shown(store: Store, problem: Problem, settings: Settings, last: int) -> set[AttemptKey]:
    """Returns the attempts that a prompt may still show whole, and all their ancestors.

    Slots in flight were given parents from states as old as the lag.
    """
    expect_frozen(store, problem, settings.search)
    standing = Standing(problem, settings.search)
    parents: dict[AttemptKey, AttemptKey | None] = {}
    shown: set[AttemptKey] = set()

    def note_parents() -> Iterator[LightAttempt]:
        for attempt in store.light_attempts():
            parents[attempt.key] = attempt.parent
            yield attempt

    for generation in standing.tell_all(note_parents(), last):
        if generation >= last - settings.loop.lag - 1:
            for archive in standing.islands.archives:
                shown.update(elite.key for elite in archive.elites)
    if standing.champion is not None:
        shown.add(standing.champion.key)
    for key in list(shown):
        parent = parents.get(key)
        while parent is not None and parent not in shown:
            shown.add(parent)
            parent = parents.get(parent)
    return shown
