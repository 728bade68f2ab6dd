"""What committed slots set out to do and what came of it, read in one go."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

from evolve.records import AttemptKey, Direction, Plan, Status
from evolve.records.results import SlotNote

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evolve.records import Summary
    from evolve.store.store import Store

_ATTEMPTS = """
    SELECT a.generation, a.slot, a.number, a.parent_generation, a.parent_slot, a.parent_number,
        a.plan, a.program IS NULL, COALESCE(e.status, 'rejected'), e.objective,
        COALESCE(e.reason, a.reason), pe.objective, COALESCE(e.seconds, 0.0)
    FROM attempts a
    LEFT JOIN evaluations e
        ON e.generation = a.generation AND e.slot = a.slot AND e.sequence = a.evaluation
    LEFT JOIN attempts p ON p.generation = a.parent_generation AND p.slot = a.parent_slot
        AND p.number = a.parent_number
    LEFT JOIN evaluations pe
        ON pe.generation = p.generation AND pe.slot = p.slot AND pe.sequence = p.evaluation
    WHERE a.generation > ? AND a.generation <= ? AND a.parent_generation IS NOT NULL
        AND a.plan IS NOT NULL
    ORDER BY a.generation, a.slot, a.number
"""
_EDITORS = """
    SELECT generation, slot, model FROM calls
    WHERE generation > ? AND generation <= ? AND role IN ('editor', 'leap')
    ORDER BY generation, slot, sequence
"""


def load_notes(store: Store, after: int, upto: int) -> Iterator[SlotNote]:
    """Yields the slots with a plan of the generations after one, up to another, in order.

    Raises:
        StoreError: The database cannot be read.
    """
    sign = Direction(store.facts().get("direction", "maximize")).sign
    editors: dict[tuple[int, int], list[str]] = {}
    for generation, slot, model in store.query(_EDITORS, after, upto):
        editors.setdefault((generation, slot), []).append(model)
    found = store.query(_ATTEMPTS, after, upto)
    for place, group in groupby(found, key=lambda row: row[:2]):
        yield _note(list(group), sign)._replace(editors=tuple(editors.get(place, ())))


def load_summaries(store: Store, after: int, upto: int) -> Iterator[tuple[int, Summary]]:
    """Yields the summaries of the generations after one, up to another, in order.

    Raises:
        StoreError: The database cannot be read.
    """
    for generation in range(max(after + 1, 0), upto + 1):
        summary = store.load_summary(generation)
        if summary is not None:
            yield generation, summary


def _note(attempts: Sequence[tuple[Any, ...]], sign: float) -> SlotNote:
    scored = [row for row in attempts if row[9] is not None]
    best = max(scored, key=lambda row: sign * row[9]) if scored else attempts[-1]
    return SlotNote(
        generation=best[0],
        slot=best[1],
        key=AttemptKey(*best[:3]),
        parent=AttemptKey(*best[3:6]),
        plan=Plan.from_dict(json.loads(best[6])),
        before=best[11],
        objective=best[9],
        seconds=best[12],
        attempts=len(attempts),
        unapplied=sum(row[7] for row in attempts),
        status=Status(best[8]),
        reason=best[10],
    )
