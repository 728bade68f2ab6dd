"""`evolve run` and `evolve resume`."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from evolve.cli.options import (
    OPTION_KEYS,
    RUNS,
    AllowWeak,
    ApiBase,
    Assignments,
    Detach,
    Editor,
    Generations,
    Leap,
    MaxCost,
    MaxEvaluations,
    MaxTime,
    Model,
    Patience,
    Planner,
    SandboxFresh,
    SandboxName,
    StrategyName,
    Summarizer,
    Target,
    Trust,
    Workers,
    read_options,
    read_settings,
)
from evolve.display import one_line, say

if TYPE_CHECKING:
    from evolve.evaluation.launch import Blank
    from evolve.problem import Problem
    from evolve.run.opening import Run
    from evolve.settings import Settings


def run(
    problem: Annotated[
        Path | None,
        typer.Argument(help="Problem folder; that of the run with --replay.", metavar="PROBLEM"),
    ] = None,
    *,
    generations: Generations = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.", metavar="N")] = None,
    strategy: StrategyName = None,
    workers: Workers = None,
    model: Model = None,
    planner: Planner = None,
    editor: Editor = None,
    summarizer: Summarizer = None,
    leap: Leap = None,
    api_base: ApiBase = None,
    sandbox: SandboxName = None,
    sandbox_fresh: SandboxFresh = False,
    allow_weak_sandbox: AllowWeak = False,
    max_cost: MaxCost = None,
    max_evaluations: MaxEvaluations = None,
    max_time: MaxTime = None,
    target: Target = None,
    patience: Patience = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Run folder; by default a new one in ./runs.", metavar="DIR")
    ] = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="TOML file of settings.", metavar="FILE")
    ] = None,
    lessons: Annotated[
        str | None, typer.Option(help="Start with the lessons of another run.", metavar="RUN")
    ] = None,
    assignments: Assignments = None,
    replay: Annotated[
        str | None,
        typer.Option(help="Answer from this run's record, with its settings.", metavar="RUN"),
    ] = None,
    trust: Trust = False,
    detach: Detach = False,
) -> None:
    """Improve the program of a problem folder."""
    from evolve.evaluation.launch import start_blank

    # It gets ready while this side imports what it needs to know the problem.
    blank = None if detach else start_blank()
    from evolve.run.folder import find_run
    from evolve.run.opening import make_run
    from evolve.run.wiring import complete_settings

    options = {name: value for name, value in locals().items() if name in OPTION_KEYS}
    base = None if replay is None else _load_recorded(replay, trust=trust)
    settings = read_settings(
        options, assignments, settings_file, None if base is None else base.settings
    )
    settings = complete_settings(settings)
    named = _list_named(read_settings(options, assignments, settings_file), base)
    found = _load_problem(problem, settings, None if base is None else base.problem)
    source = None if lessons is None else find_run(lessons, RUNS)
    made = make_run(found, settings, folder=run_dir, parent=RUNS, named=named)
    if source is not None:
        _take_lessons(source, made.folder)
    _go(made, blank, ["resume", str(made.folder), *_allow_again(made.settings)] if detach else [])


def resume(
    name: Annotated[str, typer.Argument(help="Run folder, or `latest`.", metavar="RUN")],
    *,
    generations: Generations = None,
    workers: Workers = None,
    model: Model = None,
    planner: Planner = None,
    editor: Editor = None,
    summarizer: Summarizer = None,
    leap: Leap = None,
    api_base: ApiBase = None,
    sandbox: SandboxName = None,
    sandbox_fresh: SandboxFresh = False,
    allow_weak_sandbox: AllowWeak = False,
    max_cost: MaxCost = None,
    max_evaluations: MaxEvaluations = None,
    max_time: MaxTime = None,
    target: Target = None,
    patience: Patience = None,
    trust: Trust = False,
    detach: Detach = False,
) -> None:
    """Go on with a run from its last checkpoint."""
    from evolve.evaluation.launch import start_blank

    blank = None if detach else start_blank()
    from evolve.run.folder import find_run
    from evolve.run.opening import open_run

    options = {key: value for key, value in locals().items() if key in OPTION_KEYS}
    found = open_run(find_run(name, RUNS), read_options(options), trusts=trust)
    _go(found, blank, [word for word in sys.argv[1:] if word != "--detach"] if detach else [])


def _go(made: Run, blank: Blank | None, detached: list[str]) -> NoReturn:
    """Runs until the end, or starts a command that does where its arguments are given."""
    from evolve.cli.ending import go
    from evolve.run.opening import run_to_end

    introduction = _introduce(made.settings, str(made.folder), made.original)
    if detached:
        from evolve.cli.detach import start_detached

        say(introduction)
        start_detached(made.folder, detached)
    go(made.folder, introduction, lambda view: run_to_end(made, view, blank))


def _take_lessons(source: Path, folder: Path) -> None:
    from evolve.search.digests import write_lessons
    from evolve.store import Store

    with closing(Store.open_to_read(source)) as store:
        count = write_lessons(folder, store)
    say(f"lessons: {count} taken over from {source}")


def _load_recorded(name: str, *, trust: bool) -> Run:
    """Returns a run whose record is to answer."""
    from evolve.run.folder import find_run
    from evolve.run.opening import open_run

    folder = find_run(name, RUNS)
    return open_run(folder, {"models.replay": str(folder.resolve())}, trusts=trust)


def _allow_again(settings: Settings) -> list[str]:
    """Returns the options by which a run that was just begun is resumed by itself."""
    address = settings.models.api_base
    return [
        "--trust",
        *(["--allow-weak-sandbox"] if settings.sandbox.allow_weak else []),
        *(["--api-base", address] if address else []),
    ]


def _list_named(settings: Settings, base: Run | None) -> list[str]:
    """Returns the addresses that the user named, now or for the run whose record answers."""
    from evolve.run.trust import find_addresses

    return [*find_addresses(settings), *(() if base is None else base.named)]


def _load_problem(path: Path | None, settings: Settings, default: Problem | None) -> Problem:
    from evolve.errors import UsageError
    from evolve.problem import load_problem
    from evolve.problem.gallery import find_problem

    if path is not None:
        return load_problem(find_problem(path), settings.parameters)
    if default is None:
        raise UsageError("run: expected a problem folder, got none; `evolve init FOLDER` makes one")
    return default


def _introduce(settings: Settings, folder: str, problem: Problem | None = None) -> str:
    """Returns the first lines of a run; of a new one they name the evaluator, unless it is ours."""
    from evolve.models.roster import describe_roster
    from evolve.problem.gallery import is_shipped

    first = (
        f"models: {describe_roster(settings.models)}"
        if settings.models.is_configured
        else "no model is configured: model-free operators make the changes; "
        "for a model: --model provider/name and the provider's key in the environment"
    )
    lines = [first, f"run: {folder}"]
    if problem is not None and not is_shipped(problem):
        lines.insert(0, f"evaluator: {one_line(problem.evaluator)} (runs with your rights)")
    return "\n".join(lines)
