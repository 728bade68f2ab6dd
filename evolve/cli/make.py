"""Commands for problem folders: `check` and `init`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from evolve.cli.inspect import COOPERATIVE
from evolve.cli.run import AllowWeak, Assignments, SandboxFresh, SandboxName, read_settings


def check(
    problem: Annotated[Path, typer.Argument(help="Problem folder.", metavar="PROBLEM")],
    *,
    sandbox: SandboxName = None,
    sandbox_fresh: SandboxFresh = False,
    allow_weak_sandbox: AllowWeak = False,
    assignments: Assignments = None,
) -> None:
    """Validate a problem folder and evaluate its starting program once."""
    from evolve.gallery import find_problem
    from evolve.problem import load_problem
    from evolve.session import evaluate_initial
    from evolve.wiring import complete_settings, describe_isolation, open_evaluators

    options = {
        "sandbox": sandbox,
        "sandbox_fresh": sandbox_fresh,
        "allow_weak_sandbox": allow_weak_sandbox,
    }
    settings = complete_settings(read_settings(options, assignments, None))
    found = load_problem(find_problem(problem), settings.parameters)
    with closing(open_evaluators(found, settings)) as evaluators:
        evaluators.start()
        isolation = evaluators.wait()
        evaluation = evaluate_initial(found, evaluators)
    typer.echo(f"problem   {found.name}, {found.direction}")
    if found.cooperative:
        typer.echo(f"          {COOPERATIVE}")
    typer.echo(describe_isolation(isolation, fresh=settings.sandbox.fresh))
    typer.echo(f"objective {evaluation.objective:.10g}")
    for name, value in {**evaluation.metrics, **evaluation.measures}.items():
        typer.echo(f"  {name} {value:.10g}")
    if found.best_known is not None:
        typer.echo(f"best known {found.best_known.value:.12g} ({found.best_known.source})")
    typer.echo(f"seconds   {evaluation.seconds:.3f}")
    typer.echo(f"ok: evolve run {problem}")


def init(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder to make, or to import.", metavar="FOLDER"),
    ],
    target: Annotated[
        Path | None,
        typer.Argument(
            help="Where an import goes; by default a folder of its name.", metavar="TARGET"
        ),
    ] = None,
    *,
    kind: Annotated[
        str | None,
        typer.Option("--from", help="Import from openevolve, shinka or loongflow.", metavar="KIND"),
    ] = None,
    kaggle: Annotated[
        bool, typer.Option("--kaggle", help="Import a competition's folder of Kaggle's form.")
    ] = False,
) -> None:
    """Make a new problem folder that passes `evolve check`, or import one."""
    from evolve.errors import UsageError
    from evolve.importing.convert import write_foreign
    from evolve.importing.foreign import read_foreign
    from evolve.importing.kaggle import write_competition
    from evolve.scaffold import scaffold_problem

    if kind is None and not kaggle and target is not None:
        raise UsageError(f"init: expected one folder, or `--from KIND`; got {target} as well")
    if kaggle:
        made = target or Path(folder.resolve().name)
        written = write_competition(folder, made)
    elif kind is None:
        made, written = folder, list(scaffold_problem(folder))
    else:
        made = target or Path(folder.resolve().name)
        written = write_foreign(read_foreign(kind, folder), made)
        typer.echo(COOPERATIVE)
    for path in written:
        typer.echo(str(path))
    typer.echo(f"next: evolve check {made}, then evolve run {made}")
