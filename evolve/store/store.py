"""The run's database: every attempt, call, evaluation and lesson; the commit is the checkpoint.

Finished calls and evaluations are written as soon as they are paid for, by `keep`; a generation
is told by `commit` in one synchronous transaction. Both take time in proportion to what is new.
One process writes, held by a lock; any number may read meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from evolve.errors import StoreError
from evolve.records import Attempt, AttemptKey
from evolve.results import Call, Evaluated, LightAttempt
from evolve.source import fingerprint
from evolve.store import rows
from evolve.store.lock import RunLock
from evolve.store.opening import connect_to_read, connect_to_write, expect_run, telling
from evolve.store.tally import NEWEST, count, dump
from evolve.store.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from evolve.models.budget import Totals
    from evolve.records import Program, Summary
    from evolve.results import Generation
    from evolve.store.tally import Tally


class Store:
    """A run's database.

    Use `create`, `open_to_write` or `open_to_read`. Every method raises `StoreError` when the
    database cannot be read or written.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path, lock: RunLock | None) -> None:
        self.folder = folder
        self._connection = connection
        self._texts = Texts(connection)
        self._lock = lock

    @classmethod
    def create(cls, folder: Path) -> Store:
        """Makes the database of a new run in an existing folder, and takes its lock."""
        return cls._open_locked(folder)

    @classmethod
    def open_to_write(cls, folder: Path) -> Store:
        """Opens a run to go on with it.

        Raises:
            UsageError: The folder is no run, is of a newer version, or is in use.
        """
        expect_run(folder)
        return cls._open_locked(folder)

    @classmethod
    def open_to_read(cls, folder: Path) -> Store:
        """Opens a run to look at it, also while it is written.

        Raises:
            UsageError: The folder is no run, or is of a newer version.
        """
        return cls(connect_to_read(folder), folder, None)

    @classmethod
    def _open_locked(cls, folder: Path) -> Store:
        lock = RunLock.acquire(folder)
        try:
            connection = connect_to_write(folder)
        except BaseException:
            lock.release()
            raise
        return cls(connection, folder, lock)

    def close(self) -> None:
        """Closes the database and gives its lock back."""
        with suppress(sqlite3.Error):
            self._connection.close()
        if self._lock is not None:
            self._lock.release()

    def set_facts(self, **facts: Any) -> None:
        """Writes facts about the run; any JSON value."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO facts VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in facts.items()],
            )

    def facts(self) -> dict[str, Any]:
        """Gives all facts about the run."""
        return {name: json.loads(value) for name, value in self._all("SELECT * FROM facts")}

    def keep(self, finished: Sequence[Call | Evaluated]) -> None:
        """Writes finished calls and evaluations; they are durable when this returns."""
        with self._transaction() as connection:
            for item in finished:
                if isinstance(item, Call):
                    connection.execute(rows.INSERT_CALL, rows.call_row(item, self._texts))
                else:
                    self._put_program(item.program)
                    connection.execute(rows.INSERT_EVALUATION, rows.evaluation_row(item))
                    if item.evaluation.artifacts:
                        connection.execute(rows.INSERT_ARTIFACTS, rows.artifacts_row(item))

    def commit(self, generation: Generation) -> None:
        """Writes a generation; it is the checkpoint when this returns."""
        with self._transaction() as connection:
            for result in generation.slots:
                for told in result.attempts:
                    if told.attempt.program is not None:
                        self._put_program(told.attempt.program)
                    connection.execute(rows.INSERT_ATTEMPT, rows.attempt_row(told))
                if result.summary is not None:
                    connection.execute(
                        rows.INSERT_LESSON,
                        rows.lesson_row(generation.number, result.slot, result.summary),
                    )
            connection.execute(
                "INSERT INTO generations VALUES (?, ?)", (generation.number, generation.seconds)
            )

    def last_generation(self) -> int | None:
        """Gives the number of the last committed generation, None before the first."""
        ((number,),) = self._all("SELECT MAX(generation) FROM generations")
        return None if number is None else int(number)

    def generations(self) -> list[tuple[int, float]]:
        """Gives the committed generations, each with the running time up to it."""
        return self._all("SELECT generation, seconds FROM generations ORDER BY generation")

    def keys_of(self, generation: int) -> list[AttemptKey]:
        """Gives the attempts of a generation in order."""
        found = self._all(
            "SELECT generation, slot, number FROM attempts WHERE generation = ? "
            "ORDER BY slot, number",
            generation,
        )
        return [AttemptKey(*row) for row in found]

    def seconds(self) -> float:
        """Gives the running time up to the last committed generation."""
        ((seconds,),) = self._all("SELECT MAX(seconds) FROM generations")
        return float(seconds or 0.0)

    def told_attempts(self, since: int = 0) -> Iterator[LightAttempt]:
        """Gives the committed attempts in order, without sources and texts."""
        with telling(self.folder):
            yield from map(rows.light_attempt, self._connection.execute(rows.SELECT_TOLD, (since,)))

    def load_attempt(self, key: AttemptKey) -> Attempt:
        """Gives one attempt, whole.

        Raises:
            StoreError: There is no such attempt.
        """
        found = self._all(rows.SELECT_ATTEMPT, *key)
        if not found:
            raise StoreError(f"{self.folder}: no attempt {key}")
        with telling(self.folder):
            return rows.attempt(found[0], self._texts)

    def attempts_of(self, program: str) -> list[AttemptKey]:
        """Gives the attempts whose program's id begins so, the earliest first."""
        found = self._all(
            "SELECT generation, slot, number FROM attempts WHERE substr(program, 1, ?) = ? "
            "ORDER BY generation, slot, number",
            len(program),
            program,
        )
        return [AttemptKey(*row) for row in found]

    def load_lesson(self, generation: int, slot: int) -> Summary | None:
        """Gives the summary of a slot, if there is one."""
        found = self._all(rows.SELECT_LESSON, generation, slot)
        return rows.summary(found[0]) if found else None

    def lessons(self, horizon: int, limit: int) -> list[Summary]:
        """Gives the last lessons up to a generation, the newest first."""
        return [rows.summary(row) for row in self._all(rows.SELECT_LESSONS, horizon, limit)]

    def children(self, parent: AttemptKey, horizon: int, limit: int) -> list[AttemptKey]:
        """Gives the attempts made from a parent up to a generation, the newest first."""
        found = self._all(rows.SELECT_CHILDREN, *parent, horizon, limit)
        return [AttemptKey(*row) for row in found]

    def finished_after(
        self, generation: int, upto: int = NEWEST
    ) -> tuple[list[Call], list[Evaluated]]:
        """Gives the calls and evaluations of the generations after one, up to another.

        After the last committed generation these are what was paid for and is not yet told.
        """
        calls = self._all(rows.SELECT_CALLS, generation, upto)
        evaluations = self._all(rows.SELECT_EVALUATIONS, generation, upto)
        with telling(self.folder):
            return (
                [rows.call(row, self._texts) for row in calls],
                [rows.evaluated(row, self._texts) for row in evaluations],
            )

    def save_snapshot(self, version: str, population: Any) -> None:
        """Keeps what was folded from all committed generations, in place of an earlier one.

        It only saves time: what `load_snapshot` gives may be folded again from the attempts.

        Args:
            version: Names what folded it, and with which settings.
            population: Any JSON value.
        """
        last = self.last_generation()
        if last is None:
            return
        with self._transaction() as connection:
            tally = dump(count(connection, last))
            connection.execute("DELETE FROM snapshots")
            connection.execute(
                "INSERT INTO snapshots VALUES (?, ?, ?, ?)",
                (last, version, tally, zlib.compress(json.dumps(population).encode(), 1)),
            )

    def load_snapshot(self, version: str) -> Any:
        """Gives the population that `save_snapshot` kept under this version, or None."""
        found = self._all("SELECT population FROM snapshots WHERE version = ?", version)
        with telling(self.folder):
            return json.loads(zlib.decompress(found[0][0])) if found else None

    def usage(self) -> list[tuple[str, str, Totals]]:
        """Gives what recorded calls used, by role and model."""
        return [(*key, used) for key, used in self._tally().usage.items()]

    def spent(self) -> dict[str, Any]:
        """Gives what the run has used: calls, tokens, money, evaluations."""
        tally = self._tally()
        spent = tally.spent
        return {
            "calls": spent.calls,
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "cost_usd": spent.cost_usd,
            "unpriced_calls": spent.unpriced_calls,
            "evaluations": tally.evaluations,
        }

    def outcomes(self) -> dict[str, int]:
        """Gives the number of committed attempts by status."""
        return self._tally().outcomes

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Gives the rows of a reading query, for reports."""
        return self._all(sql, *values)

    def _tally(self) -> Tally:
        with telling(self.folder):
            return count(self._connection)

    def _put_program(self, program: Program) -> None:
        sql = "SELECT source FROM programs WHERE id = ?"
        if self._connection.execute(sql, (program.id,)).fetchone() in {None, (None,)}:
            source = rows.source_row(program, self._texts)
            number = self._connection.execute(rows.INSERT_SOURCE, source).lastrowid
            self._connection.execute(
                rows.INSERT_PROGRAM, (program.id, fingerprint(program), number)
            )

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with telling(self.folder):
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with telling(self.folder):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._texts.forget()
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
