"""A problem folder, read strictly into a `Problem`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evolve.errors import ProblemError
from evolve.problem.files import (
    check_entry,
    check_prompts,
    expect_inside,
    find_evaluator,
    find_folder,
    read_source,
    read_statement,
    read_text,
)
from evolve.problem.measures import Measure, read_measures
from evolve.problem.objectives import Objective, Reference, read_objectives, read_reference
from evolve.records import Direction, Program
from evolve.scoring.commands import RECIPE_KEYS, Recipe, read_recipe
from evolve.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping


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
_LISTS = ("packages", "entry", "measures", "objectives")
_TABLES = ("program", "parameters", "limits", "best_known", "bound", "baseline")
_LIMITS = ("seconds", "memory_mb", "processes", "workspace_mb", "reply_mb", "output_kb")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Purpose(StrEnum):
    """What a function of the evaluator is for, by the key that names it in `problem.toml`."""

    SEARCH = "function"
    SMOKE = "smoke"  # tries a program on next to nothing, before an evaluation is paid for
    HOLDOUT = "holdout"  # scores champions on data that the search never sees
    PLOT = "plot"  # scores a program and draws its answer
    SUBMIT = "submit"  # scores a program and writes its answer for somebody else's judgement
    PROBE = "probe"  # tells what programs find in the sandbox; no key of `problem.toml`


# What a function gives besides its score, and under which name.
PRODUCTS = {Purpose.PLOT: "picture.svg", Purpose.SUBMIT: "submission.csv"}


@dataclass(frozen=True, slots=True)
class Problem:
    """What a run tries to improve, and how it is judged.

    Attributes:
        name: Short name, fit for a folder.
        summary: One line for people.
        direction: Whether a larger or a smaller objective is better.
        statement: What models read about the problem.
        initial: The starting program.
        recipe: How programs are built and started.
        evaluator: File with the trusted scoring code.
        functions: Names of the functions in it that score a program, by what they are for.
        evaluator_seconds: Deadline for scoring one program, sandbox time included.
        noise: How far two objectives of one program may lie apart; above 0 where they depend on
            time or chance.
        secret: Whether what the evaluator gives to programs must not reach a model: of a program
            that fails only the kind and line of its exception are kept, and no output.
        parameters: Keyword arguments of that function.
        objectives: What is optimised beside the objective; cells hold Pareto fronts then.
        measures: Axes of measure space; none at all gives an archive of one cell.
        limits: What a program may use, by the names of `evolve.sandbox.protocol.Limits`; what
            is not named has its default.
        packages: Imported in the sandbox before any program starts.
        entry: Names that the program's first file must define at its top level.
        best_known: Best value known to be reached, if there is one.
        bound: A value that no program passes, if one is known.
        baseline: Value of a plain method, if there is one.
        data: Folder that programs may read, if there is one.
        cooperative: Whether the evaluator shares an interpreter with the program, which then can
            forge its scores.
        folder: The problem folder.
    """

    name: str
    summary: str
    direction: Direction
    statement: str
    initial: Program
    recipe: Recipe
    evaluator: Path
    functions: Mapping[Purpose, str]
    evaluator_seconds: float
    noise: float
    secret: bool
    parameters: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    measures: tuple[Measure, ...]
    limits: Mapping[str, Any]
    packages: tuple[str, ...]
    entry: tuple[str, ...]
    best_known: Reference | None
    bound: Reference | None
    baseline: Reference | None
    data: Path | None
    cooperative: bool
    folder: Path

    @property
    def references(self) -> dict[str, Reference]:
        """Returns the values to compare objectives with, by name."""
        named = {"baseline": self.baseline, "best known": self.best_known, "bound": self.bound}
        return {name: known for name, known in named.items() if known is not None}


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
        evaluators: Folder in which the evaluator is looked for by its file name alone; a run
            keeps copies of its own.

    Raises:
        ProblemError: Something is missing, unknown, or of the wrong type or size; the message
            names the place.
    """
    folder = find_folder(Path(path))
    top = _read_table(folder / "problem.toml")
    program = top.table("program", ("files", *RECIPE_KEYS))
    recipe = read_recipe(program)
    paths = program.texts("files", ("initial.py",), required=True)
    initial = Program(tuple(read_source(folder, name, program.where) for name in paths))
    evaluator = find_evaluator(folder, top.text("evaluator", "evaluator.py"), top.where, evaluators)
    if evaluator in {(folder / name).resolve() for name in paths}:
        raise ProblemError(f"{program.where}: expected programs, got the evaluator among `files`")
    entry = top.texts("entry", ())
    check_entry(folder, initial, entry, recipe)
    check_prompts(folder)
    data = folder / "data"
    if data.exists():
        expect_inside(data, folder)
    parameters = _read_parameters(top, overrides or {})
    return Problem(
        name=_read_name(top, folder),
        summary=top.text("summary", ""),
        direction=Direction(top.choice("direction", tuple(Direction))),
        statement=read_statement(folder / "statement.md", parameters),
        initial=initial,
        recipe=recipe,
        evaluator=evaluator,
        functions=_read_functions(top),
        evaluator_seconds=top.number("evaluator_seconds", 60.0, above=0.0),
        noise=top.number("noise", above=0.0) if "noise" in top.values else 0.0,
        secret=top.flag("secret"),
        parameters=parameters,
        objectives=read_objectives(top),
        measures=read_measures(top, initial),
        limits=_read_limits(top.table("limits", _LIMITS)),
        packages=top.texts("packages", ("numpy",)),
        entry=entry,
        best_known=read_reference(top, "best_known"),
        bound=read_reference(top, "bound"),
        baseline=read_reference(top, "baseline"),
        data=data.resolve() if data.is_dir() else None,
        cooperative=top.flag("cooperative"),
        folder=folder,
    )


def _read_table(path: Path) -> Table:
    try:
        return Table(
            tomllib.loads(read_text(path, path.parent)), str(path), (*_VALUES, *_LISTS, *_TABLES)
        )
    except tomllib.TOMLDecodeError as error:
        raise ProblemError(f"{path}: expected TOML: {error}") from error


def _read_name(top: Table, folder: Path) -> str:
    name = top.text("name", folder.name)
    if not _NAME.fullmatch(name):
        raise ProblemError(f"{top.where}: `name`: expected letters, digits, - and _, got {name!r}")
    return name


def _read_functions(top: Table) -> Mapping[Purpose, str]:
    names = {purpose: top.text(purpose) for purpose in Purpose if purpose in top.values}
    return {
        purpose: _check_identifier(name, f"{top.where}: `{purpose}`")
        for purpose, name in {Purpose.SEARCH: "evaluate", **names}.items()
    }


def _read_parameters(top: Table, overrides: Mapping[str, object]) -> Mapping[str, Any]:
    values = top.free("parameters")
    changed = Table(dict(overrides), f"{top.where}: parameters", tuple(values))
    for key in values:
        _check_identifier(key, f"{top.where}: [parameters]")
    for key, value in changed.values.items():
        kinds = {type(value), type(values[key])}
        if len(kinds) > 1 and kinds != {int, float}:
            raise ProblemError(
                f"{changed.where}: `{key}`: expected the type of {values[key]!r}, "
                f"got {value!r:.200}"
            )
    return values | changed.values


def _check_identifier(name: str, where: str) -> str:
    if not name.isidentifier():
        raise ProblemError(f"{where}: expected a Python name, got {name!r}")
    return name


def _read_limits(table: Table) -> Mapping[str, Any]:
    limits: dict[str, Any] = {}
    for key in table.values:
        limits[key] = table.number(key, above=0.0) if key == "seconds" else table.integer(key)
    return limits
