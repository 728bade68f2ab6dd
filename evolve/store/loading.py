"""Rows of a run's database, as queries return them, to records."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any

from evolve.files import inside
from evolve.records import (
    Attempt,
    AttemptKey,
    Evaluation,
    Plan,
    Program,
    SourceFile,
    StageResult,
    Status,
)
from evolve.records.plain import from_plain, maker_of
from evolve.records.results import (
    Evaluated,
    EvaluationPlace,
    LightAttempt,
    PlacedAttempt,
    SlotNote,
)
from evolve.store.columns import unpack
from evolve.store.schema import ATTEMPTS, EVALUATIONS

_STATUS: dict[str | None, Status] = {None: Status.REJECTED, **{str(one): one for one in Status}}
_new = tuple.__new__
_load_stages = maker_of(tuple[StageResult, ...])
_scan = json.scanner.make_scanner(json.JSONDecoder())  # type: ignore[attr-defined]


def load_placed(row: Sequence[Any]) -> PlacedAttempt:
    """Returns the attempt of a row of an attempt, with the place of its evaluation."""
    texts, program_id, source = row[-3:]
    *_, program, sequence, reason, detail = row[: len(ATTEMPTS.columns)]
    if sequence is None:
        artifacts = {"detail": detail} if detail else {}
        evaluation = Evaluation(Status.REJECTED, artifacts=artifacts, reason=reason)
    else:
        evaluation = _evaluation(row[len(ATTEMPTS.columns) :], texts, program=None).evaluation
    is_pruned = program_id is not None and source is None
    made = None if program is None or is_pruned else _program(source, program)
    attempt: Attempt = ATTEMPTS.load(row, program=made, evaluation=evaluation)
    if sequence is None:
        return PlacedAttempt(attempt)
    place = AttemptKey(*attempt.key[:2], sequence)
    return PlacedAttempt(attempt, EvaluationPlace(place, place))


def load_evaluated(row: Sequence[Any]) -> Evaluated:
    """Returns the finished evaluation of a row."""
    texts, program_id, source = row[-3:]
    return _evaluation(row, texts, program=_program(source, program_id))


def _evaluation(row: Sequence[Any], texts: bytes | None, **left_out: Any) -> Evaluated:
    artifacts = {} if texts is None else from_plain(dict[str, str], unpack(texts))
    found: Evaluated = EVALUATIONS.load(row, artifacts=artifacts, **left_out)
    return found


def _program(source: bytes | None, expected: str) -> Program:
    """Returns the program of a stored source.

    Raises:
        DatabaseError: There is none, or it is another one than expected.
    """
    if source is None:
        raise sqlite3.DatabaseError(f"the source of program {expected} is missing")
    try:
        files = from_plain(tuple[SourceFile, ...], unpack(source))
        found = Program(tuple(SourceFile(str(inside(path)), text) for path, text in files))
    except (zlib.error, ValueError, TypeError, AttributeError) as error:
        raise sqlite3.DatabaseError(f"damaged: program {expected}: {error}") from error
    if found.id != expected:
        raise sqlite3.DatabaseError(f"damaged: in place of program {expected} there is {found.id}")
    return found


def load_light_attempt(row: Sequence[Any]) -> LightAttempt:
    """Returns the attempt of a row without sources and texts."""
    (
        generation, slot, number, island, parent_generation, parent_slot, parent_number, depth,
        operator, program_id, fingerprint, status, objective, measures, metrics, instances,
        stages,
    ) = row  # fmt: skip
    parent = None
    if parent_generation is not None:
        parent = _new(AttemptKey, (parent_generation, parent_slot, parent_number))
    # A resume reads every attempt: what `json.loads` and the record do around these takes longer.
    return _new(
        LightAttempt,
        (
            _new(AttemptKey, (generation, slot, number)),
            island,
            parent,
            depth,
            operator or "",
            program_id,
            fingerprint,
            _STATUS[status],
            objective,
            _scan(measures, 0)[0] if measures else {},
            _scan(metrics, 0)[0] if metrics else {},
            _scan(instances, 0)[0] if instances else {},
            # Most programs have none.
            () if stages in {None, "[]"} else _load_stages(json.loads(stages)),
            (),
        ),
    )


def load_slot_note(attempts: Sequence[tuple[Any, ...]], sign: float) -> SlotNote:
    """Returns what came of a slot, from the rows of its attempts."""
    scored = [row for row in attempts if row[9] is not None]
    best = max(scored, key=lambda row: sign * row[9]) if scored else attempts[-1]
    return SlotNote(
        generation=best[0],
        slot=best[1],
        key=AttemptKey(*best[:3]),
        parent=AttemptKey(*best[3:6]),
        plan=from_plain(Plan, json.loads(best[6])),
        before=best[11],
        objective=best[9],
        seconds=best[12],
        attempts=len(attempts),
        unapplied=sum(row[7] for row in attempts),
        status=Status(best[8]),
        reason=best[10],
    )
