"""What can be read of a run's database, also while it is written."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from evolve.errors import StoreError
from evolve.records import Attempt, AttemptKey
from evolve.records.results import UNUSABLE, Efforts, Expense, ModelUse
from evolve.store import rows, statements
from evolve.store.artifacts import ArtifactFiles
from evolve.store.opening import parsing, telling
from evolve.store.tally import NEWEST, count

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from evolve.records import Plan, Summary
    from evolve.records.results import Call, Evaluated, LightAttempt, Totals
    from evolve.settings.launches import Launch
    from evolve.store.artifacts import Missing
    from evolve.store.tally import Tally


class Reader:
    """A run's database, to look at.

    Every method raises `StoreError` when the database cannot be read.

    Args:
        connection: The open database.
        folder: The run's folder.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self.folder = folder
        self._connection = connection
        self._files = ArtifactFiles(folder)

    def facts(self) -> dict[str, Any]:
        """Returns all facts about the run."""
        with parsing(self.folder):
            return {name: json.loads(value) for name, value in self._all("SELECT * FROM facts")}

    def launches(self) -> list[Launch]:
        """Returns each start and resume of the run, in order."""
        with parsing(self.folder):
            return [rows.launch(row) for row in self._all("SELECT * FROM launches ORDER BY number")]

    def newest_paid(self) -> int:
        """Returns the last generation that anything was paid for; -1 before the first."""
        ((newest,),) = self._all(statements.SELECT_NEWEST)
        return -1 if newest is None else int(newest)

    def last_generation(self) -> int | None:
        """Returns the number of the last committed generation, None before the first."""
        ((number,),) = self._all("SELECT MAX(generation) FROM generations")
        return None if number is None else int(number)

    def generations(self) -> list[tuple[int, float]]:
        """Returns the committed generations, each with the running time up to it."""
        return self._all("SELECT generation, seconds FROM generations ORDER BY generation")

    def keys_of(self, generation: int) -> list[AttemptKey]:
        """Returns the attempts of a generation in order."""
        found = self._all(
            "SELECT generation, slot, number FROM attempts WHERE generation = ? "
            "ORDER BY slot, number",
            generation,
        )
        return [AttemptKey(*row) for row in found]

    def seconds(self) -> float:
        """Returns the running time up to the last committed generation."""
        ((seconds,),) = self._all("SELECT MAX(seconds) FROM generations")
        return float(seconds or 0.0)

    def told_attempts(self, since: int = 0, *, with_uses: bool = False) -> Iterator[LightAttempt]:
        """Returns the committed attempts in order, without sources and texts.

        Args:
            since: The first generation.
            with_uses: Whether to tell what each slot used of which model.
        """
        with parsing(self.folder):
            uses = self._load_uses(since) if with_uses else {}
            for row in self._connection.execute(statements.SELECT_TOLD, (since, NEWEST)):
                attempt = rows.light_attempt(row)
                found = uses.get(attempt.key[:2])
                yield attempt._replace(uses=tuple(found)) if found else attempt

    def _load_uses(self, since: int) -> dict[tuple[int, int], list[ModelUse]]:
        uses: dict[tuple[int, int], list[ModelUse]] = {}
        found = self._connection.execute(statements.SELECT_USES, (since, NEWEST))
        for generation, slot, *use in found:
            uses.setdefault((generation, slot), []).append(ModelUse(*use))
        return uses

    def load_attempt(self, key: AttemptKey) -> Attempt:
        """Returns one attempt, whole.

        Raises:
            StoreError: There is no such attempt.
        """
        found = self._all(statements.SELECT_ATTEMPT, *key)
        if not found:
            raise StoreError(f"{self.folder}: no attempt {key}")
        with parsing(self.folder):
            return rows.attempt(found[0], self._files)

    def attempts_of(self, program: str) -> list[AttemptKey]:
        """Returns the attempts whose program's id begins so, the earliest first."""
        found = self._all(
            "SELECT generation, slot, number FROM attempts WHERE substr(program, 1, ?) = ? "
            "ORDER BY generation, slot, number",
            len(program),
            program,
        )
        return [AttemptKey(*row) for row in found]

    def load_summary(self, generation: int) -> Summary | None:
        """Returns what a generation taught, if it has a summary."""
        found = self._all("SELECT summary FROM generations WHERE generation = ?", generation)
        with parsing(self.folder):
            return rows.summary(found[0][0]) if found and found[0][0] is not None else None

    def load_plans(self, generation: int) -> tuple[Plan, ...]:
        """Returns the first plan of each slot of a committed generation."""
        found = self._all("SELECT plans FROM generations WHERE generation = ?", generation)
        with parsing(self.folder):
            return rows.plans(found[0][0]) if found else ()

    def children(self, parent: AttemptKey, horizon: int, limit: int) -> list[AttemptKey]:
        """Returns the attempts made from a parent up to a generation, the newest first."""
        found = self._all(statements.SELECT_CHILDREN, *parent, horizon, limit)
        return [AttemptKey(*row) for row in found]

    def finished_after(
        self, generation: int, upto: int = NEWEST
    ) -> tuple[list[Call], list[Evaluated]]:
        """Returns the calls and evaluations of the generations after one, up to another.

        After the last committed generation these are what was paid for and is not committed yet.
        """
        calls = self._all(statements.SELECT_CALLS, generation, upto)
        evaluations = self._all(statements.SELECT_EVALUATIONS, generation, upto)
        with parsing(self.folder):
            return (
                [rows.call(row) for row in calls],
                [rows.evaluated(row, self._files) for row in evaluations],
            )

    def missing_artifacts(self, *, contents: bool = False) -> list[Missing]:
        """Returns the artifacts whose file is gone or damaged.

        Args:
            contents: Whether files are read, too; else their lengths are compared.
        """
        with parsing(self.folder):
            return self._files.find_missing(self._connection, contents=contents)

    def load_snapshot(self, version: str) -> Any:
        """Returns the population that `save_snapshot` kept under this version, or None."""
        found = self._all("SELECT population FROM snapshots WHERE version = ?", version)
        # It is derived: what is damaged is skipped.
        with suppress(zlib.error, ValueError, TypeError):
            return rows.unpack(found[0][0]) if found else None
        return None

    def usage(self) -> list[tuple[str, str, Totals]]:
        """Returns what was used, by role and model."""
        return [(*key, used) for key, used in self._tally().usage.items()]

    def spent(self) -> dict[str, Any]:
        """Returns what the run has used: calls, tokens, money, evaluations; `usage` by role."""
        tally = self._tally()
        spent = tally.spent
        return {
            "calls": spent.calls,
            "prompt_tokens": spent.prompt_tokens,
            "cached_tokens": spent.cached_tokens,
            "completion_tokens": spent.completion_tokens,
            "thinking_tokens": spent.thinking_tokens,
            "cost_usd": spent.cost_usd,
            "unpriced_calls": spent.unpriced_calls,
            "lost_requests": spent.lost_requests,
            "lost_usd": spent.lost_usd,
            "evaluations": tally.evaluations,
            "usage": self.usage(),
        }

    def expenses(self, generation: int = -1, upto: int = NEWEST) -> list[Expense]:
        """Returns what was paid beside the calls after one generation, up to another."""
        found = self._all(statements.SELECT_EXPENSES_OF, generation, upto)
        with parsing(self.folder):
            return [rows.expense(row) for row in found]

    def efforts(self, after: int) -> list[Efforts]:
        """Returns what the models of each generation after one came to."""
        return [Efforts(*row) for row in self._all(statements.SELECT_EFFORTS, UNUSABLE, after)]

    def rejections(self) -> dict[str, int]:
        """Returns how many committed attempts were rejected, by reason."""
        return dict(self._all(statements.SELECT_REJECTIONS))

    def outcomes(self) -> dict[str, int]:
        """Returns the number of committed attempts by status."""
        return self._tally().outcomes

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Returns the rows of a reading query, for reports."""
        return self._all(sql, *values)

    def _tally(self) -> Tally:
        with parsing(self.folder):
            return count(self._connection)

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with telling(self.folder):
            return self._connection.execute(sql, values).fetchall()
