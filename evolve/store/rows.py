"""Records to rows and back."""

from __future__ import annotations

import json
import sqlite3
import zlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from evolve.files import inside
from evolve.keys import cut_keys
from evolve.records import (
    Attempt,
    AttemptKey,
    Evaluation,
    Lesson,
    Plan,
    Program,
    SourceFile,
    Status,
    Summary,
)
from evolve.records.chat import Message, Reply, Request
from evolve.records.results import Call, Evaluated, Expense, LightAttempt
from evolve.settings.launches import Launch
from evolve.store.artifacts import is_large

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.records.results import Generation, Told
    from evolve.store.artifacts import ArtifactFiles

Row = tuple[Any, ...]

# No text of a run is nearly as long; a few bytes of a stranger's may unpack to as many gigabytes.
_MOST_BYTES = 256 << 20

_STATUS: dict[str | None, Status] = {None: Status.REJECTED, **{str(s): s for s in Status}}
_new = tuple.__new__
_scan = json.scanner.make_scanner(json.JSONDecoder())  # type: ignore[attr-defined]


def call_row(call: Call) -> Row:
    """Returns the row of a call."""
    request = {
        "role": call.request.role,
        "messages": [[message.role, message.text] for message in call.request.messages],
        "max_tokens": call.request.max_tokens,
        "temperature": call.request.temperature,
        "seed": call.request.seed,
        "schema": call.request.schema,
        "effort": call.request.effort,
    }
    reply = call.reply
    return (
        *call.key,
        call.request.hash,
        call.request.role,
        reply.model,
        cut_keys(call.error),
        reply.finish_reason,
        reply.prompt_tokens,
        reply.cached_tokens,
        reply.completion_tokens,
        reply.thinking_tokens,
        reply.cost_usd,
        reply.seconds,
        _pack(request),
        zlib.compress(reply.text.encode()),
    )


def expense_row(expense: Expense) -> Row:
    """Returns the row of an expense beside the calls."""
    return (
        expense.generation,
        expense.slot,
        expense.role,
        expense.model,
        expense.prompt_tokens,
        expense.cached_tokens,
        expense.completion_tokens,
        expense.thinking_tokens,
        expense.cost_usd,
        cut_keys(expense.lost),
    )


def expense(row: Row) -> Expense:
    """Returns the expense of a row of `expenses`."""
    _, generation, slot, role, model, prompt, cached, completion, thinking, cost_usd, lost = row
    return Expense(
        generation, slot, role, model, prompt, cached, completion, cost_usd, lost, thinking
    )


def call(row: Row) -> Call:
    """Returns the call of a row of `calls`."""
    request = unpack(row[14])
    request["messages"] = tuple(Message(*message) for message in request["messages"])
    reply = Reply(
        inflate(row[15]).decode(),
        model=row[5],
        prompt_tokens=row[8],
        completion_tokens=row[10],
        thinking_tokens=row[11],
        cost_usd=row[12],
        seconds=row[13],
        finish_reason=row[7],
        cached_tokens=row[9],
    )
    return Call(AttemptKey(*row[:3]), Request(**request), reply, row[6])


def source_row(program: Program) -> Row:
    """Returns the row of a program's source."""
    return (_pack([list(file) for file in program.files]),)


def evaluation_row(evaluated: Evaluated) -> Row:
    """Returns the row of a finished evaluation."""
    evaluation = evaluated.evaluation
    return (
        *evaluated.key,
        evaluated.program.id,
        str(evaluation.status),
        evaluation.objective,
        json.dumps(dict(evaluation.metrics)),
        json.dumps(dict(evaluation.measures)),
        json.dumps(dict(evaluation.instances)),
        evaluation.seconds,
        evaluation.reason,
    )


def artifacts_row(evaluated: Evaluated) -> Row:
    """Returns the row of an evaluation's artifacts, with a null for each that is in a file."""
    artifacts = evaluated.evaluation.artifacts.items()
    return (*evaluated.key, _pack({k: None if is_large(text) else text for k, text in artifacts}))


def evaluated(row: Row, files: ArtifactFiles) -> Evaluated:
    """Returns the finished evaluation of a row of `SELECT_EVALUATIONS`."""
    return Evaluated(
        AttemptKey(*row[:3]),
        program(row[3], row[-1]),
        _evaluation(row[4:-1], files),
    )


def attempt_row(told: Told) -> Row:
    """Returns the row of an attempt."""
    attempt = told.attempt
    return (
        *attempt.key,
        attempt.island,
        *(attempt.parent or (None, None, None)),
        attempt.depth,
        None if attempt.plan is None else json.dumps(attempt.plan.as_dict()),
        None if attempt.program is None else attempt.program.id,
        None if told.evaluated is None else told.evaluated.own.number,
        attempt.evaluation.reason if told.evaluated is None else "",
        attempt.evaluation.artifacts.get("detail", "") if told.evaluated is None else "",
    )


def attempt(row: Row, files: ArtifactFiles) -> Attempt:
    """Returns the attempt of a row of `SELECT_ATTEMPT`."""
    if row[12] is None:
        artifacts = {"detail": row[11]} if row[11] else {}
        evaluation = Evaluation(Status.REJECTED, artifacts=artifacts, reason=row[10])
    else:
        evaluation = _evaluation(row[12:-2], files)
    is_pruned = row[-2]
    return Attempt(
        key=AttemptKey(*row[:3]),
        island=row[3],
        parent=_parent(row[4:7]),
        depth=row[7],
        plan=None if row[8] is None else Plan.from_dict(json.loads(row[8])),
        program=None if row[-1] is None or is_pruned else program(row[9], row[-1]),
        evaluation=evaluation,
    )


def light_attempt(row: Row) -> LightAttempt:
    """Returns the attempt of a row of `SELECT_TOLD`."""
    (
        generation, slot, number, island, parent_generation, parent_slot, parent_number, depth,
        operator, program_id, mark, status, objective, measures, metrics, instances,
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
            mark,
            _STATUS[status],
            objective,
            _scan(measures, 0)[0] if measures else {},
            _scan(metrics, 0)[0] if metrics else {},
            _scan(instances, 0)[0] if instances else {},
            (),
        ),
    )


def generation_row(generation: Generation) -> Row:
    """Returns the row of a committed generation."""
    summary = generation.summary
    return (
        generation.number,
        generation.seconds,
        None if summary is None else json.dumps(asdict(summary)),
        json.dumps([plan.as_dict() for plan in generation.plans]),
    )


def summary(text: str) -> Summary:
    """Returns the summary of a generation."""
    found = json.loads(text)
    lessons = (Lesson(**{**item, "tags": tuple(item["tags"])}) for item in found["lessons"])
    return Summary(found["verdict"], tuple(lessons), tuple(found["outdated"]))


def plans(text: str) -> tuple[Plan, ...]:
    """Returns the plans of a generation."""
    return tuple(map(Plan.from_dict, json.loads(text)))


def launch_row(launch: Launch) -> Row:
    """Returns the row of a launch."""
    changes = json.dumps({name: list(change) for name, change in launch.changes.items()})
    return (
        launch.number,
        launch.started,
        launch.pid,
        launch.host,
        launch.version,
        launch.generation,
        changes,
    )


def launch(row: Row) -> Launch:
    """Returns the launch of a row of `launches`."""
    changes = {name: (old, new) for name, (old, new) in json.loads(row[6]).items()}
    number, started, pid, host, version, generation = row[:6]
    return Launch(number, started, pid, host, version, generation, changes)


def program(source: bytes | None, expected: str) -> Program:
    """Returns the program of a stored source.

    Raises:
        DatabaseError: There is none, or it is another one than expected.
    """
    if source is None:
        raise sqlite3.DatabaseError(f"the source of program {expected} is missing")
    try:
        files = unpack(source)
        found = Program(tuple(SourceFile(str(inside(path)), text) for path, text in files))
    except (ValueError, TypeError, AttributeError) as error:
        raise sqlite3.DatabaseError(f"damaged: program {expected}: {error}") from error
    if found.id != expected:
        raise sqlite3.DatabaseError(f"damaged: in place of program {expected} there is {found.id}")
    return found


def _parent(row: Sequence[int | None]) -> AttemptKey | None:
    generation, slot, number = row
    if generation is None or slot is None or number is None:
        return None
    return AttemptKey(generation, slot, number)


def _evaluation(row: Sequence[Any], files: ArtifactFiles) -> Evaluation:
    status, objective, metrics, measures, instances, seconds, reason, artifacts, in_files = row
    texts = {} if artifacts is None else unpack(artifacts)
    return Evaluation(
        Status(status),
        objective=objective,
        metrics=json.loads(metrics),
        measures=json.loads(measures),
        instances=json.loads(instances),
        artifacts=files.fill(texts, in_files),
        seconds=seconds,
        reason=reason,
    )


def _pack(value: Any) -> bytes:
    return zlib.compress(json.dumps(value).encode())


def unpack(data: bytes) -> Any:
    """Returns the plain data that a compressed text holds."""
    return json.loads(inflate(data))


def inflate(data: bytes) -> bytes:
    """Returns an unpacked text, which is whole and of a bounded length.

    Raises:
        zlib.error: It is neither.
    """
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, _MOST_BYTES)
    if not unpacker.eof:
        raise zlib.error("a compressed text is cut short, or longer than any")
    return text
