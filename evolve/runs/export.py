"""Everything in a run's database as files that other programs read."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from evolve.display import as_cell
from evolve.errors import UsageError
from evolve.files import writing
from evolve.keys import cut_keys
from evolve.population.curves import trace_curve
from evolve.records.plain import to_plain
from evolve.runs.run_folder import write_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evolve.population.curves import CurvePoint
    from evolve.problem import Problem
    from evolve.records import Attempt
    from evolve.records.results import Call, Evaluated, Expense
    from evolve.settings import Settings
    from evolve.store import Store

EVERYTHING, CURVE, CHAMPIONS = "run.jsonl", "curve.csv", "champions"
_COLUMNS = ("generation", "seconds", "evaluations", "calls", "cost_usd", "objective", "program")


def export_run(store: Store, problem: Problem, settings: Settings, folder: Path) -> list[Path]:
    """Writes `run.jsonl`, `curve.csv` and a folder of each champion in turn.

    Raises:
        UsageError: The folder holds files already.
        StoreError: The database cannot be read, or the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: expected a new or empty folder, got a file")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: expected a new or empty folder, got one with files in it")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / EVERYTHING).open("w", encoding="utf-8") as stream:
            for line in describe_everything(store):
                stream.write(cut_keys(json.dumps(line, sort_keys=True)) + "\n")
        curve = list(trace_curve(store, problem, settings.search))
        with (folder / CURVE).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows([as_cell(cell) for cell in _curve_row(point)] for point in curve)
    written = [folder / EVERYTHING, folder / CURVE]
    for champion in dict.fromkeys(point.champion for point in curve if point.champion):
        attempt = store.load_attempt(champion.key)
        name = f"{CHAMPIONS}/{attempt.key.generation:06d}-{attempt.program_or_fail.id}"
        write_program(folder, attempt, below=name)
        written.append(folder / name)
    return written


def describe_everything(store: Store) -> Iterator[dict[str, Any]]:
    """Returns all rows of a run as plain data, by generation; `kind` says what a line is.

    Calls, evaluations and expenses of generations that are not committed come last.
    """
    for name, value in sorted(store.facts().items()):
        yield {"kind": "fact", "name": name, "value": value}
    for invocation in store.invocations():
        yield {"kind": "invocation", **to_plain(invocation)}
    for steer in store.steering():
        yield {**to_plain(steer), "kind": "steer", "asks": str(steer.kind)}
    last = -1
    for generation in store.generations():
        number, summary = generation.number, generation.summary
        yield {"kind": "generation", "generation": number, "seconds": generation.seconds}
        yield from _describe_finished(*store.finished_after(number - 1, number))
        yield from _describe_expenses(store.expenses(number - 1, number))
        for key in store.keys_of(number):
            yield _describe_attempt(store.load_attempt(key))
        if summary is not None:
            yield {"kind": "summary", "generation": number, **to_plain(summary)}
        last = number
    yield from _describe_finished(*store.finished_after(last))
    yield from _describe_expenses(store.expenses(last))


def _curve_row(point: CurvePoint) -> list[Any]:
    champion = point.champion
    found = ["", ""] if champion is None else [repr(champion.objective), champion.program_id]
    spent = [point.evaluations, point.calls, repr(point.cost_usd)]
    return [point.generation, f"{point.seconds:.3f}", *spent, *found]


def _describe_finished(calls: list[Call], evaluations: list[Evaluated]) -> Iterator[dict[str, Any]]:
    for call in calls:
        line = to_plain(call)
        schema = call.request.schema
        line["request"]["schema"] = json.loads(schema) if schema else None
        key = str(call.key)
        yield {"kind": "call", **line.pop("reply"), **line, "key": key}
    for item in evaluations:
        key, program = str(item.key), item.program.id
        verdict = to_plain(item.evaluation)
        yield {"kind": "evaluation", "key": key, "program": program, "time": item.time, **verdict}


def _describe_expenses(expenses: list[Expense]) -> Iterator[dict[str, Any]]:
    for expense in expenses:
        yield {"kind": "expense", **to_plain(expense)}


def _describe_attempt(attempt: Attempt) -> dict[str, Any]:
    program = attempt.program
    return {
        "kind": "attempt",
        **to_plain(attempt),
        "key": str(attempt.key),
        "parent": None if attempt.parent is None else str(attempt.parent),
        "program": None if program is None else program.id,
        "files": None if program is None else dict(program.files),
    }
