"""Commands that look at one program: `best`, `lineage`, `diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evolve.cli.inspect import opened_run, show_number
from evolve.cli.options import RUNS, AllowWeak, AsJson, Run, Trust
from evolve.display import one_line, say, say_json
from evolve.errors import UsageError

if TYPE_CHECKING:
    from evolve.population import Standing
    from evolve.records import Attempt
    from evolve.store import Store

ProgramId = Annotated[
    str | None,
    typer.Argument(help="Program id or the start of one; by default the champion.", metavar="ID"),
]


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
    as_json: AsJson = False,
) -> None:
    """Print the champion, write its files, or draw its answer."""
    from evolve.run.folder import (
        describe_verdict,
        find_run,
        write_program,
        write_text,
    )

    if plot is not None and plot.suffix != ".svg":
        raise UsageError(f"--plot: expected a name that ends in .svg, got {str(plot)!r}")
    with opened_run(run) as (store, population):
        attempt = _find_attempt(store, population, None)
    asked = {"plot": plot, "submit": submit}
    for purpose, file in asked.items():
        if file is not None:
            from evolve.problem import Purpose
            from evolve.run.opening import open_run
            from evolve.run.outcome import ask_for_product

            changes = {"sandbox.allow_weak": allow_weak_sandbox}
            trusted = open_run(find_run(run, RUNS), changes, trusts=trust)
            program = attempt.program_or_fail
            write_text(file, ask_for_product(trusted, program, Purpose(purpose)))
            say(str(file))
    if output is not None:
        for written in write_program(output, attempt):
            say(str(written))
    elif any(asked.values()):
        return
    elif as_json:
        files = dict(attempt.program_or_fail.files)
        say_json({**describe_verdict(attempt), "files": files})
    else:
        for path, text in attempt.program_or_fail.files:
            say(f"# {one_line(path)}: objective {show_number(attempt.objective)}")
            say(text)


def lineage(run: Run, program: ProgramId = None, *, as_json: AsJson = False) -> None:
    """Show how a program came about, from the starting program on."""
    from evolve.report.contents import trace_line

    with opened_run(run) as (store, population):
        line = trace_line(store, _find_attempt(store, population, program))
    if as_json:
        say_json(
            [
                {
                    "id": item.program_or_fail.id,
                    "attempt": str(item.key),
                    "generation": item.key.generation,
                    "objective": item.objective,
                    "plan": item.plan.change if item.plan else None,
                }
                for item in line
            ]
        )
        return
    for item in line:
        plan = one_line(item.plan.change)[:100] if item.plan else "the starting program"
        say(
            f"{item.program_or_fail.id}  generation {item.key.generation}  "
            f"objective {show_number(item.objective)}  {plan}"
        )


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
) -> None:
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
    before = dict(old.program_or_fail.files)
    for path, text in new.program_or_fail.files:
        names = (f"{one.program_or_fail.id}/{path}" for one in (old, new))
        changed = unified_diff(before.get(path, ""), text, *names)
        if changed:
            say(changed)


def _find_attempt(store: Store, population: Standing, program: str | None) -> Attempt:
    if program is not None:
        keys = store.attempts_of(program)
        if not keys:
            raise UsageError(f"program {program!r}: none of that id; `evolve archive RUN` has them")
        return store.load_attempt(keys[0])
    if population.champion is None:
        raise UsageError("the run has no evaluated program yet")
    return store.load_attempt(population.champion.key)
