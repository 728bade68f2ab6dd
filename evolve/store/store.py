"""The run's database: every attempt, call, evaluation and lesson; the commit is the checkpoint.

Finished calls and evaluations are written as soon as they are finished, by `keep`; a generation is
written by `commit` in one synchronous transaction. Both take time in proportion to what is new.
One process writes, held by a lock; any number may read meanwhile, and add to `steering`.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from evolve.keys import cut_keys
from evolve.records import Attempt, AttemptKey, Program, SourceFile
from evolve.records.plain import to_plain
from evolve.records.results import Call, Evaluated, Expense, Generation
from evolve.records.steering import Steer, SteerKind
from evolve.settings import Invocation
from evolve.source.analysis import fingerprint
from evolve.store.connection import (
    DATABASE,
    connect_to_read,
    connect_to_write,
    expect_run,
    naming_errors,
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
        """Opens a run to go on with it.

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
