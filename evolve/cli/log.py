"""What happened in a run, and what it has learnt: `log`, `lessons`."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from evolve.cli.command import Result, command
from evolve.cli.inspect import opened_run
from evolve.cli.options import RUNS, Run, option, switch
from evolve.display import one_line, say, show_number
from evolve.errors import ExitCode, UsageError
from evolve.records import Status
from evolve.records.results import Call
from evolve.records.steering import Steer
from evolve.report.attempt_details import attempt_as_data, call_as_data, describe_source
from evolve.report.overview import describe_invocation
from evolve.report.phrases import show_date
from evolve.runs.run_folder import find_run, write_text
from evolve.search.lasting import read_lessons
from evolve.search.population import Population
from evolve.steps.lessons import KnownLesson, format_lessons
from evolve.store import Store, is_locked

_POLL_SECONDS = 0.5
# Keys of lines that are named otherwise than the options that choose them.
_KEYS = {"outcome": "status"}


@command("Look", "evolve log latest --follow", "evolve log latest --outcome error")
def log(
    run: Run,
    *,
    generation: Annotated[int | None, option("Only this generation.", "N")] = None,
    outcome: Annotated[str | None, option("Only attempts of this status.", "STATUS")] = None,
    island: Annotated[int | None, option("Only attempts of this island.", "N")] = None,
    operator: Annotated[str | None, option("Only attempts of this operator.", "NAME")] = None,
    model: Annotated[str | None, option("Only calls and attempts of this model.", "NAME")] = None,
    role: Annotated[str | None, option("Only calls of this role.", "ROLE")] = None,
    follow: Annotated[bool, switch("Wait for more until the run ends.", "--follow", "-f")] = False,
) -> Result:
    """List calls, attempts, lessons, stalls and steering, also of a run in progress."""
    if outcome is not None and outcome not in list(Status):
        raise UsageError(f"--outcome: expected one of {', '.join(Status)}, got {outcome!r}")
    given = {"generation": generation, "outcome": outcome, "island": island, "operator": operator}
    given |= {"model": model, "role": role}
    wanted = {name: value for name, value in given.items() if value is not None}
    lines: Iterator[dict[str, Any]] = (
        line
        for line in _read_log(run, generation, follow=follow)
        if all(line.get(_KEYS.get(name, name)) == value for name, value in wanted.items())
    )
    if follow:
        return Result(_until_interrupted(map(_format, lines)), _until_interrupted(lines))
    first = list(itertools.islice(lines, 1))
    if wanted and not first:
        asked = " ".join(f"--{name} {value}" for name, value in wanted.items())
        raise UsageError(f"{asked}: nothing like that is recorded; `evolve log RUN` lists all")
    lines = itertools.chain(first, lines)
    return Result(map(_format, lines), lines)


def _until_interrupted(lines: Iterator[Any]) -> Iterator[Any]:
    """Yields lines until there are no more, or Ctrl-C."""
    try:
        yield from lines
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _read_log(run: str, generation: int | None, *, follow: bool) -> Iterator[dict[str, Any]]:
    """Yields what is recorded and, if wanted, what will be until the run ends."""
    with opened_run(run) as (store, state):
        reader = _LogReader(store, state, generation)
        while True:
            # Once the process has gone, its last commit is still to be read.
            is_running = follow and is_locked(store.folder)
            yield from reader.read_new()
            if not is_running:
                return
            time.sleep(_POLL_SECONDS)


class _LogReader:
    """Reads what was recorded, each thing once.

    Args:
        store: The run's database.
        state: What the run has reached; brought up to date.
        only: The one generation to read; None for all.
    """

    def __init__(self, store: Store, state: Population, only: int | None) -> None:
        self._store, self._state, self._only = store, state, only
        self._read = -1 if only is None else only - 1
        self._seen: set[tuple[str, object]] = set()

    def read_new(self) -> Iterator[dict[str, Any]]:
        """Yields what is new, by generation; last what is not part of a committed one yet."""
        store, state = self._store, self._state
        last = store.last_generation()
        if last is not None:
            for _ in state.add_all(store.light_attempts(state.generation + 1), last):
                pass
            while self._read < (last if self._only is None else min(self._only, last)):
                self._read += 1
                yield from self._list_unseen(self._list_asked(self._read))
                yield from self._list_unseen(self._describe_generation(self._read))
        yield from self._list_unseen(self._list_asked(None))
        yield from self._list_unseen(map(_describe_call, store.finished_after(self._read)[0]))

    def _list_asked(self, upto: int | None) -> Iterator[dict[str, Any]]:
        """Yields invocations and steering up to a generation; None for all."""
        for invocation in self._store.invocations():
            if upto is None or invocation.generation <= upto:
                yield {
                    "kind": "invocation",
                    **describe_invocation(invocation),
                    "time": invocation.started,
                }
        for steer in self._store.steering():
            if upto is None or (steer.generation is not None and steer.generation <= upto):
                yield _describe_steer(steer)

    def _list_unseen(self, lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for line in lines:
            mark = line["kind"], line.get("call") or line.get("number")
            if mark[1] is None or mark not in self._seen:
                yield line
            self._seen.add(mark)

    def _describe_generation(self, number: int) -> Iterator[dict[str, Any]]:
        store, direction = self._store, self._state.direction
        calls, evaluations = store.finished_after(number - 1, number)
        yield from map(_describe_call, sorted(calls, key=lambda call: call.time))
        generation = store.load_generation(number)
        committed, summary = generation.time, generation.summary
        times = {one.key: one.time for one in evaluations}
        for slot in store.load_slots(number):
            for attempt in slot.attempts:
                own = None if attempt.evaluated is None else attempt.evaluated.own
                described = attempt_as_data(store, attempt, direction)
                when = committed if own is None else times.get(own, committed)
                found = attempt.evaluation
                measured = {"seconds": found.seconds, "machine": found.machine}
                yield {"kind": "attempt", **described, **measured, "time": when}
        common = {"generation": number, "time": committed}
        if summary is not None:
            yield {"kind": "summary", **common, **dataclasses.asdict(summary)}
        for event in self._state.stalls.events:
            if event.generation == number:
                yield {"kind": "stall", **common, **dataclasses.asdict(event)}


def _describe_steer(steer: Steer) -> dict[str, Any]:
    return {
        "kind": "steer",
        "number": steer.number,
        "asks": str(steer.kind),
        "generation": steer.generation,
        "time": steer.time,
        "text": steer.text,
        "shown": steer.describe(),
    }


def _describe_call(call: Call) -> dict[str, Any]:
    return {"kind": "call", **call_as_data(call)}


def _format(line: dict[str, Any]) -> str:
    line = {name: one_line(value) if type(value) is str else value for name, value in line.items()}
    key = line.get("call") or line.get("attempt") or str(line["generation"])
    start = f"{show_date(line['time']) or '-':<19}  {key:>9}  {line['kind']:<10}"
    return f"{start}  {_FORMS[line['kind']](line)}".rstrip()


def _format_invocation(line: dict[str, Any]) -> str:
    who = f"by process {line['pid']} on {line['host']}, evolve {line['version']}"
    return f"{line['number']} {who}  {line['text']}"


def _format_call(line: dict[str, Any]) -> str:
    cost = "price unknown" if line["cost_usd"] is None else f"${line['cost_usd']:.4f}"
    error = f"  unusable: {line['error']}" if line["error"] else ""
    used = f"{line['tokens']} tokens  {cost}  {line['seconds']:.2f} s"
    return f"{line['role']}  {line['model']}  {used}{error}"


def _format_summary(line: dict[str, Any]) -> str:
    claims = "".join(f"\n{'':44}- {one_line(one['claim'])}" for one in line["lessons"])
    return f"{line['verdict']}{claims}"


def _format_attempt(line: dict[str, Any]) -> str:
    found = line["status"] if line["objective"] is None else show_number(line["objective"])
    gain = "" if line["gain"] is None else f"  {line['gain']:+.6g}"
    source = describe_source(line["operator"], line["model"])
    why = line["reason"] or line["plan"] or "the starting program"
    return f"{found}{gain}  island {line['island']}  {source}: {why}"


_FORMS: dict[str, Callable[[dict[str, Any]], str]] = {
    "invocation": _format_invocation,
    "call": _format_call,
    "attempt": _format_attempt,
    "summary": _format_summary,
    "steer": lambda line: f"{line['number']} by the user: {line['shown']}",
    "stall": lambda line: str(line["action"]),
}


@command("Look", "evolve lessons latest --output lessons.md")
def lessons(
    run: Run,
    *,
    output: Annotated[
        Path | None, option("Write them to this Markdown file, to edit and reuse.", "FILE")
    ] = None,
) -> Result:
    """List the lessons of a run, merged where they say the same."""
    with closing(Store.open_to_read(find_run(run, RUNS))) as store:
        found = read_lessons(store)
        problem = store.facts().get("problem", "")
    if output is not None:
        write_text(output, format_lessons({problem: found}))
        say(f"{len(found)} lessons: {output}", err=True)
    shown = [_format_lesson(lesson) for lesson in found]
    nothing = "no lessons: a model's summaries teach them, and this run has none so far"
    return Result(shown or nothing, [lesson.as_dict() for lesson in found])


def _format_lesson(known: KnownLesson) -> str:
    lesson = known.lesson
    counts = f"taught {known.taught} times"
    if known.followed:
        counts += f", followed {known.followed} times, a new best {known.new_bests} times"
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
