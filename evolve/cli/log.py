"""What happened in a run, and what it has learnt: `log`, `lessons`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evolve.cli.command import Result, command
from evolve.cli.inspect import opened_run
from evolve.cli.options import RUNS, Run
from evolve.display import one_line
from evolve.errors import UsageError

if TYPE_CHECKING:
    from evolve.records.results import Call
    from evolve.settings.history import Invocation
    from evolve.steps.memory import KnownLesson
    from evolve.store import Store


@command("Look")
def log(
    run: Run,
    *,
    generation: Annotated[
        int | None, typer.Option(help="Only this generation.", metavar="N")
    ] = None,
) -> Result:
    """List calls, attempts, lessons and stalls, also of a run in progress."""
    lines = _read_log(run, generation)
    first = list(itertools.islice(lines, 1))
    if generation is not None and not first:
        raise UsageError(f"--generation: nothing is recorded of generation {generation}")
    lines = itertools.chain(first, lines)
    return Result(map(_format, lines), lines)


def _read_log(run: str, generation: int | None) -> Iterator[dict[str, Any]]:
    with opened_run(run) as (store, run_state):
        numbers = [number for number, _ in store.generations()]
        launches = store.invocations()
        for number in numbers if generation is None else [generation]:
            yield from (_describe_launch(one) for one in launches if one.generation == number)
            yield from _read_generation(store, number)
            for event in run_state.stalls.events:
                if event.generation == number:
                    yield {"kind": "stall", "key": str(number), **event.as_dict()}
        if generation is None:
            newest = max(numbers, default=-1)
            yield from (_describe_launch(one) for one in launches if one.generation > newest)
            # Recorded, and not yet part of a committed generation.
            yield from map(_describe_call, store.finished_after(newest)[0])


def _read_generation(store: Store, number: int) -> Iterator[dict[str, Any]]:
    yield from map(_describe_call, store.finished_after(number - 1, number)[0])
    for key in store.keys_of(number):
        attempt = store.load_attempt(key)
        yield {
            "kind": "attempt",
            "key": str(key),
            "island": attempt.island,
            "parent": None if attempt.parent is None else str(attempt.parent),
            "program": None if attempt.program is None else attempt.program.id,
            "status": str(attempt.evaluation.status),
            "objective": attempt.objective,
            "seconds": attempt.evaluation.seconds,
            "reason": attempt.evaluation.reason,
            "plan": attempt.plan.change if attempt.plan else None,
        }
    summary = store.load_summary(number)
    if summary is not None:
        yield {"kind": "summary", "key": str(number), **dataclasses.asdict(summary)}


def _describe_launch(launch: Invocation) -> dict[str, Any]:
    return {
        "kind": "launch",
        "key": str(launch.generation),
        **dataclasses.asdict(launch),
        "text": launch.describe_changes(),
    }


def _describe_call(call: Call) -> dict[str, Any]:
    return {
        "kind": "call",
        "key": str(call.key),
        "role": call.request.role,
        "model": call.reply.model,
        "tokens": call.reply.prompt_tokens + call.reply.completion_tokens,
        "cost_usd": call.reply.cost_usd,
        "seconds": call.reply.seconds,
        "error": call.error,
    }


def _format(line: dict[str, Any]) -> str:
    line = {name: one_line(value) if type(value) is str else value for name, value in line.items()}
    start = f"{line['key']:>10}  {line['kind']:<7}"
    if line["kind"] == "launch":
        who = f"by process {line['pid']} on {line['host']}, evolve {line['version']}"
        return f"{start}  {line['number']} {who}, {line['started']}  {line['text']}".rstrip()
    if line["kind"] == "call":
        error = f"  unusable: {line['error']}" if line["error"] else ""
        return f"{start}  {line['role']}  {line['tokens']} tokens  {line['seconds']:.2f} s{error}"
    if line["kind"] == "stall":
        return f"{start}  level {line['level']}: {line['action']}"
    if line["kind"] == "summary":
        claims = "".join(f"\n{'':21}- {one_line(one['claim'])}" for one in line["lessons"])
        return f"{start}  {line['verdict']}{claims}"
    found = line["status"] if line["objective"] is None else f"{line['objective']:.10g}"
    why = (line["reason"] or line["plan"] or "the starting program")[:100]
    return f"{start}  {found}  {why}"


@command("Look")
def lessons(run: Run) -> Result:
    """List the lessons of a run, merged where they say the same."""
    from evolve.run.folder import find_run
    from evolve.search.digests import read_lessons
    from evolve.store import Store

    with closing(Store.open_to_read(find_run(run, RUNS))) as store:
        found = read_lessons(store)
    shown = [_format_lesson(lesson) for lesson in found]
    nothing = "no lessons: a model's summaries teach them, and this run has none so far"
    return Result(shown or nothing, [lesson.as_dict() for lesson in found])


def _format_lesson(known: KnownLesson) -> str:
    lesson = known.lesson
    counts = f"taught {known.taught} times"
    if known.followed:
        counts += f", followed {known.followed} times, a new best {known.paid} times"
    origin = f", from {known.origin}" if known.origin else ""
    word = "works" if lesson.works else "does not work"
    lines = [f"[{known.id}] {lesson.claim}", f"{word}; {counts}{origin}"]
    lines += [
        f"{name}: {text}"
        for name, text in (
            ("evidence", lesson.evidence),
            ("scope", lesson.scope),
            ("tags", ", ".join(lesson.tags)),
        )
        if text
    ]
    return "\n    ".join(map(one_line, lines))
