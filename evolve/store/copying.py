"""Copies of a run's database, whole or of what can still be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from evolve.errors import DamagedStoreError, StoreError, UsageError
from evolve.store.connection import (
    DATABASE,
    connect_to_read,
    connect_to_write,
    naming_errors,
    parsing,
)
from evolve.store.queries import Reader

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
        last = Reader(copy.original, source).last_generation()
        if last is None:
            raise UsageError(f"{source}: the run has no generation yet")
        upto = last if generation is None else generation
        if not 0 <= upto <= last:
            raise UsageError(f"{source}: expected a generation from 0 to {last}, got {generation}")
        copy.add("facts", "SELECT * FROM facts")
        for number in range(upto + 1):
            copy.add_generation(number)
    return upto


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
        if found:
            places = ", ".join("?" * len(found[0]))
            # A program may be known from an earlier generation.
            self._copy.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({places})", found)
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
