"""What can be read of a run's database, also while it is written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from evolve.errors import StoreError
from evolve.records import (
    Attempt,
    AttemptKey,
    Evaluation,
)
from evolve.records.plain import from_plain
from evolve.records.results import (
    ASKS,
    Call,
    Evaluated,
    Expense,
    Generation,
    LightAttempt,
    ModelUse,
    SlotResult,
    Steer,
    Totals,
)
from evolve.settings import Invocation
from evolve.store.connection import naming_errors, parsing
from evolve.store.schema import (
    ATTEMPTS,
    CALLS,
    EVALUATIONS,
    EXPENSES,
    GENERATIONS,
    INVOCATIONS,
    STEERING,
    RecordTable,
    load_attempt,
    load_evaluated,
    load_light_attempt,
)

# No generation comes after this one.
NEWEST = 2**62

_JOIN_EVALUATION = (
    "LEFT JOIN evaluations e ON e.generation = a.generation AND e.slot = a.slot "
    "AND e.number = a.evaluation"
)
_JOIN_TEXTS = (
    "LEFT JOIN artifacts t ON t.generation = e.generation AND t.slot = e.slot "
    "AND t.number = e.number"
)
_IN_ORDER = "ORDER BY generation, slot, number"
_WITHIN = "WHERE generation > ? AND generation <= ?"
_USES = (
    "SELECT generation, slot, role, model, cost_usd, prompt_tokens + completion_tokens FROM calls"
)
_LIGHT_ATTEMPTS = f"""
    SELECT a.generation, a.slot, a.number, a.island,
        a.parent_generation, a.parent_slot, a.parent_number, a.depth,
        a.plan, a.program, p.fingerprint,
        CASE WHEN a.evaluation IS NOT NULL THEN COALESCE(e.status, 'missing') END,
        e.objective, e.measures, e.metrics, e.instances, e.stages,
        json_array_length(e.repeats), e.seconds, COALESCE(NULLIF(a.reason, ''), e.reason)
    FROM attempts a {_JOIN_EVALUATION} LEFT JOIN programs p ON p.id = a.program
    WHERE a.generation >= ? AND a.generation <= ? ORDER BY a.generation, a.slot, a.number
"""
_ATTEMPT = f"""
    SELECT {ATTEMPTS.select("a")}, {EVALUATIONS.select("e")}, t.texts, p.id, p.source
    FROM attempts a {_JOIN_EVALUATION} {_JOIN_TEXTS} LEFT JOIN programs p ON p.id = a.program
    WHERE a.generation = ? AND a.slot = ? AND a.number = ?
"""
_EVALUATIONS = f"""
    SELECT {EVALUATIONS.select("e")}, t.texts, e.program, p.source
    FROM evaluations e {_JOIN_TEXTS} LEFT JOIN programs p ON p.id = e.program
    WHERE e.generation > ? AND e.generation <= ? ORDER BY e.generation, e.slot, e.number
"""
_NEWEST = f"""
    SELECT MAX(newest) FROM (SELECT MAX(number) AS newest FROM generations
    UNION ALL SELECT MAX(generation) FROM calls WHERE slot != {ASKS}
    UNION ALL SELECT MAX(generation) FROM evaluations)
"""
# In the order of the fields of `Totals`; what was lost brought nothing, so it is counted apart.
_USAGE = """
    SELECT role, model, SUM(is_call), SUM((1 - lost) * prompt_tokens),
        SUM((1 - lost) * cached_tokens), SUM((1 - lost) * completion_tokens),
        TOTAL((1 - lost) * cost_usd), SUM(lost = 0 AND cost_usd IS NULL), SUM(lost),
        SUM(lost * (prompt_tokens + completion_tokens)), TOTAL(lost * cost_usd),
        SUM((1 - lost) * thinking_tokens)
    FROM (
        SELECT role, model, prompt_tokens, cached_tokens, completion_tokens, thinking_tokens,
            cost_usd, 1 AS is_call, 0 AS lost FROM calls
        UNION ALL SELECT role, model, prompt_tokens, cached_tokens, completion_tokens,
            thinking_tokens, cost_usd, 0, lost != '' FROM expenses
    ) GROUP BY role, model ORDER BY role, model
"""
# A program that is evaluated again counts as often.
_COUNT = """
    SELECT COALESCE(SUM(MAX(json_array_length(repeats), 1)), 0) FROM evaluations
    WHERE status != 'rejected'
"""


# In the order in which programs go through them.
_STAGES = """
    SELECT s.value ->> 0, COUNT(*),
        SUM(status = 'stopped' AND s.key = json_array_length(stages) - 1), TOTAL(s.value ->> 2)
    FROM evaluations, json_each(stages) s GROUP BY s.value ->> 0 ORDER BY MIN(s.key)
"""


# A machine that measured time is stored with its kind behind a comma.
_NODES = """
    SELECT node, SUM(evaluated), SUM(failed), SUM(lost), NULLIF(MAX(kind), '') FROM (
        SELECT substr(machine, 1, instr(machine || ',', ',') - 1) AS node, 1 AS evaluated,
            ltrim(substr(machine, instr(machine || ',', ',') + 1)) AS kind,
            status != 'ok' AS failed, 0 AS lost FROM evaluations WHERE machine != ''
        UNION ALL SELECT l.value, 0, '', 0, 1 FROM evaluations, json_each(lost) l
    ) GROUP BY node ORDER BY node
"""


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

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Lets all that is read inside see the same state, whatever is written meanwhile."""
        with naming_errors(self.folder):
            self._connection.execute("BEGIN")
        try:
            yield
        finally:
            with naming_errors(self.folder):
                self._connection.execute("COMMIT")

    def facts(self) -> dict[str, Any]:
        """Returns all facts about the run."""
        with parsing(self.folder):
            return {name: json.loads(value) for name, value in self._all("SELECT * FROM facts")}

    def holdout(self) -> dict[str, Evaluation]:
        """Returns the verdicts on the hold-out by program; no search and no prompt sees them."""
        with parsing(self.folder):
            return from_plain(dict[str, Evaluation], self.facts().get("holdout", {}))

    def invocations(self) -> list[Invocation]:
        """Returns each start and resume of the run, in order."""
        return self._load(INVOCATIONS, "ORDER BY number")

    def steering(self) -> list[Steer]:
        """Returns all that people have asked of the run, in order."""
        return self._load(STEERING, "ORDER BY number")

    def newest_recorded(self) -> int:
        """Returns the last generation that a call or an evaluation belongs to, or -1."""
        ((newest,),) = self._all(_NEWEST)
        return -1 if newest is None else int(newest)

    def last_generation(self) -> int | None:
        """Returns the number of the last committed generation, None before the first."""
        ((number,),) = self._all("SELECT MAX(number) FROM generations")
        return None if number is None else int(number)

    def generations(self, after: int = -1, upto: int = NEWEST) -> list[Generation]:
        """Returns the committed generations after one, up to another, without their slots."""
        where = "WHERE number > ? AND number <= ? ORDER BY number"
        return self._load(GENERATIONS, where, after, upto, slots=())

    def load_generation(self, number: int) -> Generation:
        """Returns a generation without its slots; one without anything where it has no commit."""
        found = self.generations(number - 1, number)
        return found[0] if found else Generation(number, (), 0.0)

    def objective_of(self, key: AttemptKey) -> float | None:
        """Returns the objective of an attempt, None where it has none."""
        where = "WHERE a.generation = ? AND a.slot = ? AND a.number = ?"
        found = self._all(f"SELECT e.objective FROM attempts a {_JOIN_EVALUATION} {where}", *key)
        return found[0][0] if found else None

    def seconds(self) -> float:
        """Returns the running time up to the last committed generation."""
        ((seconds,),) = self._all("SELECT MAX(seconds) FROM generations")
        return float(seconds or 0.0)

    def keys_of(self, generation: int) -> list[AttemptKey]:
        """Returns the attempts of a generation in order."""
        return self._find_attempts(f"generation = ? {_IN_ORDER}", generation)

    def attempts_of(self, program: str) -> list[AttemptKey]:
        """Returns the attempts whose program's id begins so, the earliest first."""
        where = f"substr(program, 1, ?) = ? {_IN_ORDER}"
        return self._find_attempts(where, len(program), program)

    def attempts_like(self, words: Sequence[str], horizon: int, limit: int) -> list[AttemptKey]:
        """Returns attempts up to a generation whose plan has all words in order, newest first."""
        escaped = (word.replace("!", "!!").replace("%", "!%").replace("_", "!_") for word in words)
        where = (
            "generation <= ? AND plan LIKE ? ESCAPE '!' "
            "ORDER BY generation DESC, slot DESC, number DESC LIMIT ?"
        )
        return self._find_attempts(where, horizon, f"%{'%'.join(escaped)}%", limit)

    def light_attempts(self, since: int = 0, upto: int = NEWEST) -> Iterator[LightAttempt]:
        """Returns the committed attempts of some generations in order, without sources."""
        with parsing(self.folder):
            uses = self._load_uses(since, upto)
            for row in self._connection.execute(_LIGHT_ATTEMPTS, (since, upto)):
                yield load_light_attempt(row, uses.get(row[:2], ()))

    def load_attempt(self, key: AttemptKey) -> Attempt:
        """Returns one attempt, whole.

        Raises:
            StoreError: There is no such attempt.
        """
        found = self._all(_ATTEMPT, *key)
        if not found:
            raise StoreError(f"{self.folder}: no attempt {key}")
        with parsing(self.folder):
            return load_attempt(found[0])

    def load_slots(self, generation: int) -> list[SlotResult]:
        """Returns what the slots of a committed generation brought, in order."""
        attempts = map(self.load_attempt, self.keys_of(generation))
        uses = self._load_uses(generation, generation)
        return [
            SlotResult(slot, tuple(group), uses=uses.get((generation, slot), ()))
            for slot, group in groupby(attempts, key=lambda one: one.key.slot)
        ]

    def calls_of(self, generation: int, slot: int) -> list[Call]:
        """Returns the calls of a slot in order; slot -1 has those that serve a generation."""
        return self._load(CALLS, f"WHERE generation = ? AND slot = ? {_IN_ORDER}", generation, slot)

    def asks(self) -> list[Call]:
        """Returns what evaluations asked models, and what came of it, the first first."""
        return self._load(CALLS, f"WHERE slot = ? {_IN_ORDER}", ASKS)

    def uses_of(self, generation: int, slot: int) -> tuple[ModelUse, ...]:
        """Returns what the calls of a slot say about models, in order."""
        return self._load_uses(generation, generation).get((generation, slot), ())

    def finished_after(
        self, generation: int, upto: int = NEWEST
    ) -> tuple[list[Call], list[Evaluated]]:
        """Returns the calls and evaluations of the generations after one, up to another.

        After the last committed generation these are what is recorded and not committed yet.
        """
        calls: list[Call] = self._load(CALLS, f"{_WITHIN} {_IN_ORDER}", generation, upto)
        with parsing(self.folder):
            return calls, [load_evaluated(row) for row in self._all(_EVALUATIONS, generation, upto)]

    def expenses(self, generation: int = -1, upto: int = NEWEST) -> list[Expense]:
        """Returns what was spent beside the calls after one generation, up to another."""
        return self._load(EXPENSES, f"{_WITHIN} ORDER BY generation, rowid", generation, upto)

    def usage(self) -> list[tuple[str, str, Totals]]:
        """Returns what was used, by role and model."""
        return [(role, model, Totals(*sums)) for role, model, *sums in self._all(_USAGE)]

    def spent(self) -> dict[str, Any]:
        """Returns what the run has used: the fields of `Totals`, evaluations; `usage` by role."""
        usage = self.usage()
        total = sum((used for _, _, used in usage), Totals())
        ((evaluations,),) = self._all(_COUNT)
        return {**asdict(total), "evaluations": evaluations, "usage": usage}

    def cost_usd(self, after: int, upto: int) -> float:
        """Returns the dollars of the generations after one, up to another, lost ones included."""
        sums = (
            f"(SELECT TOTAL(cost_usd) FROM {table} {_WITHIN})" for table in ("calls", "expenses")
        )
        ((calls, others),) = self._all(f"SELECT {', '.join(sums)}", *(after, upto) * 2)
        return float(calls + others)

    def calls_by_generation(self, since: int = 0) -> dict[int, tuple[int, int, float]]:
        """Returns calls, tokens and dollars of each generation from `since` on that has any."""
        sql = (
            "SELECT generation, COUNT(*), SUM(prompt_tokens + completion_tokens), "
            "TOTAL(cost_usd) FROM calls WHERE generation >= ? GROUP BY generation"
        )
        return {generation: tuple(sums) for generation, *sums in self._all(sql, since)}

    def nodes(self) -> list[tuple[str, int, int, int, str | None]]:
        """Returns each node of a cluster: its name, evaluations, those that failed, those lost.

        Last comes what kind of machine it is, where it has measured time.
        """
        return self._all(_NODES)

    def stages(self) -> list[tuple[str, int, int, float]]:
        """Returns each early stage: its name, programs, those stopped there, and their seconds."""
        return self._all(_STAGES)

    def _load(self, table: RecordTable, where: str, *values: Any, **left_out: Any) -> list[Any]:
        sql = f"SELECT {table.select('x')} FROM {table.name} x {where}"
        with parsing(self.folder):
            return [table.load(row, **left_out) for row in self._all(sql, *values)]

    def _load_uses(self, since: int, upto: int = NEWEST) -> dict[Any, tuple[ModelUse, ...]]:
        """Returns what calls say about models, by generation and slot."""
        found = self._all(f"{_USES} {_WITHIN} {_IN_ORDER}", since - 1, upto)
        return {
            place: tuple(ModelUse(*row[2:]) for row in rows)
            for place, rows in groupby(found, key=lambda row: row[:2])
        }

    def _find_attempts(self, where: str, *values: Any) -> list[AttemptKey]:
        sql = f"SELECT generation, slot, number FROM attempts WHERE {where}"
        return [AttemptKey(*row) for row in self._all(sql, *values)]

    def _all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with naming_errors(self.folder):
            return self._connection.execute(sql, values).fetchall()
