"""What may be dropped from a database without changing how its run goes on."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from evolve.errors import StoreError
from evolve.store.artifacts import ArtifactFiles
from evolve.store.lock import RunLock
from evolve.store.opening import DATABASE, connect_to_write, expect_run, telling

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from pathlib import Path

    from evolve.records import AttemptKey

# The fact that names the last generation whose prompts may have shown what was dropped.
PRUNED = "pruned"


class Pruned(NamedTuple):
    """What was dropped.

    Attributes:
        artifacts: Evaluations whose artifacts were dropped.
        sources: Programs whose source was dropped.
        bytes: What the database and the artifacts in files are smaller by.
    """

    artifacts: int
    sources: int
    bytes: int


def prune_database(
    folder: Path, *, keep: Iterable[AttemptKey], upto: int, fewest_bytes: int, last: int
) -> Pruned:
    """Drops artifacts, and sources of programs that were never evaluated.

    Args:
        folder: The run's folder.
        keep: Attempts whose artifacts stay.
        upto: The last generation of which anything is dropped.
        fewest_bytes: Artifacts that take less stay: compressed, or as files.
        last: The last committed generation.

    Raises:
        UsageError: The folder is no run, or is in use.
        StoreError: The database cannot be read or written.
    """
    expect_run(folder)
    lock = RunLock.acquire(folder)
    try:
        before = (folder / DATABASE).stat().st_size
        with telling(folder), closing(connect_to_write(folder)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            artifacts, sources = _drop(connection, keep, (upto, fewest_bytes))
            if artifacts or sources:
                # Later generations than those that lost something were made from them.
                fact = (PRUNED, str(last))
                connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", fact)
            connection.execute("COMMIT")
            freed = _drop_files(folder, connection)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Pruned(artifacts, sources, freed + before - (folder / DATABASE).stat().st_size)
    finally:
        lock.release()


def _drop_files(folder: Path, connection: sqlite3.Connection) -> int:
    try:
        return ArtifactFiles(folder).drop_unused(connection)
    except OSError as error:
        raise StoreError(
            f"{folder}: artifacts cannot be deleted: {error.strerror or error}"
        ) from error


def _drop(
    connection: sqlite3.Connection, keep: Iterable[AttemptKey], limits: tuple[int, int]
) -> tuple[int, int]:
    connection.execute("CREATE TEMP TABLE keep (generation, slot, number)")
    connection.executemany("INSERT INTO keep VALUES (?, ?, ?)", keep)
    artifacts = connection.execute(
        "DELETE FROM artifacts AS a WHERE generation <= ? AND LENGTH(data) + COALESCE((SELECT "
        "SUM(bytes) FROM artifact_files f WHERE f.generation = a.generation "
        "AND f.slot = a.slot AND f.sequence = a.sequence), 0) >= ? AND "
        "(generation, slot, sequence) NOT IN (SELECT generation, slot, evaluation FROM attempts "
        "JOIN keep USING (generation, slot, number) WHERE evaluation IS NOT NULL)",
        limits,
    ).rowcount
    connection.execute(
        "DELETE FROM artifact_files WHERE (generation, slot, sequence) NOT IN "
        "(SELECT generation, slot, sequence FROM artifacts)"
    )
    sources = connection.execute(
        "UPDATE programs SET source = NULL WHERE source IS NOT NULL "
        "AND id IN (SELECT program FROM attempts WHERE generation <= ?) "
        "AND id NOT IN (SELECT program FROM evaluations)",
        limits[:1],
    ).rowcount
    connection.execute(
        "DELETE FROM sources "
        "WHERE number NOT IN (SELECT source FROM programs WHERE source IS NOT NULL)"
    )
    return artifacts, sources
