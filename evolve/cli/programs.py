"""Commands that look at a run and its programs: `show`, `best`, `lineage`, `diff`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from evolve.cli.command import Result, command
from evolve.cli.inspect import opened_run, style_gain
from evolve.cli.options import RUNS, Changes, Run, Trust, argument, option, switch
from evolve.display import Heading, Listing, Part, TextTable, one_line, show_number
from evolve.edits.diffs import unified_diff
from evolve.errors import UsageError
from evolve.problem import COOPERATIVE, Purpose
from evolve.records import INITIAL, Attempt
from evolve.records.plain import to_plain
from evolve.report import overview
from evolve.report.attempt_details import (
    call_as_data,
    describe_source,
    find_attempt,
    find_call,
    find_with_program,
    lineage_as_data,
    pair_files,
    whole_as_data,
)
from evolve.report.contents import HERE, describe_attempt
from evolve.report.phrases import describe_end, exit_code
from evolve.report.render import list_parts
from evolve.runs.opening import open_run
from evolve.runs.outcome import Outcome, ask_for_product
from evolve.runs.run_folder import describe_verdict, find_run, load_run, write_program, write_text
from evolve.search.population import Population
from evolve.steps.prompt import show_messages
from evolve.store import Store

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
