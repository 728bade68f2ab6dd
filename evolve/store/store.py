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

from evolve.errors import StoreError, UsageError
from evolve.models.budget import Totals
from evolve.records import Attempt, AttemptKey
from evolve.results import Call, Evaluated, LightAttempt
from evolve.source import fingerprint
from evolve.store import rows
from evolve.store.lock import RunLock
from evolve.store.schema import check_version, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from evolve.records import Program, Summary
    from evolve.results import Generation

DATABASE = "run.db"


class Store:
    """A run's database.

    Use `create`, `open_to_write` or `open_to_read`. Every method raises `StoreError` when the
    database cannot be read or written.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path, lock: RunLock | None) -> None:
        self.folder = folder
        self._connection = connection
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
        _expect_run(folder)
        return cls._open_locked(folder)

    @classmethod
    def open_to_read(cls, folder: Path) -> Store:
        """Opens a run to look at it, also while it is written.

        Raises:
            UsageError: The folder is no run, or is of a newer version.
        """
        _expect_run(folder)
        with _telling(folder):
            connection = sqlite3.connect(
                f"{(folder / DATABASE).resolve().as_uri()}?mode=ro", uri=True
            )
            check_version(connection, str(folder))
        return cls(connection, folder, None)

    @classmethod
    def _open_locked(cls, folder: Path) -> Store:
        lock = RunLock.acquire(folder)
        try:
            with _telling(folder):
                connection = sqlite3.connect(
                    folder / DATABASE, isolation_level=None, check_same_thread=False
                )
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                migrate(connection, str(folder))
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
                    connection.execute(rows.INSERT_CALL, rows.call_row(item))
                else:
                    self._put_program(item.program)
                    connection.execute(rows.INSERT_EVALUATION, rows.evaluation_row(item))

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

    def seconds(self) -> float:
        """Gives the running time up to the last committed generation."""
        ((seconds,),) = self._all("SELECT MAX(seconds) FROM generations")
        return float(seconds or 0.0)

    def told_attempts(self, since: int = 0) -> Iterator[LightAttempt]:
        """Gives the committed attempts in order, without sources and texts."""
        with _telling(self.folder):
            for row in self._connection.execute(rows.SELECT_TOLD, (since,)):
                yield rows.light_attempt(row)

    def load_attempt(self, key: AttemptKey) -> Attempt:
        """Gives one attempt, whole.

        Raises:
            StoreError: There is no such attempt.
        """
        found = self._all(rows.SELECT_ATTEMPT, *key)
        if not found:
            raise StoreError(f"{self.folder}: no attempt {key}")
        return rows.attempt(found[0])

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
        found = self._all(
            "SELECT verdict, cause, lesson, tags FROM lessons WHERE generation=? AND slot=?",
            generation,
            slot,
        )
        return rows.summary(found[0]) if found else None

    def lessons(self, horizon: int, limit: int) -> list[Summary]:
        """Gives the last lessons up to a generation, the newest first."""
        found = self._all(
            "SELECT verdict, cause, lesson, tags FROM lessons WHERE generation <= ? "
            "AND lesson != '' ORDER BY generation DESC, slot DESC LIMIT ?",
            horizon,
            limit,
        )
        return [rows.summary(row) for row in found]

    def children(self, parent: AttemptKey, horizon: int, limit: int) -> list[AttemptKey]:
        """Gives the attempts made from a parent up to a generation, the newest first."""
        found = self._all(rows.SELECT_CHILDREN, *parent, horizon, limit)
        return [AttemptKey(*row) for row in found]

    def finished_after(self, generation: int) -> tuple[list[Call], list[Evaluated]]:
        """Gives the calls and evaluations paid for in generations that are not committed."""
        calls = [rows.call(row) for row in self._all(rows.SELECT_CALLS, generation)]
        evaluations = [
            rows.evaluated(row) for row in self._all(rows.SELECT_EVALUATIONS, generation)
        ]
        return calls, evaluations

    def spent(self) -> dict[str, Any]:
        """Gives what the run has used: calls, tokens, money, evaluations."""
        ((calls, prompt, completion, cost, unpriced),) = self._all(rows.SELECT_SPENT)
        ((evaluations,),) = self._all("SELECT COUNT(*) FROM evaluations")
        return {
            "calls": calls,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "cost_usd": cost,
            "unpriced_calls": unpriced,
            "evaluations": evaluations,
        }

    def usage(self) -> list[tuple[str, str, Totals]]:
        """Gives what recorded calls used, by role and model."""
        return [(row[0], row[1], Totals(*row[2:])) for row in self._all(rows.SELECT_USAGE)]

    def outcomes(self) -> dict[str, int]:
        """Gives the number of committed attempts by status."""
        return dict(self._all(rows.SELECT_OUTCOMES))

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Gives the rows of a reading query, for reports."""
        return self._all(sql, *values)

    def _put_program(self, program: Program) -> None:
        source = zlib.compress(json.dumps([list(file) for file in program.files]).encode())
        self._connection.execute(
            "INSERT OR IGNORE INTO programs VALUES (?, ?, ?)",
            (program.id, fingerprint(program), source),
        )

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with _telling(self.folder):
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _telling(self.folder):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise


def _expect_run(folder: Path) -> None:
    if not (folder / DATABASE).is_file():
        raise UsageError(f"{folder}: expected a run folder with `{DATABASE}`, found none")


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    """Turns errors of SQLite into ours, naming the run."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"{folder / DATABASE}: {error}; what was committed is safe: "
            "free the disk or mend its permissions, then `evolve resume`"
        ) from error
