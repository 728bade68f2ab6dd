"""A problem folder, read strictly into a `Problem`."""

from __future__ import annotations

import math
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from evolve.errors import ProblemError, UsageError
from evolve.problem.checked_files import (
    check_entry,
    check_prompts,
    check_shown,
    expect_inside,
    find_evaluator,
    find_folder,
    read_initial,
    read_patterns,
    read_signatures,
    read_statement,
    read_text,
    write_stub,
)
from evolve.problem.problem import (
    SMOKE,
    AskRules,
    Measure,
    Objective,
    Problem,
    ProblemFacts,
    Purpose,
    Recipe,
    Stage,
)
from evolve.records import Program
from evolve.scoring.executions import check_path
from evolve.toml import IDENTIFIER, key, read_record, suggest

_MOST_CELLS = 1_000_000
_MODEL = (
    r"(?!\s*(cmd|manual)\s*(:|\Z))(?![\s\S]*://)[\s\S]*",
    "a name such as `provider/model` (others are named by who starts a run: --set models.program=)",
)


@dataclass(frozen=True, slots=True)
class _AskTable:
    model: str | None = key(None, form=_MODEL)
    calls: int | None = key(None, low=1)
    max_tokens: int | None = key(None, low=1)


@dataclass(frozen=True, slots=True)
class EvaluatorTable(_AskTable):
    """The keys of `[evaluator]`."""

    file: str = "evaluator.py"
    environment: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProgramTable(_AskTable):
    """The keys of `[program]`."""

    files: tuple[str, ...] | None = key(None, low=1)
    signature: tuple[str, ...] = ()
    may_add: tuple[str, ...] = ()
    build: str = ""
    built: tuple[str, ...] = ()
    build_seconds: float = key(60.0, above=0.0)
    run: Any = ""


@dataclass(frozen=True, slots=True)
class NoiseTable:
    """The keys of `[noise]`."""

    spread: float = key(0.0, low=0)
    repeats: int = key(0, low=1)


@dataclass(frozen=True, slots=True)
class SandboxTable:
    """The keys of `[sandbox]`."""

    show: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LimitTable:
    """The keys of `[limits]`; what is not named has the default of the sandbox."""

    seconds: float = key(None, above=0.0)
    memory_mb: int = key(None, low=1)
    processes: int = key(None, low=1)
    workspace_mb: int = key(None, low=1)
    reply_mb: int = key(None, low=1)
    output_kb: int = key(None, low=1)
    gpus: int = key(None, low=1)


@dataclass(frozen=True, slots=True)
class StageTable:
    """The keys of `[[stages]]`."""

    name: str | None = None
    function: str | None = key(None, form=IDENTIFIER)
    parameters: Mapping[str, Any] | None = None
    limits: Mapping[str, Any] | None = key(None, entries=LimitTable)
    threshold: float | None = None
    share: float | None = key(None, above=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemTable(ProblemFacts):
    """The keys of `problem.toml`."""

    evaluator: EvaluatorTable = key(EvaluatorTable(), short="file")
    function: str = key("evaluate", form=IDENTIFIER)
    holdout: str | None = key(None, form=IDENTIFIER)
    smoke: str | None = key(None, form=IDENTIFIER)
    plot: str | None = key(None, form=IDENTIFIER)
    submit: str | None = key(None, form=IDENTIFIER)
    noise: NoiseTable = key(NoiseTable(), short="spread")
    entry: tuple[str, ...] = ()
    program: ProgramTable = key(ProgramTable())
    parameters: Mapping[str, Any] | None = None
    limits: Mapping[str, Any] | None = key(None, entries=LimitTable)
    sandbox: SandboxTable = key(SandboxTable())
    measures: tuple[Measure, ...] | None = None
    stages: tuple[StageTable, ...] = ()


def load_problem(
    path: Path | str,
    overrides: Mapping[str, object] | None = None,
    *,
    evaluators: Path | None = None,
) -> Problem:
    """Reads a problem folder and checks all that can be checked without running anything.

    Args:
        path: The folder, or the `problem.toml` in it.
        overrides: Other values for some of the problem's parameters, by name.
        evaluators: Folder in which the evaluator is looked for, by its path where the problem
            folder has it, else by its name; a run keeps copies of its own.

    Raises:
        ProblemError: Something is missing, unknown, or of the wrong type or size; the message
            names the place.
    """
    folder = find_folder(Path(path))
    file = folder / "problem.toml"
    top = _read_table(file)
    program, where = top.program, f"{file}: [program]"
    signatures = read_signatures(program.signature, program.files, folder, where)
    initial = write_stub(signatures) if signatures else read_initial(program.files, folder, where)
    evaluator, world = find_evaluator(folder, top.evaluator.file, str(file), evaluators)
    if evaluator in {(folder / name).resolve() for name, _ in initial.files}:
        raise ProblemError(f"{where}: expected programs, got the evaluator among `files`")
    recipe = _read_recipe(program, where)
    entry = top.entry or tuple(signatures)
    check_entry(folder, initial, entry, recipe)
    check_prompts(folder)
    data = folder / "data"
    # A run may have a link to what is too large for a copy.
    if data.exists() and evaluators is None:
        expect_inside(data, folder)
    parameters = _read_parameters(top.parameters or {}, overrides or {}, str(file))
    functions = {one: getattr(top, one) for one in Purpose if getattr(top, one, None)}
    _check_objectives(top.objectives, str(file))
    return Problem(
        **{item.name: getattr(top, item.name) for item in fields(ProblemFacts)},
        statement=read_statement(folder / "statement.md", parameters),
        initial=initial,
        has_start=not signatures,
        may_add=read_patterns(program.may_add, where),
        recipe=recipe,
        evaluator=evaluator,
        world=world,
        environment=top.evaluator.environment,
        functions=functions,
        asks=_read_asks(program=program, evaluator=top.evaluator),
        stages=tuple(_read_stages(top, parameters, str(file))),
        noise=top.noise.spread,
        repeats=top.noise.repeats,
        parameters=parameters,
        measures=_read_measures(top.measures, initial, str(file)),
        limits=top.limits or {},
        shown=tuple(check_shown(Path(name), f"{file}: [sandbox]") for name in top.sandbox.show),
        entry=entry,
        data=data.resolve() if data.is_dir() else None,
        folder=folder,
    )


def _read_table(path: Path) -> ProblemTable:
    try:
        values = tomllib.loads(read_text(path, path.parent))
        return read_record(ProblemTable, {"name": path.parent.name, **values}, str(path))
    except tomllib.TOMLDecodeError as error:
        raise ProblemError(f"{path}: expected TOML: {error}") from error
    except UsageError as error:
        raise ProblemError(str(error)) from error


def _read_asks(**tables: _AskTable) -> dict[str, AskRules]:
    return {
        role: AskRules(table.model or "", table.calls or 100, table.max_tokens or 1024)
        for role, table in tables.items()
        if (table.model, table.calls, table.max_tokens) != (None, None, None)
    }


def _read_stages(top: ProblemTable, parameters: Mapping[str, Any], where: str) -> Iterator[Stage]:
    """Yields what comes before a full evaluation; `smoke` is a stage that only rejects."""
    limits = top.limits or {}
    if top.smoke:
        yield Stage(SMOKE, top.smoke, parameters, limits)
    names = {SMOKE}
    for number, table in enumerate(top.stages, start=1):
        place = f"{where}: [[stages]] {number}"
        function = table.function or top.function
        name = table.name or function
        if name in names:
            raise ProblemError(f"{place}: `name`: expected one of its own, got {name!r}")
        names.add(name)
        threshold, share = table.threshold, table.share
        if share is not None and (share >= 1.0 or threshold is not None):
            raise ProblemError(
                f"{place}: expected a `threshold`, or a `share` between 0 and 1 of the programs, "
                f"got `share = {share:g}`" + ("" if threshold is None else " and a `threshold`")
            )
        given = _change_parameters(parameters, table.parameters or {}, f"{place}: parameters")
        yield Stage(name, function, given, {**limits, **(table.limits or {})}, threshold, share)


def _read_parameters(
    values: Mapping[str, Any], overrides: Mapping[str, object], where: str
) -> Mapping[str, Any]:
    for name in values:
        if not name.isidentifier():
            raise ProblemError(f"{where}: [parameters]: expected a Python name, got {name!r}")
    return _change_parameters(values, overrides, f"{where}: parameters")


def _change_parameters(
    values: Mapping[str, Any], overrides: Mapping[str, object], where: str
) -> Mapping[str, Any]:
    for name, value in overrides.items():
        if name not in values:
            raise ProblemError(f"{where}: unknown key `{name}`; {suggest(name, values)}")
        kinds = {type(value), type(values[name])}
        if len(kinds) > 1 and kinds != {int, float}:
            raise ProblemError(
                f"{where}: `{name}`: expected the type of {values[name]!r}, got {value!r:.200}"
            )
    return {**values, **overrides}


def _read_recipe(table: ProgramTable, where: str) -> Recipe:
    build = table.build.strip()
    if table.built and not build:
        raise ProblemError(f"{where}: `built`: expected a `build` that makes the files")
    try:
        built = tuple(check_path(path, f"{where}: `built`") for path in table.built)
    except ValueError as error:
        raise ProblemError(str(error)) from None
    return Recipe(build, built, table.build_seconds, _read_command(table.run, where))


def _read_command(value: Any, where: str) -> tuple[str, ...]:
    """Returns the words of `run`, which may be a list of them or one text."""
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return tuple(value)
    try:
        if isinstance(value, str):
            return tuple(shlex.split(value))
        reason = ""
    except ValueError as error:
        reason = f": {error}"
    raise ProblemError(
        f"{where}: `run`: expected a command's words, got {value!r:.200}{reason}"
    ) from None


def _read_measures(
    measures: tuple[Measure, ...] | None, initial: Program, where: str
) -> tuple[Measure, ...]:
    if measures is None:
        # Something sensible for every program: how long it is, and how far from the start.
        length = max(sum(len(text) for _, text in initial.files), 64)
        return (
            Measure("length", length / 4, length * 4, 12, "log"),
            Measure("similarity", 0.0, 1.0, 8),
        )
    for number, measure in enumerate(measures, start=1):
        _check_measure(measure, f"{where}: [[measures]] {number}")
    names = [measure.name for measure in measures]
    if len(set(names)) < len(names):
        raise ProblemError(f"{where}: [[measures]]: expected different names, got {names}")
    if math.prod(measure.cells for measure in measures) > _MOST_CELLS:
        raise ProblemError(
            f"{where}: [[measures]]: expected at most {_MOST_CELLS} cells in all; give each "
            "fewer `cells`"
        )
    return measures


def _check_measure(measure: Measure, where: str) -> None:
    if measure.name == "objective":
        raise ProblemError(
            f"{where}: `name`: expected something other than the objective; measures say how "
            "programs differ, not how good they are"
        )
    low, high = measure.low, measure.high
    if not low < high:
        raise ProblemError(f"{where}: expected `low` below `high`, got {low:g} and {high:g}")
    if measure.scale == "log" and low <= 0.0:
        raise ProblemError(f"{where}: `low`: expected it above 0 for `log`, got {low:g}")


def _check_objectives(objectives: tuple[Objective, ...], where: str) -> None:
    names = ["objective", *(objective.name for objective in objectives)]
    if len(set(names)) < len(names):
        raise ProblemError(
            f"{where}: [[objectives]]: expected different names, none of them `objective`, which "
            f"always comes first; got {names[1:]}"
        )
