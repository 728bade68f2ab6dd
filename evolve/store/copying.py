"""Copies of a run's database, whole or of what can still be read, and smaller ones."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from evolve.errors import DamagedStoreError, StoreError, UsageError
from evolve.records import AttemptKey
from evolve.store.connection import (
    DATABASE,
    RunLock,
    connect_to_read,
    connect_to_write,
    expect_run,
    naming_errors,
    parsing,
)
from evolve.store.queries import Reader

AS_RECORDED = "as_recorded"
"""The fact that names the last generation that a replay cannot make again.

It had other settings, evaluated elites again, or was shown what has been pruned since.
"""

_BY_GENERATION = ("attempts", "evaluations", "artifacts", "calls", "expenses", "steering")
_PROGRAMS = """
    SELECT * FROM programs WHERE id IN (SELECT program FROM evaluations WHERE generation = ?1
        UNION SELECT program FROM attempts WHERE generation = ?1)
"""
_MOST_FINDINGS = 5


class Repaired(NamedTuple):
    """What was copied of a damaged run.

    Attributes:
        generation: The last one of which, and of those before, everything can be read.
        calls: Calls of later generations that were left out, as far as they could be counted.
        evaluations: Evaluations, likewise.
        lost: Names of facts, and numbers of invocations, that could not be read.
        findings: What SQLite's check of the database said; empty when it found nothing.
    """

    generation: int
    calls: int
    evaluations: int
    lost: list[str]
    findings: list[str]


class Pruned(NamedTuple):
    """What was dropped.

    Attributes:
        artifacts: Evaluations whose artifacts were dropped.
        sources: Programs whose source was dropped.
        bytes: What the database is smaller by.
    """

    artifacts: int
    sources: int
    bytes: int


def copy_database(source: Path, target: Path, generation: int | None) -> int:
    """Copies a run's database with everything up to a generation, but for its invocations.

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
    with _open_both(source, target) as copy:
        last = _find_generation(Reader(copy.original, source), generation)
        copy.add("facts", "SELECT * FROM facts")
        for number in range(last + 1):
            copy.add_generation(number)
    return last


def repair_database(source: Path, target: Path) -> Repaired:
    """Copies what can be read of a damaged database, up to its last whole generation.

    Nothing of a later generation is kept: what was recorded there may rest on what is lost.

    Args:
        source: Folder of the damaged run.
        target: Folder without a database.

    Raises:
        StoreError: Not even the starting program can be read.
    """
    with _open_both(source, target) as copy:
        findings = copy.check()
        lost = copy.add_readable("facts", "name", "value")
        lost += copy.add_readable("invocations", "number", "changes")
        last = -1
        while copy.add_whole(last + 1):
            last += 1
        if last < 0:
            raise StoreError(f"{source / DATABASE}: damaged: not even the start can be read")
        calls, evaluations = copy.count_after("calls", last), copy.count_after("evaluations", last)
    return Repaired(last, calls, evaluations, lost, findings)


def prune_database(
    folder: Path, *, keep: Iterable[AttemptKey], upto: int, fewest_bytes: int, last: int
) -> Pruned:
    """Drops artifacts, and sources of programs that were never evaluated.

    Args:
        folder: The run's folder.
        keep: Attempts whose artifacts stay.
        upto: The last generation of which anything is dropped.
        fewest_bytes: Artifacts that take less, compressed, stay.
        last: The last committed generation.

    Raises:
        UsageError: The folder is no run, or is in use.
        StoreError: The database cannot be read or written.
    """
    expect_run(folder)
    lock = RunLock.acquire(folder)
    try:
        before = (folder / DATABASE).stat().st_size
        with naming_errors(folder), closing(connect_to_write(folder)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            artifacts, sources = _drop(connection, keep, upto, fewest_bytes)
            if artifacts or sources:
                # Later generations than those that lost something were made from them.
                fact = (AS_RECORDED, json.dumps(last))
                connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", fact)
            connection.execute("COMMIT")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Pruned(artifacts, sources, before - (folder / DATABASE).stat().st_size)
    finally:
        lock.release()


def _find_generation(reader: Reader, generation: int | None) -> int:
    last = reader.last_generation()
    if last is None:
        raise UsageError(f"{reader.folder}: the run has no generation yet")
    if generation is None:
        return last
    if not 0 <= generation <= last:
        raise UsageError(
            f"{reader.folder}: expected a generation from 0 to {last}, got {generation}"
        )
    return generation


@contextmanager
def _open_both(source: Path, target: Path) -> Iterator[_Copy]:
    with (
        closing(connect_to_read(source)) as original,
        naming_errors(target),
        closing(connect_to_write(target)) as copy,
    ):
        # All is read as of this moment.
        original.execute("BEGIN")
        copy.execute("BEGIN")
        yield _Copy(source, original, copy)
        copy.execute("COMMIT")


class _Copy:
    """A database that is filled from another one.

    Args:
        source: Folder of the other one.
        original: The other one.
        copy: The database.
    """

    def __init__(
        self, source: Path, original: sqlite3.Connection, copy: sqlite3.Connection
    ) -> None:
        self.original = original
        self._source = source
        self._copy = copy

    def add(self, table: str, sql: str, *values: int) -> int:
        """Copies the rows of a query into a table, and returns their number."""
        with parsing(self._source):
            found = self.original.execute(sql, values).fetchall()
        for row in found:
            places = ", ".join("?" * len(row))
            # A program may be known from an earlier generation.
            self._copy.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places})", row)
        return len(found)

    def add_generation(self, number: int) -> bool:
        """Copies a generation with its programs, and returns whether it is committed."""
        self.add("programs", _PROGRAMS, number)
        for table in _BY_GENERATION:
            self.add(table, f"SELECT * FROM {table} WHERE generation = ?", number)
        return self.add("generations", "SELECT * FROM generations WHERE number = ?", number) == 1

    def add_whole(self, number: int) -> bool:
        """Copies a generation if it is committed and can be read; returns whether it was."""
        self._copy.execute("SAVEPOINT whole")
        is_whole = False
        with suppress(DamagedStoreError):
            is_committed = self.add_generation(number)
            _read_generation(Reader(self._copy, self._source), number)
            is_whole = is_committed
        if not is_whole:
            self._copy.execute("ROLLBACK TO whole")
        self._copy.execute("RELEASE whole")
        return is_whole

    def add_readable(self, table: str, key: str, text: str) -> list[str]:
        """Copies the rows with valid JSON, and returns names of the others."""
        try:
            self.add(table, f"SELECT * FROM {table} WHERE json_valid({text})")
            with parsing(self._source):
                sql = f"SELECT {key} FROM {table} WHERE NOT json_valid({text})"
                return [f"{table}: {name}" for (name,) in self.original.execute(sql)]
        except DamagedStoreError:
            return [table]

    def check(self) -> list[str]:
        """Returns what SQLite finds wrong with the original."""
        findings: list[str] = []
        try:
            for (text,) in self.original.execute(f"PRAGMA integrity_check({_MOST_FINDINGS})"):
                findings += [line for line in str(text).splitlines() if line != "ok"]
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            findings.append(str(error))
        return findings

    def count_after(self, table: str, generation: int) -> int:
        """Returns the rows of later generations, 0 where they cannot be counted."""
        with suppress(sqlite3.DatabaseError):
            sql = f"SELECT COUNT(*) FROM {table} WHERE generation > ?"
            return int(self.original.execute(sql, (generation,)).fetchone()[0])
        return 0


def _read_generation(reader: Reader, number: int) -> None:
    reader.finished_after(number - 1, number)
    for key in reader.keys_of(number):
        reader.load_attempt(key)
    reader.load_generation(number)


def _drop(
    connection: sqlite3.Connection, keep: Iterable[AttemptKey], upto: int, fewest_bytes: int
) -> tuple[int, int]:
    connection.execute("CREATE TEMP TABLE keep (generation, slot, number)")
    connection.executemany("INSERT INTO keep VALUES (?, ?, ?)", keep)
    artifacts = connection.execute(
        "DELETE FROM artifacts WHERE generation <= ? AND LENGTH(texts) >= ? AND "
        "(generation, slot, number) NOT IN (SELECT generation, slot, evaluation FROM attempts "
        "JOIN keep USING (generation, slot, number) WHERE evaluation IS NOT NULL)",
        (upto, fewest_bytes),
    ).rowcount
    sources = connection.execute(
        "UPDATE programs SET source = NULL WHERE source IS NOT NULL "
        "AND id IN (SELECT program FROM attempts WHERE generation <= ?) "
        "AND id NOT IN (SELECT program FROM evaluations)",
        (upto,),
    ).rowcount
    return artifacts, sources
