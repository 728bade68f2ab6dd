"""What committed slots set out to do and what came of it, read in one go."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

from evolve.records import AttemptKey, Plan, Status
from evolve.records.results import SlotNote
from evolve.store import rows, statements
from evolve.store.opening import parsing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evolve.store.store import Store

_ATTEMPTS = """
    SELECT a.generation, a.slot, a.parent_generation, a.parent_slot, a.parent_number, a.plan,
        a.program IS NULL, COALESCE(e.status, 'rejected'), e.objective,
        COALESCE(e.reason, a.reason), pe.objective
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
    WHERE generation > ? AND generation <= ? AND role = 'editor'
    ORDER BY generation, slot, sequence
"""


def load_notes(store: Store, after: int, upto: int) -> Iterator[SlotNote]:
    """Returns the slots with a plan of the generations after one, up to another, in order.

    Raises:
        StoreError: The database cannot be read.
    """
    with parsing(store.folder):
        summaries = {
            row[:2]: rows.summary(row[2:])
            for row in store.query(statements.SELECT_SUMMARIES, after, upto)
        }
        editors: dict[tuple[int, int], list[str]] = {}
        for generation, slot, model in store.query(_EDITORS, after, upto):
            editors.setdefault((generation, slot), []).append(model)
        found = store.query(_ATTEMPTS, after, upto)
        for place, group in groupby(found, key=lambda row: row[:2]):
            note = _note(list(group))
            yield note._replace(editors=tuple(editors.get(place, ())), summary=summaries.get(place))


def _note(attempts: Sequence[tuple[Any, ...]]) -> SlotNote:
    first, last = attempts[0], attempts[-1]
    return SlotNote(
        generation=first[0],
        slot=first[1],
        parent=AttemptKey(*first[2:5]),
        plan=Plan.from_dict(json.loads(first[5])),
        before=first[10],
        objectives=tuple(row[8] for row in attempts if row[8] is not None),
        attempts=len(attempts),
        unapplied=sum(row[6] for row in attempts),
        status=Status(last[7]),
        reason=last[9],
    )
