"""The run's database: every attempt, call, evaluation and lesson; the commit is the checkpoint.

Finished calls and evaluations are written as soon as they are finished, by `keep`; a generation is
written by `commit` in one synchronous transaction. Both take time in proportion to what is new.
One process writes, held by a lock; any number may read meanwhile, and add to `steering`. Copies are
made whole, or of what can still be read.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from evolve.errors import DamagedStoreError, StoreError, UsageError
from evolve.keys import cut_keys
from evolve.records import Attempt, AttemptKey, Program, SourceFile
from evolve.records.plain import to_plain
from evolve.records.results import Call, Evaluated, Expense, Generation, Steer, SteerKind
from evolve.settings import Invocation
from evolve.source.analysis import fingerprint
from evolve.store.connection import (
    DATABASE,
    connect_to_read,
    connect_to_write,
    expect_run,
    naming_errors,
    parsing,
    take_lock,
)
from evolve.store.queries import Reader
from evolve.store.schema import (
    ATTEMPTS,
    CALLS,
    EVALUATIONS,
    EXPENSES,
    GENERATIONS,
    INVOCATIONS,
    STEERING,
    pack,
)

# A program whose source was pruned gets it again.
_INSERT_PROGRAM = (
    "INSERT INTO programs VALUES (?, ?, ?) "
    "ON CONFLICT (id) DO UPDATE SET source = excluded.source WHERE source IS NULL"
)
_PRUNE_ARTIFACTS = """
    DELETE FROM artifacts WHERE generation <= ? AND LENGTH(texts) >= ?
        AND (generation, slot, number) NOT IN (
            SELECT generation, slot, evaluation FROM attempts JOIN json_each(?) k
                ON (generation, slot, number) = (k.value ->> 0, k.value ->> 1, k.value ->> 2)
            WHERE evaluation IS NOT NULL
        )
"""
_PRUNE_SOURCES = """
    UPDATE programs SET source = NULL WHERE source IS NOT NULL
        AND id IN (SELECT program FROM attempts WHERE generation <= ?)
        AND id NOT IN (SELECT program FROM evaluations)
"""
_MOVE = "SET generation = ?, slot = ?, number = ? WHERE generation = ? AND slot = ? AND number = ?"

AS_RECORDED = "as_recorded"
"""The fact that names the last generation that a replay cannot make again.

It had other settings, evaluated elites again, or was shown what has been pruned since.
"""


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


class Store(Reader):
    """A run's database, to read and to write.

    Use `create`, `open_to_write` or `open_to_read`. Every method raises `StoreError` when the
    database cannot be read or written.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path, lock: int | None) -> None:
        super().__init__(connection, folder)
        self._lock = lock

    @classmethod
    def create(cls, folder: Path) -> Store:
        """Makes the database of a new run in an existing folder, and takes its lock."""
        lock = take_lock(folder)
        try:
            return cls(connect_to_write(folder), folder, lock)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def open_to_write(cls, folder: Path) -> Store:
        """Opens a run to continue it.

        Raises:
            UsageError: The folder is no run, is of another version, or is in use.
        """
        expect_run(folder)
        return cls.create(folder)

    @classmethod
    def open_to_read(cls, folder: Path) -> Store:
        """Opens a run to look at it, also while it is written.

        Raises:
            UsageError: The folder is no run, or is of another version.
        """
        return cls(connect_to_read(folder), folder, None)

    def close(self) -> None:
        """Closes the database and releases its lock."""
        with suppress(sqlite3.Error):
            self._connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def set_facts(self, **facts: Any) -> None:
        """Writes facts about the run; any JSON value, or records."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO facts VALUES (?, ?)",
                [(name, cut_keys(json.dumps(to_plain(value)))) for name, value in facts.items()],
            )

    def add_invocation(self, invocation: Invocation) -> None:
        """Records that the run is started or resumed."""
        with self._transaction() as connection:
            connection.execute(f"INSERT {INVOCATIONS.insert}", INVOCATIONS.dump(invocation))

    @classmethod
    def open_to_steer(cls, folder: Path) -> Store:
        """Opens a run to add to its `steering`, also while another process runs it.

        Raises:
            UsageError: The folder is no run, or is of another version.
        """
        expect_run(folder)
        return cls(connect_to_write(folder), folder, None)

    def add_steer(self, kind: SteerKind, text: str, files: tuple[SourceFile, ...] = ()) -> Steer:
        """Asks something of the run, which the next generation to begin will follow."""
        with self._transaction() as connection:
            sql = "SELECT COALESCE(MAX(number), 0) + 1 FROM steering"
            ((number,),) = connection.execute(sql).fetchall()
            steer = Steer(number, kind, cut_keys(text), files, time=_now())
            connection.execute(f"INSERT {STEERING.insert}", STEERING.dump(steer))
        return steer

    def keep_steering(self, rows: Sequence[Steer]) -> None:
        """Records what steered another run, as it did there."""
        with self._transaction() as connection:
            connection.executemany(f"INSERT {STEERING.insert}", map(STEERING.dump, rows))

    def begin_steering(self, generation: int) -> None:
        """Lets all that was asked since the last generation count from this one on."""
        if self._all("SELECT 1 FROM steering WHERE generation IS NULL LIMIT 1"):
            with self._transaction() as connection:
                sql = "UPDATE steering SET generation = ? WHERE generation IS NULL"
                connection.execute(sql, (generation,))

    def keep(self, finished: Sequence[Call | Evaluated | Expense]) -> None:
        """Records what is finished, once; it is durable when this returns."""
        now = _now()
        with self._transaction() as connection:
            for item in finished:
                if isinstance(item, Expense):
                    row = EXPENSES.dump(replace(item, lost=cut_keys(item.lost)))
                    connection.execute(f"INSERT {EXPENSES.insert}", row)
                elif isinstance(item, Call):
                    row = CALLS.dump(replace(item, error=cut_keys(item.error), time=now))
                    connection.execute(f"INSERT OR IGNORE {CALLS.insert}", row)
                else:
                    self._put_evaluated(replace(item, time=now))

    def commit(self, generation: Generation) -> None:
        """Writes a generation; it is the checkpoint when this returns."""
        with self._transaction() as connection:
            for result in generation.slots:
                for attempt in result.attempts:
                    self._put_attempt(attempt)
            row = GENERATIONS.dump(replace(generation, time=_now()))
            connection.execute(f"INSERT {GENERATIONS.insert}", row)

    def prune(self, keep: Iterable[AttemptKey], upto: int, fewest_bytes: int) -> Pruned:
        """Drops artifacts, and sources of programs that were never evaluated.

        Args:
            keep: Attempts whose artifacts stay.
            upto: The last generation of which anything is dropped.
            fewest_bytes: Artifacts that take less, compressed, stay.
        """
        file = self.folder / DATABASE
        before = file.stat().st_size
        with self._transaction() as connection:
            values = (upto, fewest_bytes, json.dumps([*keep]))
            artifacts = connection.execute(_PRUNE_ARTIFACTS, values).rowcount
            sources = connection.execute(_PRUNE_SOURCES, (upto,)).rowcount
            if artifacts or sources:
                # Later generations than those that lost something were made from them.
                fact = (AS_RECORDED, json.dumps(self.last_generation()))
                connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", fact)
        with naming_errors(self.folder):
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Pruned(artifacts, sources, before - file.stat().st_size)

    def _put_evaluated(self, item: Evaluated) -> None:
        self._put_program(item.program)
        row = EVALUATIONS.dump(item, program=item.program.id)
        self._connection.execute(f"INSERT OR IGNORE {EVALUATIONS.insert}", row)
        if item.evaluation.artifacts:
            texts = pack(dict(item.evaluation.artifacts))
            sql = "INSERT OR IGNORE INTO artifacts VALUES (?, ?, ?, ?)"
            self._connection.execute(sql, (*item.key, texts))

    def _put_attempt(self, attempt: Attempt) -> None:
        verdict, program, place = attempt.evaluation, attempt.program, attempt.evaluated
        if program is not None and place is None:
            # What was evaluated came with its evaluation.
            self._put_program(program)
        if place is not None and place.own != place.recorded:
            # It was recorded by another slot that needed the same evaluation first.
            for table in ("evaluations", "artifacts"):
                sql = f"UPDATE {table} {_MOVE}"
                self._connection.execute(sql, (*place.own, *place.recorded))
        row = ATTEMPTS.dump(
            attempt,
            program=None if program is None else program.id,
            evaluation=None if place is None else place.own.number,
            reason=verdict.reason if place is None else "",
            detail=verdict.artifacts.get("detail", "") if place is None else "",
        )
        self._connection.execute(f"INSERT {ATTEMPTS.insert}", row)

    def _put_program(self, program: Program) -> None:
        row = (program.id, fingerprint(program), pack(to_plain(program.files)))
        self._connection.execute(_INSERT_PROGRAM, row)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with naming_errors(self.folder):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


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
