"""Commands for problem folders: `init`, `check`, `gallery`, `prompt`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from evolve.cli.app import Result, command
from evolve.cli.options import Changes, ProblemPath, argument, option, read_settings, switch
from evolve.display import TextTable, one_line, say, show_number
from evolve.errors import ExitCode, UsageError
from evolve.evaluation.pool import Evaluators
from evolve.importing.foreign import TABLE_FILE, Wishes, write_competition, write_foreign
from evolve.importing.readers import read_foreign
from evolve.models.roster import open_endpoints, show_price_setting
from evolve.problem import COOPERATIVE, Problem, list_warnings, load_problem
from evolve.problem.gallery import (
    copy_problem,
    find_problem,
    is_shipped,
    list_gallery,
    scaffold_problem,
    write_noise,
)
from evolve.records import Evaluation
from evolve.runs.given import read_starts
from evolve.runs.run_folder import describe_evaluator
from evolve.runs.starting import evaluate_initial
from evolve.runs.wiring import (
    TYPICAL_REPAIRS,
    TYPICAL_TOKENS,
    RoleEstimate,
    complete_settings,
    describe_isolation,
    estimate_roles,
    evaluating,
    expect_two_generations,
)
from evolve.scoring.cooperative import WARNING
from evolve.search.knowledge import find_misfit, preview_prompts
from evolve.settings import Settings, change_settings
from evolve.steps.prompt import show_messages

_ROLES = ("model", "planner", "editor", "summarizer")
_SANDBOX = ("sandbox", "sandbox_fresh", "allow_weak_sandbox")


@command("Problems", "evolve init mine", "evolve init mine --from openevolve THEIR_FOLDER")
def init(
    folder: Annotated[
        Path,
        argument("Folder to make, or to import.", "FOLDER"),
    ],
    target: Annotated[
        Path | None, argument("Where an import goes; by default a folder of its name.", "TARGET")
    ] = None,
    *,
    kind: Annotated[
        str | None,
        option(
            "Import from openevolve, shinka, loongflow, skydiscover, codeevolve, levi, gepa.",
            "KIND",
            "--from",
        ),
    ] = None,
    objective: Annotated[
        str, option("Metric of an import to optimise; mean for all.", "NAME")
    ] = "",
    initial: Annotated[str, option("Starting program in an imported folder.", "FILE")] = "",
    config: Annotated[str, option("Configuration in an imported folder.", "FILE")] = "",
    keep: Annotated[
        list[str] | None, option("File that comes along, whatever it looks like.", "FILE")
    ] = None,
    allow_broken_start: Annotated[
        bool,
        switch("Take a start that their evaluator refuses, with its 0.", "--allow-broken-start"),
    ] = False,
    kaggle: Annotated[
        bool, switch("Import a competition's folder of Kaggle's form.", "--kaggle")
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


@command("Problems", "evolve gallery", "evolve gallery circle_packing mine")
def gallery(
    name: Annotated[
        str | None, argument("Problem to copy; without it all are listed.", "NAME")
    ] = None,
    folder: Annotated[
        Path | None, argument("Where to; by default a folder of its name.", "FOLDER")
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
    "evolve check mine",
    "evolve check mine --estimate --model openai/gpt-5-mini --max-cost 2",
    settings=("generations", *_ROLES, "max_cost", *_SANDBOX, "cluster", "set"),
)
def check(
    problem: ProblemPath,
    *,
    estimate: Annotated[
        bool, switch("Say what a run will cost; no model is asked.", "--estimate")
    ] = False,
    changes: Changes,
) -> Result:
    """Validate a problem folder and evaluate its program twice, to see its noise."""
    checked = _evaluated(problem, read_settings(changes), again=1)
    with checked as (found, settings, evaluators, evaluation):
        further = read_starts(found, ())
        isolation = evaluators.wait()
        costs: dict[str, Any] = {}
        lines: list[str | TextTable] = []
        if estimate:
            lines, costs = _estimate_costs(found, settings, evaluation, evaluators)
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
            "noise": max(found.noise, evaluation.noise),
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
    noise, count = evaluation.noise, max(len(evaluation.repeats), 1)
    found = f"{noise:.3g} between {count} evaluations"
    if noise <= problem.noise:
        declared = f", {problem.noise:g} by problem.toml" if problem.noise else ""
        return f"noise     {found if noise else f'none in {count} evaluations'}{declared}"
    if is_shipped(problem):
        return f"noise     {found}"
    return f"noise     {found}, written into {write_noise(problem.folder, noise)}"


@command(
    "Problems",
    "evolve prompt mine --model openai/gpt-5-mini",
    settings=("model", "sandbox", "allow_weak_sandbox", "set"),
)
def prompt(
    problem: ProblemPath,
    *,
    step: Annotated[
        str | None,
        option("edit, leap, plan, planned, agent, repair or summarize; by default all.", "STEP"),
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
    settings = complete_settings(settings)
    problem = load_problem(find_problem(path), settings.parameters)
    named = _name_evaluator(problem)
    if named and sys.stderr.isatty():
        # Not among the results, which may be piped.
        say(named, err=True)
    with evaluating(problem, settings) as evaluators:
        evaluation = evaluate_initial(problem, evaluators, again)
        yield problem, settings, evaluators, evaluation


def _name_evaluator(problem: Problem) -> str:
    """Returns a line that names the evaluator, unless it is ours.

    People on a terminal read it before the evaluator runs; in a pipe it follows what was found.
    """
    return "" if is_shipped(problem) else f"evaluator {describe_evaluator(problem)}"


def _estimate_costs(
    problem: Problem,
    settings: Settings,
    evaluation: Evaluation,
    evaluators: Evaluators,
) -> tuple[list[str | TextTable], dict[str, Any]]:
    """Returns what a run will cost, by role, and how many slots a budget buys: shown and as data.

    Args:
        problem: Of the run.
        settings: Complete.
        evaluation: Of the starting program.
        evaluators: Running.
    """
    if not settings.models.is_configured:
        return ["estimate  no model is configured: a run costs no money"], {"roles": []}
    basis = ", ".join(f"{tokens} tokens of the {role}" for role, tokens in TYPICAL_TOKENS.items())
    basis = f"prompts of a first slot, {basis}, {TYPICAL_REPAIRS:g} repairs a slot"
    prompts = preview_prompts(problem, settings, evaluation, evaluators.evaluate)
    endpoints = open_endpoints(settings, problem.folder, say)
    roles = estimate_roles(settings, prompts, lambda name: endpoints[name].find_price())
    head = ("role", "models", "calls a slot", "read", "written", "a slot")
    table = TextTable(head, [_list_role(role) for role in roles])
    lines, totals = _describe_totals(roles, settings)
    lines += [
        f"what the {who} asks comes on top: at most {rules.calls} questions an evaluation, each "
        f"answered with at most {rules.max_tokens} tokens"
        for who, rules in problem.asks.items()
    ]
    data = {"basis": basis, "roles": [role._asdict() for role in roles], **totals}
    try:
        expect_two_generations(settings, lambda: roles)
    except UsageError as error:
        data["refused"] = str(error)
    return [f"estimate  from {basis}", table, *lines], data


def _list_role(role: RoleEstimate) -> list[str]:
    return [
        role.role,
        ", ".join(role.models),
        f"{role.calls:.1f}",
        f"{role.prompt_tokens:.0f}",
        f"{role.completion_tokens:.0f}",
        _money(role.cost_usd),
    ]


def _describe_totals(
    roles: list[RoleEstimate], settings: Settings
) -> tuple[list[str], dict[str, Any]]:
    slots = (settings.loop.generations or 0) * settings.loop.slots
    tokens = slots * sum(role.prompt_tokens + role.completion_tokens for role in roles)
    unpriced = [name for role in roles if role.cost_usd is None for name in role.models]
    cost = None if unpriced else sum(role.cost_usd or 0.0 for role in roles)
    total = None if cost is None else slots * cost
    lines = [f"a run of {slots} slots: {tokens:.0f} tokens, {_money(total)}"]
    cap = settings.budget.max_cost_usd
    if unpriced:
        example = show_price_setting(unpriced[0])
        lines.append(f"a model's price is unknown: set it, as in {example}")
    elif cap is not None and cost:
        lines.append(f"${cap:g} buys about {cap / cost:.0f} slots")
    return lines, {"slots": slots, "tokens": tokens, "cost_usd": total}


def _money(cost_usd: float | None) -> str:
    return "an unknown price" if cost_usd is None else f"${cost_usd:.4f}"
