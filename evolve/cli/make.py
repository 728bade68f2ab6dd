"""Commands for problem folders: `check` and `init`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from evolve.cli.inspect import COOPERATIVE
from evolve.cli.options import (
    OPTION_KEYS,
    RUNS,
    AllowWeak,
    Assignments,
    Editor,
    Generations,
    MaxCost,
    Model,
    Planner,
    SandboxFresh,
    SandboxName,
    Summarizer,
    read_settings,
)
from evolve.display import one_line, say

if TYPE_CHECKING:
    from evolve.problem import Problem
    from evolve.records import Evaluation


def check(
    problem: Annotated[Path, typer.Argument(help="Problem folder.", metavar="PROBLEM")],
    *,
    sandbox: SandboxName = None,
    sandbox_fresh: SandboxFresh = False,
    allow_weak_sandbox: AllowWeak = False,
    assignments: Assignments = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what a run will cost; no model is asked.")
    ] = False,
    like: Annotated[
        str | None, typer.Option(help="Estimate from what this run used.", metavar="RUN")
    ] = None,
    generations: Generations = None,
    model: Model = None,
    planner: Planner = None,
    editor: Editor = None,
    summarizer: Summarizer = None,
    max_cost: MaxCost = None,
) -> None:
    """Validate a problem folder and evaluate its starting program once."""
    from evolve.evaluation.launch import start_blank

    blank = start_blank()
    from evolve.problem import load_problem
    from evolve.problem.gallery import find_problem, is_shipped
    from evolve.run.wiring import complete_settings, describe_isolation, open_evaluators

    options = {name: value for name, value in locals().items() if name in OPTION_KEYS}
    settings = complete_settings(read_settings(options, assignments, None))
    found = load_problem(find_problem(problem), settings.parameters)
    if not is_shipped(found):
        say(f"evaluator {one_line(found.evaluator)} (runs with your rights)")
    with closing(open_evaluators(found, settings)) as evaluators:
        evaluators.start(blank)
        from evolve.run.running import evaluate_initial

        isolation = evaluators.wait()
        evaluation = evaluate_initial(found, evaluators)
        _describe_problem(found, evaluation)
        say(describe_isolation(isolation, fresh=settings.sandbox.fresh))
        if estimate or like is not None:
            from evolve.cli.estimates import print_estimate
            from evolve.run.folder import find_run

            folder = None if like is None else find_run(like, RUNS)
            print_estimate(found, settings, evaluation, evaluators, folder)
    say(f"ok: evolve run {quote(str(problem))}")


def _describe_problem(problem: Problem, evaluation: Evaluation) -> None:
    say(f"problem   {problem.name}, {problem.direction}")
    if problem.cooperative:
        say(f"          {COOPERATIVE}")
    say(f"objective {evaluation.objective:.10g}")
    for name, value in {**evaluation.metrics, **evaluation.measures}.items():
        say(f"  {one_line(name)} {value:.10g}")
    for name, known in problem.references.items():
        say(f"{name} {known.value:.12g} ({one_line(known.source)})")
    say(f"seconds   {evaluation.seconds:.3f}")


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
    from evolve.importing.foreign import read_foreign, write_foreign
    from evolve.importing.kaggle import write_competition
    from evolve.problem.gallery import scaffold_problem

    if kind is None and not kaggle and target is not None:
        raise UsageError(f"init: expected one folder, or `--from KIND`; got {target} as well")
    if kaggle and kind is not None:
        raise UsageError("init: expected `--from KIND` or `--kaggle`, got both")
    if kaggle:
        made = target or Path(folder.resolve().name)
        written = write_competition(folder, made)
    elif kind is None:
        made, written = folder, scaffold_problem(folder)
    else:
        made = target or Path(folder.resolve().name)
        written = write_foreign(read_foreign(kind, folder), made)
        say(COOPERATIVE)
    for path in written:
        say(str(path))
    say(f"next: evolve check {quote(str(made))}, then evolve run {quote(str(made))}")
