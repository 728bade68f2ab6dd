"""Runs made from runs: a fork, what can be recovered of a damaged one, a smaller one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from evolve.errors import EvolveError, UsageError
from evolve.population import RunState
from evolve.population.snapshot import expect_frozen, freeze_past
from evolve.problem import Problem
from evolve.records import AttemptKey
from evolve.records.results import LightAttempt
from evolve.runs.run_folder import create_run_folder, load_run
from evolve.runs.trust import expect_trust, find_addresses, read_mark, write_mark
from evolve.runs.wiring import complete_settings
from evolve.settings import Settings
from evolve.store import Store
from evolve.store.copying import (
    Pruned,
    Repaired,
    copy_database,
    prune_database,
    repair_database,
)

FORKED, REPAIRED = "forked", "repaired"


def fork_run(
    source: Path,
    change: Callable[[Settings], Settings],
    *,
    generation: int | None,
    folder: Path | None,
    parent: Path,
    trusts: bool = False,
) -> tuple[Path, int]:
    """Makes a run that holds everything of another one up to a generation.

    It is the user's where the other one is.

    Args:
        source: The other run's folder.
        change: Returns settings as the user wants them for the new run.
        generation: The last committed one by default.
        folder: Folder of the new run, or None for a new one in `parent`.
        parent: Where new run folders are made.
        trusts: Whether the user allows what the folder of a stranger would do.

    Returns:
        The new folder, and the generation.

    Raises:
        UsageError: There is no such generation, or the folder is not empty.
        StoreError: A database cannot be read or written.
    """
    problem, recorded = load_run(source)
    named = read_mark(source, recorded)
    if trusts:
        named = expect_trust(source, problem, recorded, trusts=True)
    settings, islands = complete_settings(change(recorded)), recorded.search.islands
    if settings.search.islands < islands:
        raise UsageError(
            f"search.islands: expected at least the {islands} that the run has, "
            f"got {settings.search.islands}"
        )
    made = create_run_folder(problem, settings, folder=folder, parent=parent)
    try:
        last = copy_database(source, made, generation)
        _note_origin(made, source, last, FORKED)
        with closing(Store.open_to_write(made)) as store:
            freeze_past(store, problem, settings.search)
    except EvolveError:
        shutil.rmtree(made)
        raise
    if named is not None:
        write_mark(made, load_run(made)[1], [*named, *find_addresses(change(Settings()))])
    return made, last


def repair_run(source: Path, folder: Path) -> Repaired:
    """Makes a run of what can be read of a damaged one; it is the user's where that one is.

    Returns:
        What was saved; `evolve resume` continues from its last generation.

    Raises:
        UsageError: The folder is not empty.
        StoreError: Nothing can be saved.
    """
    problem, settings = load_run(source)
    named = read_mark(source, settings)
    made = create_run_folder(problem, settings, folder=folder, parent=folder.parent)
    try:
        saved = repair_database(source, made)
        _note_origin(made, source, saved.generation, REPAIRED)
    except EvolveError:
        shutil.rmtree(made)
        raise
    if named is not None:
        write_mark(made, load_run(made)[1], named)
    return saved


def _note_origin(folder: Path, source: Path, generation: int, how: str) -> None:
    with closing(Store.open_to_write(folder)) as store:
        origin = {"run": str(source.resolve()), "generation": generation, "how": how}
        store.set_facts(origin=origin, stopped_because=how)


def prune_run(folder: Path, *, age: int, fewest_bytes: int) -> Pruned:
    """Drops artifacts, and sources of rejected programs, that no prompt will show.

    Args:
        folder: The run's folder.
        age: Generations, counted from the last one, of which all is kept.
        fewest_bytes: Smaller artifacts, compressed, are kept.

    Raises:
        UsageError: The folder is no run, or is in use.
        StoreError: The database cannot be read or written.
    """
    problem, settings = load_run(folder)
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
    run_state = RunState(problem, settings.search)
    parents: dict[AttemptKey, AttemptKey | None] = {}
    shown: set[AttemptKey] = set()

    def note_parents() -> Iterator[LightAttempt]:
        for attempt in store.light_attempts():
            parents[attempt.key] = attempt.parent
            yield attempt

    for generation in run_state.add_all(note_parents(), last):
        if generation >= last - settings.loop.lag - 1:
            for archive in run_state.islands.archives:
                shown.update(elite.key for elite in archive.elites)
    if run_state.champion is not None:
        shown.add(run_state.champion.key)
    for key in list(shown):
        parent = parents.get(key)
        while parent is not None and parent not in shown:
            shown.add(parent)
            parent = parents.get(parent)
    return shown
