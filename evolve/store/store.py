"""The run's database: every attempt, call, evaluation and lesson; the commit is the checkpoint.

Finished calls and evaluations are written as soon as they are paid for, by `keep`; a generation
is written by `commit` in one synchronous transaction. Both take time in proportion to what is new.
One process writes, held by a lock; any number may read meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from evolve.keys import cut_keys
from evolve.records.results import Call, Evaluated, Expense
from evolve.source import fingerprint
from evolve.store import rows, statements
from evolve.store.lock import RunLock
from evolve.store.opening import connect_to_read, connect_to_write, expect_run, telling
from evolve.store.reading import Reader
from evolve.store.tally import count, dump

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from evolve.records import Program
    from evolve.records.results import Generation
    from evolve.settings.launches import Launch


class Store(Reader):
    """A run's database, to read and to write.

    Use `create`, `open_to_write` or `open_to_read`. Every method raises `StoreError` when the
    database cannot be read or written.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path, lock: RunLock | None) -> None:
        super().__init__(connection, folder)
        self._lock = lock

    @classmethod
    def create(cls, folder: Path) -> Store:
        """Makes the database of a new run in an existing folder, and takes its lock."""
        return cls._open_locked(folder)

    @classmethod
    def open_to_write(cls, folder: Path) -> Store:
        """Opens a run to go on with it.

        Raises:
            UsageError: The folder is no run, is of another version, or is in use.
        """
        expect_run(folder)
        return cls._open_locked(folder)

    @classmethod
    def open_to_read(cls, folder: Path) -> Store:
        """Opens a run to look at it, also while it is written.

        Raises:
            UsageError: The folder is no run, or is of another version.
        """
        return cls(connect_to_read(folder), folder, None)

    @classmethod
    def _open_locked(cls, folder: Path) -> Store:
        lock = RunLock.acquire(folder)
        try:
            return cls(connect_to_write(folder), folder, lock)
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Closes the database and releases its lock."""
        with suppress(sqlite3.Error):
            self._connection.close()
        if self._lock is not None:
            self._lock.release()

    def set_facts(self, **facts: Any) -> None:
        """Writes facts about the run; any JSON value."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO facts VALUES (?, ?)",
                [(name, cut_keys(json.dumps(value))) for name, value in facts.items()],
            )

    def add_launch(self, launch: Launch) -> None:
        """Writes down that the run is started or resumed."""
        with self._transaction() as connection:
            connection.execute(statements.INSERT_LAUNCH, rows.launch_row(launch))

    def keep(self, finished: Sequence[Call | Evaluated | Expense]) -> None:
        """Writes what was paid for; it is durable when this returns."""
        # Before the rows that name them: a file without a row is only waste.
        in_files = [
            row
            for item in finished
            if isinstance(item, Evaluated) and item.evaluation.artifacts
            for row in self._files.write(item)
        ]
        with self._transaction() as connection:
            connection.executemany(statements.INSERT_PAID["artifact_files"], in_files)
            for item in finished:
                self._put_paid(item)

    def commit(self, generation: Generation) -> None:
        """Writes a generation; it is the checkpoint when this returns."""
        with self._transaction() as connection:
            for result in generation.slots:
                for told in result.attempts:
                    # What was evaluated came with its evaluation.
                    if told.attempt.program is not None and told.evaluated is None:
                        self._put_program(told.attempt.program)
                    if told.evaluated is not None and told.evaluated.own != told.evaluated.recorded:
                        for statement in statements.MOVE_EVALUATION:
                            connection.execute(
                                statement, (*told.evaluated.own, *told.evaluated.recorded)
                            )
                    connection.execute(statements.INSERT_ATTEMPT, rows.attempt_row(told))
            connection.execute(statements.INSERT_GENERATION, rows.generation_row(generation))

    def save_snapshot(self, version: str, population: Any) -> None:
        """Keeps what was folded from all committed generations, in place of an earlier one.

        It only saves time: what `load_snapshot` returns may be folded again from the attempts.

        Args:
            version: Names what folded it, and with which settings.
            population: Any JSON value.
        """
        last = self.last_generation()
        if last is None:
            return
        with self._transaction() as connection:
            tally = dump(last, count(connection, last))
            connection.execute("DELETE FROM snapshots")
            connection.execute(
                "INSERT INTO snapshots VALUES (?, ?, ?, ?)",
                (last, version, tally, zlib.compress(json.dumps(population).encode(), 1)),
            )

    def _put_paid(self, item: Call | Evaluated | Expense) -> None:
        """Writes what was paid for; what was written before stays as it is."""
        execute = self._connection.execute
        if isinstance(item, Expense):
            execute(statements.INSERT_EXPENSE, rows.expense_row(item))
        elif isinstance(item, Call):
            execute(statements.INSERT_PAID["calls"], rows.call_row(item))
        else:
            self._put_program(item.program)
            execute(statements.INSERT_PAID["evaluations"], rows.evaluation_row(item))
            if item.evaluation.artifacts:
                execute(statements.INSERT_PAID["artifacts"], rows.artifacts_row(item))

    def _put_program(self, program: Program) -> None:
        sql = "SELECT source FROM programs WHERE id = ?"
        if self._connection.execute(sql, (program.id,)).fetchone() in {None, (None,)}:
            source = rows.source_row(program)
            number = self._connection.execute(statements.INSERT_SOURCE, source).lastrowid
            self._connection.execute(
                statements.INSERT_PROGRAM,
                (program.id, fingerprint(program), number),
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with telling(self.folder):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
