"""`evolve log`: what happened in a run, in order."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evolve.cli.inspect import opened_run
from evolve.cli.options import AsJson, Run
from evolve.display import one_line, say, say_json
from evolve.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evolve.archive.stalls import StallResponse
    from evolve.records.results import Call
    from evolve.settings.launches import Launch
    from evolve.store import Store


def log(
    run: Run,
    *,
    generation: Annotated[
        int | None, typer.Option(help="Only this generation.", metavar="N")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List calls, attempts, lessons and stalls, also while the run goes on."""
    is_empty = True
    with opened_run(run) as (store, standing):
        for line in _read(store, standing.stalls.responses, generation):
            if as_json:
                say_json(line, indent=None)
            else:
                say(_format(line))
            is_empty = False
        last = store.last_generation() or 0
    if generation is not None and is_empty:
        raise UsageError(f"--generation: expected one from 0 to {last}, got {generation}")


def _read(
    store: Store, responses: Sequence[StallResponse], generation: int | None
) -> Iterator[dict[str, Any]]:
    numbers = [number for number, _ in store.generations()]
    launches = store.launches()
    for number in numbers if generation is None else [generation]:
        yield from (_describe_launch(one) for one in launches if one.generation == number)
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
        for response in responses:
            if response.generation == number:
                yield {"kind": "stall", "key": str(number), **response.as_dict()}
    if generation is None:
        newest = max(numbers, default=-1)
        yield from (_describe_launch(one) for one in launches if one.generation > newest)
        # Paid for, and not yet part of a committed generation.
        yield from map(_describe_call, store.finished_after(newest)[0])


def _describe_launch(launch: Launch) -> dict[str, Any]:
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
