"""A problem folder, read strictly into a `Problem`."""

from __future__ import annotations

import math
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evolve.errors import ProblemError
from evolve.problem.checked_files import (
    check_entry,
    check_prompts,
    check_shown,
    expect_inside,
    find_evaluator,
    find_folder,
    read_statement,
    read_text,
)
from evolve.problem.problem import (
    SMOKE,
    AskRules,
    Measure,
    Objective,
    Problem,
    Purpose,
    Recipe,
    Reference,
    Stage,
)
from evolve.problem.starts import read_initial, read_patterns, read_signatures, write_stub
from evolve.problem.toml_table import TomlTable
from evolve.records import Direction, Program
from evolve.scoring.commands import check_path
from evolve.source import BUILT_IN_MEASURES

_VALUES = (
    "name",
    "summary",
    "direction",
    "evaluator",
    "function",
    "holdout",
    "smoke",
    "plot",
    "submit",
    "evaluator_seconds",
    "noise",
    "secret",
    "cooperative",
)
_LISTS = ("packages", "entry", "measures", "objectives", "stages")
_NOISE = ("spread", "repeats")
_ASK = ("model", "calls", "max_tokens")
_EVALUATOR = ("file", "environment", *_ASK)
_TABLES = ("program", "parameters", "limits", "sandbox", "best_known", "bound", "baseline")
_PROGRAM = ("files", "signature", "may_add", "build", "built", "build_seconds", "run", *_ASK)
_LIMITS = ("seconds", "memory_mb", "processes", "workspace_mb", "reply_mb", "output_kb", "gpus")
_STAGE = ("name", "function", "parameters", "limits", "threshold", "share")
_MOST_CELLS = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


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
    top = _read_table(folder / "problem.toml")
    program = top.table("program", _PROGRAM)
    recipe = _read_recipe(program)
    signatures = read_signatures(program, folder)
    initial = write_stub(signatures) if signatures else read_initial(program, folder)
    paths = [name for name, _ in initial.files]
    trusted = _read_evaluator(top)
    file = trusted.text("file", "evaluator.py")
    evaluator, world = find_evaluator(folder, file, top.where, evaluators)
    if evaluator in {(folder / name).resolve() for name in paths}:
        raise ProblemError(f"{program.where}: expected programs, got the evaluator among `files`")
    entry = top.texts("entry", tuple(signatures))
    check_entry(folder, initial, entry, recipe)
    check_prompts(folder)
    data = folder / "data"
    # A run may have a link to what is too large for a copy.
    if data.exists() and evaluators is None:
        expect_inside(data, folder)
    parameters = _read_parameters(top, overrides or {})
    functions, noise = _read_functions(top), _read_noise(top)
    limits = _read_limits(top.table("limits", _LIMITS))
    return Problem(
        name=_read_name(top, folder),
        summary=top.text("summary", ""),
        direction=Direction(top.choice("direction", tuple(Direction))),
        statement=read_statement(folder / "statement.md", parameters),
        initial=initial,
        has_start=not signatures,
        may_add=read_patterns(program),
        recipe=recipe,
        evaluator=evaluator,
        world=world,
        environment=trusted.texts("environment", ()),
        functions=functions,
        asks={
            role: _read_asks(table)
            for role, table in (("program", program), ("evaluator", trusted))
            if {*_ASK} & table.values.keys()
        },
        stages=tuple(_read_stages(top, functions[Purpose.SEARCH], parameters, limits)),
        evaluator_seconds=top.number("evaluator_seconds", 60.0, above=0.0),
        noise=noise.number("spread", above=0.0) if "spread" in noise.values else 0.0,
        repeats=noise.integer("repeats") if "repeats" in noise.values else 0,
        secret=top.flag("secret"),
        parameters=parameters,
        objectives=_read_objectives(top),
        measures=_read_measures(top, initial),
        limits=limits,
        shown=_read_shown(top.table("sandbox", ("show",))),
        packages=top.texts("packages", ("numpy",)),
        entry=entry,
        best_known=_read_reference(top, "best_known"),
        bound=_read_reference(top, "bound"),
        baseline=_read_reference(top, "baseline"),
        data=data.resolve() if data.is_dir() else None,
        cooperative=top.flag("cooperative"),
        folder=folder,
    )


def _read_table(path: Path) -> TomlTable:
    try:
        values = tomllib.loads(read_text(path, path.parent))
    except tomllib.TOMLDecodeError as error:
        raise ProblemError(f"{path}: expected TOML: {error}") from error
    return TomlTable(values, str(path), (*_VALUES, *_LISTS, *_TABLES))


def _read_evaluator(top: TomlTable) -> TomlTable:
    """Returns the table `[evaluator]`, of which a text is the file."""
    value = top.values.get("evaluator", {})
    if isinstance(value, dict):
        return top.table("evaluator", _EVALUATOR)
    return TomlTable({"file": top.text("evaluator")}, top.where, _EVALUATOR)


def _read_noise(top: TomlTable) -> TomlTable:
    """Returns the table `[noise]`, of which a number is the spread."""
    value = top.values.get("noise", {})
    if isinstance(value, dict):
        return top.table("noise", _NOISE)
    return TomlTable({"spread": top.number("noise", above=0.0)}, top.where, _NOISE)


def _read_asks(table: TomlTable) -> AskRules:
    model = table.text("model", "")
    if model.partition(":")[0] in {"cmd", "manual"} or "://" in model:
        raise ProblemError(
            f"{table.where}: `model`: expected a name such as `provider/model`, got {model!r}; "
            "commands, addresses and people are named by who starts a run: --set models.program="
        )
    return AskRules(model, table.integer("calls", 100), table.integer("max_tokens", 1024))


def _read_shown(table: TomlTable) -> tuple[Path, ...]:
    where = f"{table.where}: `show`"
    return tuple(check_shown(Path(name), where) for name in table.texts("show", ()))


def _read_name(top: TomlTable, folder: Path) -> str:
    name = top.text("name", folder.name)
    if not _NAME.fullmatch(name):
        raise ProblemError(f"{top.where}: `name`: expected letters, digits, - and _, got {name!r}")
    return name


def _read_functions(top: TomlTable) -> Mapping[Purpose, str]:
    names = {purpose: top.text(purpose) for purpose in Purpose if purpose in top.values}
    return {
        purpose: _check_identifier(name, f"{top.where}: `{purpose}`")
        for purpose, name in {Purpose.SEARCH: "evaluate", **names}.items()
    }


def _read_stages(
    top: TomlTable, function: str, parameters: Mapping[str, Any], limits: Mapping[str, Any]
) -> Iterator[Stage]:
    """Yields what comes before a full evaluation; `smoke` is a stage that only rejects."""
    if "smoke" in top.values:
        smoke = _check_identifier(top.text("smoke"), f"{top.where}: `smoke`")
        yield Stage(SMOKE, smoke, parameters, limits, rejects=True)
    names = {SMOKE}
    for table in top.tables("stages", _STAGE) or ():
        own = _check_identifier(table.text("function", function), f"{table.where}: `function`")
        name = table.text("name", own)
        if name in names:
            raise ProblemError(f"{table.where}: `name`: expected one of its own, got {name!r}")
        names.add(name)
        threshold = table.number("threshold") if "threshold" in table.values else None
        share = table.number("share", above=0.0) if "share" in table.values else None
        if share is not None and (share >= 1.0 or threshold is not None):
            raise ProblemError(
                f"{table.where}: expected a `threshold`, or a `share` between 0 and 1 of the "
                f"programs, got `share = {share:g}`"
                + ("" if threshold is None else " and a `threshold`")
            )
        given = _change_parameters(
            parameters, table.free("parameters"), f"{table.where}: parameters"
        )
        used = {**limits, **_read_limits(table.table("limits", _LIMITS))}
        yield Stage(name, own, given, used, threshold, share)


def _read_parameters(top: TomlTable, overrides: Mapping[str, object]) -> Mapping[str, Any]:
    values = top.free("parameters")
    for key in values:
        _check_identifier(key, f"{top.where}: [parameters]")
    return _change_parameters(values, overrides, f"{top.where}: parameters")


def _change_parameters(
    values: Mapping[str, Any], overrides: Mapping[str, object], where: str
) -> Mapping[str, Any]:
    changed = TomlTable(dict(overrides), where, tuple(values))
    for key, value in changed.values.items():
        kinds = {type(value), type(values[key])}
        if len(kinds) > 1 and kinds != {int, float}:
            raise ProblemError(
                f"{changed.where}: `{key}`: expected the type of {values[key]!r}, "
                f"got {value!r:.200}"
            )
    return {**values, **changed.values}


def _check_identifier(name: str, where: str) -> str:
    if not name.isidentifier():
        raise ProblemError(f"{where}: expected a Python name, got {name!r}")
    return name


def _read_limits(table: TomlTable) -> Mapping[str, Any]:
    return {
        key: table.number(key, above=0.0) if key == "seconds" else table.integer(key)
        for key in table.values
    }


def _read_recipe(table: TomlTable) -> Recipe:
    build, built = table.text("build", "").strip(), table.texts("built", ())
    if built and not build:
        raise ProblemError(f"{table.where}: `built`: expected a `build` that makes the files")
    try:
        built = tuple(check_path(path, f"{table.where}: `built`") for path in built)
    except ValueError as error:
        raise ProblemError(str(error)) from None
    seconds = table.number("build_seconds", 60.0, above=0.0)
    return Recipe(build, built, seconds, _read_command(table))


def _read_command(table: TomlTable) -> tuple[str, ...]:
    """Returns the words of `run`, which may be a list of them or one text."""
    value = table.values.get("run", "")
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return tuple(value)
    text = table.text("run", "")
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ProblemError(
            f"{table.where}: `run`: expected a command's words, got {text!r:.200}: {error}"
        ) from None


def _read_measures(top: TomlTable, initial: Program) -> tuple[Measure, ...]:
    tables = top.tables("measures", ("name", "low", "high", "cells", "scale"))
    if tables is None:
        # Something sensible for every program: how long it is, and how far from the start.
        length = max(sum(len(text) for _, text in initial.files), 64)
        return (
            Measure("length", length / 4, length * 4, 12, "log", "built-in"),
            Measure("similarity", 0.0, 1.0, 8, "linear", "built-in"),
        )
    measures = tuple(_read_measure(table) for table in tables)
    names = [measure.name for measure in measures]
    if len(set(names)) < len(names):
        raise ProblemError(f"{top.where}: [[measures]]: expected different names, got {names}")
    if math.prod(measure.cells for measure in measures) > _MOST_CELLS:
        raise ProblemError(
            f"{top.where}: [[measures]]: expected at most {_MOST_CELLS} cells in all; give each "
            "fewer `cells`"
        )
    return measures


def _read_measure(table: TomlTable) -> Measure:
    name = table.text("name")
    if name == "objective":
        raise ProblemError(
            f"{table.where}: `name`: expected something other than the objective; measures say "
            "how programs differ, not how good they are"
        )
    scale = table.choice("scale", ("linear", "log"), "linear")
    low, high = table.number("low"), table.number("high")
    if not low < high:
        raise ProblemError(f"{table.where}: expected `low` below `high`, got {low:g} and {high:g}")
    if scale == "log" and low <= 0.0:
        raise ProblemError(f"{table.where}: `low`: expected it above 0 for `log`, got {low:g}")
    source = "built-in" if name in BUILT_IN_MEASURES else "evaluator"
    return Measure(name, low, high, table.integer("cells", 10), scale, source)


def _read_objectives(top: TomlTable) -> tuple[Objective, ...]:
    objectives = tuple(
        Objective(table.text("name"), Direction(table.choice("direction", tuple(Direction))))
        for table in top.tables("objectives", ("name", "direction")) or ()
    )
    names = ["objective", *(objective.name for objective in objectives)]
    if len(set(names)) < len(names):
        raise ProblemError(
            f"{top.where}: [[objectives]]: expected different names, none of them `objective`, "
            f"which always comes first; got {names[1:]}"
        )
    return objectives


def _read_reference(top: TomlTable, key: str) -> Reference | None:
    if key not in top.values:
        return None
    table = top.table(key, ("value", "source"))
    return Reference(table.number("value"), table.text("source"))
