"""A new run from what another one had reached."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING

from evolve.errors import EvolveError, UsageError
from evolve.population.frozen import freeze_past
from evolve.run.folder import create_run_folder
from evolve.store import Store
from evolve.store.copying import copy_database, repair_database

if TYPE_CHECKING:
    from pathlib import Path

    from evolve.problem import Problem
    from evolve.settings import Settings
    from evolve.store.copying import Repaired

FORKED, REPAIRED = "forked", "repaired"


def fork_run(
    source: Path,
    problem: Problem,
    settings: Settings,
    *,
    generation: int | None,
    islands: int,
    folder: Path | None,
    parent: Path,
) -> tuple[Path, int]:
    """Makes a run that holds everything of another one up to a generation.

    Args:
        source: The other run's folder.
        problem: Its problem.
        settings: Of the new run.
        generation: The last committed one by default.
        islands: How many the other run has; the new one has no fewer.
        folder: Folder of the new run, or None for a new one in `parent`.
        parent: Where new run folders are made.

    Returns:
        The new folder, and the generation.

    Raises:
        UsageError: There is no such generation, or the folder is not empty.
        StoreError: A database cannot be read or written.
    """
    if settings.search.islands < islands:
        raise UsageError(
            f"search.islands: expected at least the {islands} that the run has, "
            f"got {settings.search.islands}"
        )
    made = create_run_folder(problem, settings, folder=folder, parent=parent)
    try:
        last = copy_database(source, made, generation)
        _tell_origin(made, source, last, FORKED)
        with closing(Store.open_to_write(made)) as store:
            freeze_past(store, problem, settings.search)
    except EvolveError:
        shutil.rmtree(made)
        raise
    return made, last


def repair_run(source: Path, problem: Problem, settings: Settings, folder: Path) -> Repaired:
    """Makes a run of what can be read of a damaged one.

    Returns:
        What was saved; `evolve resume` goes on from its last generation.

    Raises:
        UsageError: The folder is not empty.
        StoreError: Nothing can be saved.
    """
    made = create_run_folder(problem, settings, folder=folder, parent=folder.parent)
    try:
        saved = repair_database(source, made)
        _tell_origin(made, source, saved.generation, REPAIRED)
    except EvolveError:
        shutil.rmtree(made)
        raise
    return saved


def _tell_origin(folder: Path, source: Path, generation: int, how: str) -> None:
    with closing(Store.open_to_write(folder)) as store:
        origin = {"run": str(source.resolve()), "generation": generation, "how": how}
        store.set_facts(origin=origin, stopped_because=how)
