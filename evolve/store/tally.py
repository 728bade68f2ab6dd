"""Counts over a whole run, in time that depends on what came after the last snapshot."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Any

from evolve.records.results import Totals
from evolve.store import statements
from evolve.store.rows import unpack

if TYPE_CHECKING:
    import sqlite3

# No generation comes after this one.
NEWEST = 2**62


@dataclass(frozen=True, slots=True)
class Tally:
    """What a run brought and used.

    Attributes:
        usage: What recorded calls used, by role and model.
        outcomes: Committed attempts by status.
        evaluations: Finished evaluations.
    """

    usage: dict[tuple[str, str], Totals] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    evaluations: int = 0

    @property
    def spent(self) -> Totals:
        """Returns what all calls used together."""
        return sum(self.usage.values(), Totals())

    def __add__(self, other: Tally) -> Tally:
        usage, outcomes = dict(self.usage), dict(self.outcomes)
        for key, used in other.usage.items():
            usage[key] = usage.get(key, Totals()) + used
        for status, count in other.outcomes.items():
            outcomes[status] = outcomes.get(status, 0) + count
        return Tally(
            dict(sorted(usage.items())),
            dict(sorted(outcomes.items())),
            self.evaluations + other.evaluations,
        )


def count(connection: sqlite3.Connection, upto: int = NEWEST) -> Tally:
    """Counts the rows of all generations, or of those up to one, from the last snapshot on."""
    since, known = find_snapshot(connection)
    limits = (since, upto)
    used = _read_usage(connection, limits)
    (evaluations,) = connection.execute(statements.COUNT_EVALUATIONS, limits).fetchone()
    return known + Tally(
        used,
        dict(connection.execute(statements.SELECT_OUTCOMES, limits).fetchall()),
        evaluations,
    )


def find_snapshot(connection: sqlite3.Connection) -> tuple[int, Tally]:
    """Returns the last generation that a snapshot counted, and its counts; -1 without one."""
    for generation, packed in connection.execute("SELECT generation, tally FROM snapshots"):
        # It is derived: what is damaged is skipped.
        with suppress(zlib.error, ValueError, TypeError):
            counted, tally = _load(unpack(packed))
            if counted == generation:
                return generation, tally
    return -1, Tally()


def dump(generation: int, tally: Tally) -> bytes:
    """Returns what a snapshot keeps."""
    usage = [[*key, *astuple(used)] for key, used in tally.usage.items()]
    kept = [generation, usage, tally.outcomes, tally.evaluations]
    return zlib.compress(json.dumps(kept).encode())


def _read_usage(
    connection: sqlite3.Connection, limits: tuple[int, int]
) -> dict[tuple[str, str], Totals]:
    usage: dict[tuple[str, str], Totals] = {}
    for sql in (statements.SELECT_USAGE, statements.SELECT_EXPENSES):
        for role, model, *sums, thinking in connection.execute(sql, limits):
            used = Totals(*sums) + Totals(thinking_tokens=thinking)
            usage[role, model] = usage.get((role, model), Totals()) + used
    for role, model, requests, tokens, cost_usd in connection.execute(
        statements.SELECT_LOST, limits
    ):
        lost = Totals(lost_requests=requests, lost_tokens=tokens, lost_usd=cost_usd)
        usage[role, model] = usage.get((role, model), Totals()) + lost
    return usage


def _load(data: list[Any]) -> tuple[int, Tally]:
    generation, usage, outcomes, evaluations = data
    by_call = {(role, model): Totals(*sums) for role, model, *sums in usage}
    return generation, Tally(by_call, outcomes, evaluations)
