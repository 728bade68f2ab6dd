"""Commands that look into a run: `show`, `best`, `lineage`, `diff`, `log`, `lessons`."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from evolve.cli.app import Result, command
from evolve.cli.inspect import opened_run, style_gain
from evolve.cli.options import RUNS, Changes, Run, Trust, argument, option, switch
from evolve.display import Heading, Listing, Part, TextTable, one_line, say, show_number
from evolve.edits.matching import unified_diff
from evolve.errors import ExitCode, UsageError
from evolve.problem import COOPERATIVE, Purpose
from evolve.records import INITIAL, Attempt, Status
from evolve.records.plain import to_plain
from evolve.records.results import Call, Steer
from evolve.report import overview
from evolve.report.contents import HERE, describe_attempt
from evolve.report.history import (
    attempt_as_data,
    call_as_data,
    describe_source,
    find_attempt,
    find_call,
    find_with_program,
    lineage_as_data,
    pair_files,
    whole_as_data,
)
from evolve.report.overview import describe_invocation
from evolve.report.phrases import describe_end, exit_code, show_date
from evolve.report.render import list_parts
from evolve.runs.opening import open_run
from evolve.runs.outcome import Outcome, ask_for_product
from evolve.runs.run_folder import describe_verdict, find_run, load_run, write_program, write_text
from evolve.search.knowledge import read_lessons
from evolve.search.population import Population
from evolve.steps.memory import KnownLesson, format_lessons
from evolve.steps.prompt import show_messages
from evolve.store import Store, is_locked

ProgramId = Annotated[
    str | None,
    argument("Program id or the start of one; by default the champion.", "ID"),
]


@command("Look", "evolve show latest", "evolve show latest 3.1.0")
def show(
    run: Run,
    attempt: Annotated[
        str | None, argument("Attempt, or the start of a program's id.", "ID")
    ] = None,
    *,
    prompt: Annotated[str | None, option("Only the prompt of this call or program.", "ID")] = None,
    reply: Annotated[str | None, option("Only the reply of this call or program.", "ID")] = None,
    source: Annotated[str | None, option("Only the source of this program.", "ID")] = None,
) -> Result:
    """Show the state of a run, or all of one attempt."""
    wanted = [one for one in (attempt, prompt, reply, source) if one is not None]
    if len(wanted) > 1:
        raise UsageError("show: expected one of ID, --prompt, --reply and --source, got several")
    if wanted:
        return _show_one(run, attempt, prompt=prompt, reply=reply, source=source)
    with opened_run(run) as (store, population):
        state = overview.describe_run(store.folder, store, population)
        tables = (
            overview.tabulate_spending(store.usage()),
            overview.tabulate_payoffs(state["payoffs"]),
            TextTable(overview.NODE, [tuple(one.values()) for one in state["nodes"]]),
        )
    shown: list[Part] = [TextTable(("", ""), overview.describe_state(state))]
    for table in tables:
        shown += ["", table] if table.rows else []
    return Result(shown, state)


def show_end(outcome: Outcome, folder: Path) -> Result:
    """Returns what the command of a run prints at its end; as data, what `show` prints."""
    lines = describe_end(outcome, folder)
    return Result(lines, lambda: show(str(folder)).data, exit_code(outcome))


@command(
    "Look",
    "evolve best latest",
    "evolve best latest --output champion",
    settings=("allow_weak_sandbox",),
)
def best(
    run: Run,
    *,
    output: Annotated[Path | None, option("Write the champion's files here.", "DIR")] = None,
    plot: Annotated[
        Path | None, option("Draw the champion's answer into this SVG file.", "FILE")
    ] = None,
    submit: Annotated[
        Path | None, option("Write the champion's answer for a competition.", "FILE")
    ] = None,
    trust: Trust = False,
    changes: Changes,
) -> Result:
    """Print the champion, write its files, or draw its answer."""
    if plot is not None and plot.suffix != ".svg":
        raise UsageError(f"--plot: expected a name that ends in .svg, got {str(plot)!r}")
    with opened_run(run) as (store, population):
        attempt = find_attempt(store, population, None)
        noted = _note_objective(store, population, attempt)
    products = {Purpose.PLOT: plot, Purpose.SUBMIT: submit}
    written = [file for file in products.values() if file is not None]
    if written:
        trusted = open_run(find_run(run, RUNS), changes.apply, trusts=trust)
        for purpose, file in products.items():
            if file is not None:
                product = ask_for_product(trusted, attempt.program_or_fail, purpose)
                write_text(file, product)
    if output is not None:
        written += write_program(output, attempt)
    files = dict(attempt.program_or_fail.files)
    shown: list[Part] = []
    if written:
        shown += [f"objective {noted}", *map(str, written)]
    else:
        for path, text in files.items():
            language = "python" * path.endswith(".py")
            shown += [f"# {one_line(path)}: objective {noted}", Listing(text, language)]
    return Result(
        shown,
        {**describe_verdict(attempt), "files": files, "written": [str(path) for path in written]},
    )


def _note_objective(store: Store, population: Population, attempt: Attempt) -> str:
    """Returns an objective with what it gains on the start, and whether it can be forged."""
    parts = [show_number(attempt.objective)]
    if attempt.objective is not None and population.initial not in {None, attempt.objective}:
        parts.append(
            overview.describe_gain(attempt.objective, population.initial or 0.0, population.noise)
        )
    if store.facts().get("cooperative"):
        parts.append(COOPERATIVE)
    return ", ".join(parts)


@command("Look", "evolve lineage latest")
def lineage(run: Run, program: ProgramId = None) -> Result:
    """Show a program's lineage, from the starting program on."""
    with opened_run(run) as (store, population):
        attempt = find_attempt(store, population, program)
        ancestors = lineage_as_data(store, attempt, population.direction)
    parts = [part for one in ancestors for part in _show_ancestor(one)]
    return Result(parts, ancestors)


def _show_ancestor(one: dict[str, Any]) -> Iterator[Part]:
    yield Heading(f"attempt {one['attempt']}, program {one['id']}")
    lines = [
        ("objective", show_number(one["objective"])),
        ("gain", style_gain(one["gain"])),
        ("by", describe_source(one["operator"], one["model"])),
        ("plan", one["plan"] or "the starting program"),
        *(("lesson", claim) for claim in one["lessons"]),
        ("inspirations", ", ".join(one["inspirations"])),
    ]
    yield TextTable(("", ""), [line for line in lines if line[1]])


@command("Look", "evolve diff latest 3.1.0")
def diff(
    run: Run,
    program: ProgramId = None,
    other: Annotated[
        str | None, argument("What to compare with; by default its parent.", "OTHER")
    ] = None,
    *,
    initial: Annotated[bool, switch("Compare with the starting program.", "--initial")] = False,
) -> Result:
    """Show what a program changed."""
    with opened_run(run) as (store, population):
        new = find_with_program(store, population, program)
        if other is not None:
            old = find_with_program(store, population, other)
        else:
            key = INITIAL if initial or new.parent is None else new.parent
            old = store.load_attempt(key)
    pair = old.program_or_fail, new.program_or_fail
    changes = {
        path: unified_diff(before, text, *(f"{program.id}/{path}" for program in pair))
        for path, before, text in pair_files(*pair)
    }
    return Result(
        [Listing(changed, "diff") for changed in changes.values() if changed],
        {"old": pair[0].id, "new": pair[1].id, "files": changes},
    )


def _show_one(
    run: str, attempt: str | None, *, prompt: str | None, reply: str | None, source: str | None
) -> Result:
    """Returns what `show` prints of one attempt, or of one of its parts.

    Args:
        run: As the command line names it.
        attempt: The attempt to show whole, if that is wanted.
        prompt: The call whose prompt alone is wanted.
        reply: The call whose reply alone is wanted.
        source: The program whose source alone is wanted.

    Raises:
        UsageError: There is no such attempt or call.
    """
    with opened_run(run) as (store, population):
        if prompt is not None or reply is not None:
            call = find_call(store, population, prompt or reply or "")
            messages = call.request.messages
            text = show_messages(messages) if prompt is not None else call.reply.text
            parts = {"messages": to_plain(messages)} if prompt is not None else {"reply": text}
            return Result(text, {**call_as_data(call), **parts})
        if source is not None:
            found = find_with_program(store, population, source)
            return Result(_list_files(found), {"files": dict(found.program_or_fail.files)})
        found = find_attempt(store, population, attempt)
        problem, _ = load_run(find_run(run, RUNS))
        document = describe_attempt(store, problem, found, HERE)
        data = whole_as_data(store, found, population.direction)
    # A terminal is too narrow for two texts side by side.
    changes = [Listing(changed, "diff") for changed in data["diff"].values() if changed]
    return Result([Heading(document.title), *list_parts(document, {"Changes": changes})], data)


def _list_files(attempt: Attempt) -> list[Listing]:
    """Returns the source of a program; files have titles where there are several."""
    files = attempt.program_or_fail.files
    return [Listing(text, title=path if len(files) > 1 else "") for path, text in files]


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
