"""Copies of a run's database, up to a generation."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from evolve.errors import UsageError
from evolve.store.artifacts import ArtifactFiles
from evolve.store.opening import DATABASE, connect_to_read, telling

if TYPE_CHECKING:
    from pathlib import Path


BY_GENERATION = (
    "generations",
    "attempts",
    "evaluations",
    "artifacts",
    "artifact_files",
    "expenses",
    "calls",
)
# What is dropped when nothing that is left refers to it.
_DROP_UNUSED = """
    DELETE FROM programs WHERE id NOT IN (SELECT program FROM evaluations)
        AND id NOT IN (SELECT program FROM attempts WHERE program IS NOT NULL);
    DELETE FROM sources
        WHERE number NOT IN (SELECT source FROM programs WHERE source IS NOT NULL);
    DELETE FROM snapshots;
"""


def copy_database(source: Path, target: Path, generation: int | None) -> int:
    """Copies a run's database with everything up to a generation.

    Args:
        source: Folder of the run; it may be running.
        target: Folder without a database.
        generation: The last one that is copied; the last committed one by default.

    Returns:
        The last generation of the copy.

    Raises:
        UsageError: The run has no such generation.
        StoreError: A database cannot be read or written.
    """
    with telling(target), closing(connect_copy(target)) as copy:
        with telling(source), closing(connect_to_read(source)) as original:
            last = _find_generation(original, source, generation)
            original.backup(copy)
        cut_after(copy, last)
        # Another run, with launches and settings of its own.
        copy.execute("DELETE FROM launches")
        copy.execute("VACUUM")
        ArtifactFiles(source).copy_to(target, copy)
    return last


def connect_copy(folder: Path) -> sqlite3.Connection:
    """Makes the database of a copy."""
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    connection.execute("PRAGMA page_size = 16384")
    return connection


def _find_generation(original: sqlite3.Connection, source: Path, generation: int | None) -> int:
    (last,) = original.execute("SELECT MAX(generation) FROM generations").fetchone()
    if last is None:
        raise UsageError(f"{source}: the run has no generation yet")
    if generation is None:
        return int(last)
    if not 0 <= generation <= last:
        raise UsageError(f"{source}: expected a generation from 0 to {last}, got {generation}")
    return generation


def cut_after(copy: sqlite3.Connection, generation: int) -> None:
    """Drops the generations after one, and what only they refer to."""
    copy.execute("BEGIN IMMEDIATE")
    for table in BY_GENERATION:
        copy.execute(f"DELETE FROM {table} WHERE generation > ?", (generation,))  # noqa: S608
    for statement in _DROP_UNUSED.split(";")[:-1]:
        copy.execute(statement)
    copy.execute("COMMIT")
