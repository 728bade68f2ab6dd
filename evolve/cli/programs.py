"""Commands that look at one program: `best`, `lineage`, `diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evolve.cli.command import Result, command
from evolve.cli.inspect import opened_run
from evolve.cli.options import RUNS, AllowWeak, Changes, Run, Trust
from evolve.display import TextTable, one_line, show_number
from evolve.errors import UsageError

if TYPE_CHECKING:
    from evolve.population import RunState
    from evolve.records import Attempt
    from evolve.store import Store

ProgramId = Annotated[
    str | None,
    typer.Argument(help="Program id or the start of one; by default the champion.", metavar="ID"),
]


@command("Look")
def best(
    run: Run,
    *,
    output: Annotated[
        Path | None, typer.Option(help="Write the champion's files here.", metavar="DIR")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the champion's answer into this SVG file.", metavar="FILE"),
    ] = None,
    submit: Annotated[
        Path | None,
        typer.Option(help="Write the champion's answer for a competition.", metavar="FILE"),
    ] = None,
    allow_weak_sandbox: AllowWeak = False,
    trust: Trust = False,
) -> Result:
    """Print the champion, write its files, or draw its answer."""
    from evolve.problem import Purpose
    from evolve.run.folder import describe_verdict, find_run, write_program, write_text
    from evolve.run.opening import open_run
    from evolve.run.outcome import ask_for_product

    if plot is not None and plot.suffix != ".svg":
        raise UsageError(f"--plot: expected a name that ends in .svg, got {str(plot)!r}")
    with opened_run(run) as (store, population):
        attempt = _find_attempt(store, population, None)
        noted = _note_objective(store, population, attempt)
    products = {Purpose.PLOT: plot, Purpose.SUBMIT: submit}
    written = [file for file in products.values() if file is not None]
    if written:
        changes = Changes({}, {"sandbox.allow_weak": allow_weak_sandbox})
        trusted = open_run(find_run(run, RUNS), changes.apply, trusts=trust)
        for purpose, file in products.items():
            if file is not None:
                product = ask_for_product(trusted, attempt.program_or_fail, purpose)
                write_text(file, product)
    if output is not None:
        written += write_program(output, attempt)
    files = dict(attempt.program_or_fail.files)
    if written:
        shown = [f"objective {noted}", *map(str, written)]
    else:
        shown = [f"# {one_line(path)}: objective {noted}\n{files[path]}" for path in files]
    return Result(
        shown,
        {**describe_verdict(attempt), "files": files, "written": [str(path) for path in written]},
    )


def _note_objective(store: Store, population: RunState, attempt: Attempt) -> str:
    """Returns an objective with what it gains on the start, and whether it can be forged."""
    from evolve.problem import COOPERATIVE
    from evolve.report.state import describe_gain

    parts = [show_number(attempt.objective)]
    if attempt.objective is not None and population.initial not in {None, attempt.objective}:
        parts.append(describe_gain(attempt.objective, population.initial or 0.0, population.noise))
    if store.facts().get("cooperative"):
        parts.append(COOPERATIVE)
    return ", ".join(parts)


@command("Look")
def lineage(run: Run, program: ProgramId = None) -> Result:
    """Show a program's lineage, from the starting program on."""
    from evolve.report.contents import trace_line

    with opened_run(run) as (store, population):
        line = trace_line(store, _find_attempt(store, population, program))
    ancestors: list[dict[str, Any]] = [
        {
            "id": one.program_or_fail.id,
            "attempt": str(one.key),
            "generation": one.key.generation,
            "objective": one.objective,
            "plan": one.plan.change if one.plan else None,
        }
        for one in line
    ]
    rows = [
        [
            one["id"],
            one["generation"],
            show_number(one["objective"]),
            one_line(one["plan"] or "the starting program")[:100],
        ]
        for one in ancestors
    ]
    return Result(TextTable(("program", "generation", "objective", "plan"), rows), ancestors)


@command("Look")
def diff(
    run: Run,
    program: ProgramId = None,
    other: Annotated[
        str | None,
        typer.Argument(help="What to compare with; by default its parent.", metavar="OTHER"),
    ] = None,
    *,
    initial: Annotated[
        bool, typer.Option("--initial", help="Compare with the starting program.")
    ] = False,
) -> Result:
    """Show what a program changed."""
    from evolve.edits.diffs import unified_diff
    from evolve.records import INITIAL

    with opened_run(run) as (store, population):
        new = _find_attempt(store, population, program)
        if other is not None:
            old = _find_attempt(store, population, other)
        else:
            key = INITIAL if initial or new.parent is None else new.parent
            old = store.load_attempt(key)
    before, pair = dict(old.program_or_fail.files), (old.program_or_fail.id, new.program_or_fail.id)
    changes = {
        path: unified_diff(before.get(path, ""), text, *(f"{name}/{path}" for name in pair))
        for path, text in new.program_or_fail.files
    }
    return Result(
        [changed for changed in changes.values() if changed],
        {"old": pair[0], "new": pair[1], "files": changes},
    )


def _find_attempt(store: Store, population: RunState, program: str | None) -> Attempt:
    if program is not None:
        keys = store.attempts_of(program)
        if not keys:
            raise UsageError(f"program {program!r}: none of that id; `evolve archive RUN` has them")
        return store.load_attempt(keys[0])
    if population.champion is None:
        raise UsageError("the run has no evaluated program yet")
    return store.load_attempt(population.champion.key)
