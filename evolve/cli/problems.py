"""Commands for problem folders: `init`, `check`, `gallery`, `prompt`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from evolve.cli.command import Result, command
from evolve.cli.estimates import estimate_costs
from evolve.cli.options import RUNS, Changes, ProblemPath, read_settings
from evolve.display import TextTable, one_line, say, show_number
from evolve.errors import ExitCode, UsageError
from evolve.evaluation.evaluator import idle_process
from evolve.evaluation.pool import Evaluators
from evolve.importing.foreign import TABLE_FILE, Wishes, write_foreign
from evolve.importing.kaggle import write_competition
from evolve.importing.readers import read_foreign
from evolve.problem import COOPERATIVE, Problem, list_warnings, load_problem
from evolve.problem.gallery import (
    copy_problem,
    find_problem,
    is_shipped,
    list_gallery,
    scaffold_problem,
)
from evolve.problem.noise import measure_noise, write_noise
from evolve.records import Evaluation
from evolve.runs.given import read_starts
from evolve.runs.run_folder import find_run
from evolve.runs.starting import evaluate_initial
from evolve.runs.trust import describe_evaluator
from evolve.runs.wiring import answering, complete_settings, describe_isolation, open_evaluators
from evolve.scoring.cooperative import WARNING
from evolve.search.previews import find_misfit, preview_prompts
from evolve.settings import Settings, change_settings
from evolve.steps.prompt import show_messages

_ROLES = ("model", "planner", "editor", "summarizer")
_SANDBOX = ("sandbox", "sandbox_fresh", "allow_weak_sandbox")


@command(
    "Problems",
    examples=(
        "evolve init mine",
        "evolve init mine --from openevolve THEIR_FOLDER",
    ),
)
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
        typer.Option(
            "--from",
            help="Import from openevolve, shinka, loongflow, skydiscover, codeevolve, levi, gepa.",
            metavar="KIND",
        ),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="Metric of an import to optimise; mean for all.", metavar="NAME")
    ] = "",
    initial: Annotated[
        str, typer.Option(help="Starting program in an imported folder.", metavar="FILE")
    ] = "",
    config: Annotated[
        str, typer.Option(help="Configuration in an imported folder.", metavar="FILE")
    ] = "",
    keep: Annotated[
        list[str] | None,
        typer.Option(help="File that comes along, whatever it looks like.", metavar="FILE"),
    ] = None,
    allow_broken_start: Annotated[
        bool,
        typer.Option(
            "--allow-broken-start", help="Take a start that their evaluator refuses, with its 0."
        ),
    ] = False,
    kaggle: Annotated[
        bool, typer.Option("--kaggle", help="Import a competition's folder of Kaggle's form.")
    ] = False,
) -> Result:
    """Make a new problem folder that works, or import one."""
    if kind is None and not kaggle and target is not None:
        raise UsageError(f"init: expected one folder, or `--from KIND`; got {target} as well")
    if kaggle and kind is not None:
        raise UsageError("init: expected `--from KIND` or `--kaggle`, got both")
    made = target or Path(folder.resolve().name)
    if kaggle:
        return _show_written(made, write_competition(folder, made))
    if kind is None:
        return _show_written(folder, scaffold_problem(folder))
    wishes = Wishes(objective, initial, config, tuple(keep or ()), allow_broken_start)
    foreign = read_foreign(kind, folder, wishes)
    written = write_foreign(foreign, made)
    table = TextTable(("theirs", "value", "here"), foreign.table)
    shown = _show_written(made, written, foreign.options)
    where = f"this table is kept in {made / TABLE_FILE}"
    return Result(
        [COOPERATIVE, table, where, *shown.shown],
        {**shown.data, "mapped": [row._asdict() for row in foreign.table]},
    )


@command(
    "Problems",
    examples=(
        "evolve gallery",
        "evolve gallery circle_packing mine",
    ),
)
def gallery(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Problem to copy; without it all are listed."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Argument(help="Where to; by default a folder of its name.", metavar="FOLDER"),
    ] = None,
) -> Result:
    """List the problems in the package, or copy one to change it."""
    if name is not None:
        target = folder or Path(name)
        return _show_written(target, copy_problem(name, target))
    problems = list_gallery()
    rows = [[problem.name, problem.direction, problem.summary] for problem in problems]
    return Result(
        [
            TextTable(("problem", "direction", "summary"), rows),
            "evolve run NAME runs one; evolve gallery NAME copies it, to be changed",
        ],
        [
            {
                "name": problem.name,
                "summary": problem.summary,
                "direction": str(problem.direction),
                "references": {name: known.value for name, known in problem.references.items()},
                "folder": str(problem.folder),
            }
            for problem in problems
        ],
    )


def _show_written(folder: Path, written: list[Path], options: str = "") -> Result:
    name, paths = quote(str(folder)), [str(path) for path in written]
    next_steps = f"next: evolve check {name}, then evolve run {name} {options}".rstrip()
    return Result([*paths, next_steps], {"folder": str(folder), "written": paths})


@command(
    "Problems",
    settings=("generations", *_ROLES, "max_cost", *_SANDBOX, "set"),
    examples=(
        "evolve check mine",
        "evolve check mine --estimate --model openai/gpt-5-mini --max-cost 2",
    ),
)
def check(
    problem: ProblemPath,
    *,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what a run will cost; no model is asked.")
    ] = False,
    like: Annotated[
        str | None, typer.Option(help="Estimate from what this run used.", metavar="RUN")
    ] = None,
    changes: Changes,
) -> Result:
    """Validate a problem folder and evaluate its program twice, to see its noise."""
    checked = _evaluated(problem, read_settings(changes), again=1)
    with checked as (found, settings, evaluators, evaluation):
        further = read_starts(found, ())
        isolation = evaluators.wait()
        costs: dict[str, Any] = {}
        lines: list[str | TextTable] = []
        if estimate or like is not None:
            folder = None if like is None else find_run(like, RUNS)
            lines, costs = estimate_costs(found, settings, evaluation, evaluators, folder)
    named = _name_evaluator(found)
    numbers = {**evaluation.metrics, **evaluation.measures}
    warnings = [*list_warnings(found), *find_misfit(found, settings.models)]
    words = "a warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
    count = f", with {words}" if warnings else ""
    sandbox = describe_isolation(isolation, fresh=settings.sandbox.fresh)
    refused = costs.get("refused")
    return Result(
        [
            *_describe_problem(found, evaluation, numbers),
            *(f"further   {text}: read, evaluated by a run" for text, _ in further),
            *(["the evaluator printed:", evaluators.printed] * bool(evaluators.printed)),
            *([named] if named and not sys.stderr.isatty() else []),
            sandbox,
            *lines,
            *map(one_line, warnings),
            f"run would refuse this budget: {refused}"
            if refused
            else f"ok{count}: evolve run {quote(str(problem))}"
            + " --model NAME" * (not found.has_start),
        ],
        {
            "problem": found.name,
            "direction": str(found.direction),
            "cooperative": found.cooperative,
            "objective": evaluation.objective,
            "warning": evaluation.artifacts.get("warning", ""),
            "noise": max(found.noise, measure_noise(evaluation)),
            "numbers": numbers,
            "references": {name: known.value for name, known in found.references.items()},
            "seconds": evaluation.seconds,
            "warnings": warnings,
            "sandbox": {"backend": isolation.backend, "enforced": list(isolation.enforced)},
            **({"estimate": costs} if lines else {}),
        },
        ExitCode.USAGE if refused else ExitCode.OK,
    )


def _describe_problem(
    problem: Problem, evaluation: Evaluation, numbers: dict[str, float]
) -> list[str]:
    warning = evaluation.artifacts.get(WARNING, "")
    return [
        f"problem   {problem.name}, {problem.direction}",
        *([f"          {COOPERATIVE}"] if problem.cooperative else []),
        *([] if problem.has_start else ["start     none: a model writes the first program"]),
        f"objective {show_number(evaluation.objective)}",
        *([f"warning   {one_line(warning)}"] if warning else []),
        _describe_noise(problem, evaluation),
        *(f"  {one_line(name)} {show_number(value)}" for name, value in numbers.items()),
        *(
            f"stage     {one_line(stage.name)}: objective {show_number(stage.objective)}"
            for stage in evaluation.stages
            if stage.objective is not None
        ),
        *(
            f"{name} {known.value:.12g} ({one_line(known.source)})"
            for name, known in problem.references.items()
        ),
        f"seconds   {evaluation.seconds:.3f}",
    ]


def _describe_noise(problem: Problem, evaluation: Evaluation) -> str:
    """Returns a line on how far objectives of one program lie apart; writes down what is new."""
    noise, count = measure_noise(evaluation), max(len(evaluation.repeats), 1)
    found = f"{noise:.3g} between {count} evaluations"
    if noise <= problem.noise:
        declared = f", {problem.noise:g} by problem.toml" if problem.noise else ""
        return f"noise     {found if noise else f'none in {count} evaluations'}{declared}"
    if is_shipped(problem):
        return f"noise     {found}"
    return f"noise     {found}, written into {write_noise(problem.folder, noise)}"


@command(
    "Problems",
    settings=("model", "sandbox", "allow_weak_sandbox", "set"),
    examples=("evolve prompt mine --model openai/gpt-5-mini",),
)
def prompt(
    problem: ProblemPath,
    *,
    step: Annotated[
        str | None,
        typer.Option(
            help="edit, leap, plan, planned, agent, repair or summarize; by default all.",
            metavar="STEP",
        ),
    ] = None,
    changes: Changes,
) -> Result:
    """Print the prompts of a first slot; no model is asked."""
    settings = read_settings(changes)
    if not settings.models.is_configured:
        settings = change_settings(settings, {"models.model": ["scripted"]}, where="prompt")
    with _evaluated(problem, settings) as (found, settings, evaluators, evaluation):
        if not sys.stderr.isatty() and (named := _name_evaluator(found)):
            say(named, err=True)
        for line in find_misfit(found, settings.models):
            say(line, err=True)
        prompts = preview_prompts(found, settings, evaluation, evaluators.evaluate)
    if step is not None and step not in prompts:
        raise UsageError(f"--step: expected one of {', '.join(prompts)}, got {step!r}")
    chosen = prompts if step is None else {step: prompts[step]}
    data = {
        name: [{"role": message.role, "text": message.text} for message in messages]
        for name, messages in chosen.items()
    }
    shown = [
        (f"=== {name}\n\n" if step is None else "") + show_messages(messages)
        for name, messages in chosen.items()
    ]
    return Result(shown, data)


@contextmanager
def _evaluated(
    path: Path, settings: Settings, again: int = 0
) -> Iterator[tuple[Problem, Settings, Evaluators, Evaluation]]:
    """Yields a problem, complete settings, running evaluators, and the first program's evaluation.

    Raises:
        ProblemError: The problem cannot be used, or its starting program fails.
        SandboxError: Nothing isolates programs here.
    """
    # It gets ready while this side imports the rest.
    with idle_process() as started:
        settings = complete_settings(settings)
        problem = load_problem(find_problem(path), settings.parameters)
        named = _name_evaluator(problem)
        if named and sys.stderr.isatty():
            # Not among the results, which may be piped.
            say(named, err=True)
        with (
            closing(open_evaluators(problem, settings)) as evaluators,
            answering(problem, settings, evaluators, None),
        ):
            evaluators.start(started)
            evaluators.wait()
            evaluation = evaluate_initial(problem, evaluators, again)
            yield problem, settings, evaluators, evaluation


def _name_evaluator(problem: Problem) -> str:
    """Returns a line that names the evaluator, unless it is ours.

    People on a terminal read it before the evaluator runs; in a pipe it follows what was found.
    """
    return "" if is_shipped(problem) else f"evaluator {describe_evaluator(problem)}"
