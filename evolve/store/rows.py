"""Records to rows and back."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from evolve.records import (
    Attempt,
    AttemptKey,
    Evaluation,
    Message,
    Plan,
    Program,
    Reply,
    Request,
    SourceFile,
    Status,
    Summary,
)
from evolve.results import Call, Evaluated, LightAttempt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.results import Told

Row = tuple[Any, ...]

INSERT_CALL = f"INSERT OR IGNORE INTO calls VALUES ({', '.join('?' * 14)})"
INSERT_EVALUATION = f"INSERT OR IGNORE INTO evaluations VALUES ({', '.join('?' * 11)})"
INSERT_ATTEMPT = f"INSERT INTO attempts VALUES ({', '.join('?' * 13)})"
INSERT_LESSON = f"INSERT INTO lessons VALUES ({', '.join('?' * 6)})"

_EVALUATION = "e.status, e.objective, e.metrics, e.measures, e.artifacts, e.seconds, e.reason"
_JOIN = (
    "LEFT JOIN evaluations e ON e.generation = a.generation AND e.slot = a.slot "
    "AND e.sequence = a.evaluation LEFT JOIN programs p ON p.id = a.program"
)
SELECT_TOLD = (
    "SELECT a.generation, a.slot, a.number, a.island, a.parent_generation, a.parent_slot, "
    "a.parent_number, a.depth, json_extract(a.plan, '$.operator'), a.program, p.fingerprint, "
    f"e.status, e.objective, e.measures FROM attempts a {_JOIN} WHERE a.generation >= ? "
    "ORDER BY a.generation, a.slot, a.number"
)
SELECT_ATTEMPT = (
    "SELECT a.generation, a.slot, a.number, a.island, a.parent_generation, a.parent_slot, "
    f"a.parent_number, a.depth, a.plan, p.source, a.reason, a.detail, {_EVALUATION} "
    f"FROM attempts a {_JOIN} WHERE a.generation = ? AND a.slot = ? AND a.number = ?"
)
SELECT_CHILDREN = (
    "SELECT generation, slot, number FROM attempts WHERE parent_generation = ? "
    "AND parent_slot = ? AND parent_number = ? AND generation <= ? "
    "ORDER BY generation DESC, slot DESC, number DESC LIMIT ?"
)
SELECT_CALLS = "SELECT * FROM calls WHERE generation > ?"
SELECT_EVALUATIONS = (
    f"SELECT e.generation, e.slot, e.sequence, p.source, {_EVALUATION} "
    "FROM evaluations e JOIN programs p ON p.id = e.program WHERE e.generation > ?"
)
SELECT_SPENT = (
    "SELECT COUNT(*), COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0), "
    "COALESCE(SUM(cost_usd), 0.0), COUNT(*) - COUNT(cost_usd) FROM calls"
)
SELECT_USAGE = (
    "SELECT role, model, COUNT(*), 0, SUM(prompt_tokens), SUM(completion_tokens), "
    "COALESCE(SUM(cost_usd), 0.0), COUNT(*) - COUNT(cost_usd) FROM calls GROUP BY role, model"
)
SELECT_OUTCOMES = (
    "SELECT COALESCE(e.status, 'rejected') AS outcome, COUNT(*) FROM attempts a "
    "LEFT JOIN evaluations e ON e.generation = a.generation AND e.slot = a.slot "
    "AND e.sequence = a.evaluation GROUP BY outcome ORDER BY outcome"
)


def call_row(call: Call) -> Row:
    """Gives the row of a call."""
    request = {
        "role": call.request.role,
        "messages": [[message.role, message.text] for message in call.request.messages],
        "max_tokens": call.request.max_tokens,
        "temperature": call.request.temperature,
        "seed": call.request.seed,
    }
    reply = call.reply
    return (
        *call.key,
        call.request.hash,
        call.request.role,
        reply.model,
        _pack(request),
        zlib.compress(reply.text.encode()),
        call.error,
        reply.finish_reason,
        reply.prompt_tokens,
        reply.completion_tokens,
        reply.cost_usd,
        reply.seconds,
    )


def call(row: Row) -> Call:
    """Gives the call of a row of `calls`."""
    request = _unpack(row[6])
    request["messages"] = tuple(Message(*message) for message in request["messages"])
    reply = Reply(
        zlib.decompress(row[7]).decode(),
        model=row[5],
        prompt_tokens=row[10],
        completion_tokens=row[11],
        cost_usd=row[12],
        seconds=row[13],
        finish_reason=row[9],
    )
    return Call(AttemptKey(*row[:3]), Request(**request), reply, row[8])


def evaluation_row(evaluated: Evaluated) -> Row:
    """Gives the row of a finished evaluation."""
    evaluation = evaluated.evaluation
    return (
        *evaluated.key,
        evaluated.program.id,
        str(evaluation.status),
        evaluation.objective,
        json.dumps(dict(evaluation.metrics)),
        json.dumps(dict(evaluation.measures)),
        _pack(dict(evaluation.artifacts)),
        evaluation.seconds,
        evaluation.reason,
    )


def evaluated(row: Row) -> Evaluated:
    """Gives the finished evaluation of a row of `SELECT_EVALUATIONS`."""
    return Evaluated(AttemptKey(*row[:3]), program(row[3]), _evaluation(row[4:]))


def attempt_row(told: Told) -> Row:
    """Gives the row of an attempt."""
    attempt = told.attempt
    return (
        *attempt.key,
        attempt.island,
        *(attempt.parent or (None, None, None)),
        attempt.depth,
        None if attempt.plan is None else json.dumps(attempt.plan.as_dict()),
        None if attempt.program is None else attempt.program.id,
        told.evaluation_sequence,
        attempt.evaluation.reason if told.evaluation_sequence is None else "",
        attempt.evaluation.artifacts.get("detail", "") if told.evaluation_sequence is None else "",
    )


def attempt(row: Row) -> Attempt:
    """Gives the attempt of a row of `SELECT_ATTEMPT`."""
    if row[12] is None:
        artifacts = {"detail": row[11]} if row[11] else {}
        evaluation = Evaluation(Status.REJECTED, artifacts=artifacts, reason=row[10])
    else:
        evaluation = _evaluation(row[12:])
    return Attempt(
        key=AttemptKey(*row[:3]),
        island=row[3],
        parent=_parent(row[4:7]),
        depth=row[7],
        plan=None if row[8] is None else Plan.from_dict(json.loads(row[8])),
        program=None if row[9] is None else program(row[9]),
        evaluation=evaluation,
    )


def light_attempt(row: Row) -> LightAttempt:
    """Gives the attempt of a row of `SELECT_TOLD`."""
    return LightAttempt(
        key=AttemptKey(*row[:3]),
        island=row[3],
        parent=_parent(row[4:7]),
        depth=row[7],
        operator=row[8] or "",
        program_id=row[9],
        fingerprint=row[10],
        status=Status.REJECTED if row[11] is None else Status(row[11]),
        objective=row[12],
        measures=json.loads(row[13]) if row[13] else {},
    )


def lesson_row(generation: int, slot: int, summary: Summary) -> Row:
    """Gives the row of a slot's summary."""
    tags = json.dumps(list(summary.tags))
    return (generation, slot, summary.verdict, summary.cause, summary.lesson, tags)


def summary(row: Sequence[Any]) -> Summary:
    """Gives the summary of the columns verdict, cause, lesson, tags."""
    return Summary(row[0], row[1], row[2], tuple(json.loads(row[3])))


def program(source: bytes) -> Program:
    """Gives the program of a stored source."""
    return Program(tuple(SourceFile(*file) for file in _unpack(source)))


def _parent(row: Sequence[int | None]) -> AttemptKey | None:
    generation, slot, number = row
    if generation is None or slot is None or number is None:
        return None
    return AttemptKey(generation, slot, number)


def _evaluation(row: Sequence[Any]) -> Evaluation:
    status, objective, metrics, measures, artifacts, seconds, reason = row
    return Evaluation(
        Status(status),
        objective=objective,
        metrics=json.loads(metrics),
        measures=json.loads(measures),
        artifacts=_unpack(artifacts),
        seconds=seconds,
        reason=reason,
    )


def _pack(value: Any) -> bytes:
    return zlib.compress(json.dumps(value).encode())


def _unpack(data: bytes) -> Any:
    return json.loads(zlib.decompress(data))
