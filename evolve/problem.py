"""A problem folder, read strictly into a `Problem`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from evolve.commands import RECIPE_KEYS, Recipe, read_recipe
from evolve.errors import ProblemError
from evolve.measures import Measure, read_measures
from evolve.records import Direction, Program, SourceFile
from evolve.source import find_blocks, list_names, syntax_error
from evolve.tables import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FILE_BYTES = 1_000_000
PICTURE = "picture.svg"

_VALUES = (
    "name",
    "summary",
    "direction",
    "evaluator",
    "function",
    "holdout",
    "plot",
    "evaluator_seconds",
)
_LISTS = ("packages", "entry", "measures")
_TABLES = ("program", "parameters", "limits", "best_known", "baseline")
_LIMITS = ("seconds", "memory_mb", "processes", "workspace_mb", "reply_mb", "output_kb")
_PARAMETER = re.compile(r"\{\{(\w+)\}\}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Purpose(StrEnum):
    """What a function of the evaluator is for, by the key that names it in `problem.toml`."""

    SEARCH = "function"
    HOLDOUT = "holdout"  # scores champions on data that the search never sees
    PLOT = "plot"  # scores a program and draws its answer, as the artifact `PICTURE`


@dataclass(frozen=True, slots=True)
class Reference:
    """A value of the objective to compare with, and where it comes from."""

    value: float
    source: str


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
        parameters: Keyword arguments of that function.
        measures: Axes of measure space; none at all gives an archive of one cell.
        limits: What a program may use, by the names of `evolve.sandbox.protocol.Limits`; what
            is not named has its default.
        packages: Imported in the sandbox before any program starts.
        entry: Names that the program's first file must define at its top level.
        best_known: Best published value, if there is one.
        baseline: Value of a plain method, if there is one.
        data: Folder that programs may read, if there is one.
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
    parameters: Mapping[str, Any]
    measures: tuple[Measure, ...]
    limits: Mapping[str, Any]
    packages: tuple[str, ...]
    entry: tuple[str, ...]
    best_known: Reference | None
    baseline: Reference | None
    data: Path | None
    folder: Path


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
    folder = _find_folder(Path(path))
    top = _read_table(folder / "problem.toml")
    program = top.table("program", ("files", *RECIPE_KEYS))
    recipe = read_recipe(program)
    paths = program.texts("files", ("initial.py",), required=True)
    initial = Program(tuple(_read_source(folder, name, program.where) for name in paths))
    evaluator = _find_evaluator(folder, top, evaluators)
    if evaluator in {(folder / name).resolve() for name in paths}:
        raise ProblemError(f"{program.where}: expected programs, got the evaluator among `files`")
    entry = top.texts("entry", ())
    _check_entry(folder, initial, entry, recipe)
    data = folder / "data"
    parameters = _read_parameters(top, overrides or {})
    return Problem(
        name=_read_name(top, folder),
        summary=top.text("summary", ""),
        direction=Direction(top.choice("direction", tuple(Direction))),
        statement=_read_statement(folder / "statement.md", parameters),
        initial=initial,
        recipe=recipe,
        evaluator=evaluator,
        functions=_read_functions(top),
        evaluator_seconds=top.number("evaluator_seconds", 60.0, above=0.0),
        parameters=parameters,
        measures=read_measures(top, initial),
        limits=_read_limits(top.table("limits", _LIMITS)),
        packages=top.texts("packages", ("numpy",)),
        entry=entry,
        best_known=_read_reference(top, "best_known"),
        baseline=_read_reference(top, "baseline"),
        data=data.resolve() if data.is_dir() else None,
        folder=folder,
    )


def _find_folder(path: Path) -> Path:
    folder = path.parent if path.name == "problem.toml" else path
    if not folder.is_dir():
        raise ProblemError(
            f"{path}: expected a problem folder, got nothing of that name; `evolve gallery` lists "
            "the problems that can be run by name"
        )
    if not (folder / "problem.toml").is_file():
        raise ProblemError(
            f"{path}: expected a problem folder, got one without `problem.toml`; "
            "`evolve init FOLDER` makes a new one"
        )
    return folder.resolve()


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ProblemError(f"{path}: expected a file that can be read: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ProblemError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got {len(data)}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ProblemError(f"{path}: expected text in UTF-8: {error}") from error


def _read_table(path: Path) -> Table:
    try:
        return Table(tomllib.loads(_read_text(path)), str(path), (*_VALUES, *_LISTS, *_TABLES))
    except tomllib.TOMLDecodeError as error:
        raise ProblemError(f"{path}: expected TOML: {error}") from error


def _read_name(top: Table, folder: Path) -> str:
    name = top.text("name", folder.name)
    if not _NAME.fullmatch(name):
        raise ProblemError(f"{top.where}: `name`: expected letters, digits, - and _, got {name!r}")
    return name


def _read_statement(path: Path, parameters: Mapping[str, Any]) -> str:
    """Reads the statement and puts the parameters in where it says `{{name}}`."""
    text = _read_text(path)
    if not text.strip():
        raise ProblemError(f"{path}: expected what a program has to do, in words; got nothing")

    def look_up(match: re.Match[str]) -> str:
        if match[1] not in parameters:
            raise ProblemError(
                f"{path}: unknown parameter `{match[0]}`; [parameters] has: {', '.join(parameters)}"
            )
        return str(parameters[match[1]])

    return _PARAMETER.sub(look_up, text)


def _read_source(folder: Path, name: str, where: str) -> SourceFile:
    relative = PurePosixPath(name)
    path = (folder / relative).resolve()
    if relative.is_absolute() or not path.is_relative_to(folder):
        raise ProblemError(f"{where}: `files`: expected files inside the folder, got {name!r}")
    text = _read_text(path)
    try:
        find_blocks(text)
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error
    problem = syntax_error(text) if path.suffix == ".py" else None
    if problem is not None:
        raise ProblemError(f"{path}: expected Python that can be parsed: {problem}")
    return SourceFile(str(relative), text)


def _check_entry(folder: Path, initial: Program, entry: tuple[str, ...], recipe: Recipe) -> None:
    path, text = initial.entry
    if recipe.run and not entry:
        return
    stem = PurePosixPath(path).stem
    if not path.endswith(".py") or not stem.isidentifier():
        raise ProblemError(
            f"{folder / path}: expected a Python file whose name can be imported as the first "
            "of the program's files, or in [program] `run`, the command that starts the program"
        )
    missing = [name for name in entry if name not in list_names(text)]
    if missing:
        raise ProblemError(f"{folder / path}: expected a function `{missing[0]}` at the top level")


def _find_evaluator(folder: Path, top: Table, evaluators: Path | None) -> Path:
    path = (folder / top.text("evaluator", "evaluator.py")).resolve()
    if evaluators is not None:
        path = evaluators.resolve() / path.name
    if not path.is_file():
        raise ProblemError(
            f"{top.where}: `evaluator`: expected a Python file, got nothing at {path}; name it in "
            '`evaluator = "..."`, or put an `evaluator.py` beside `problem.toml`'
        )
    return path


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


def _read_reference(top: Table, key: str) -> Reference | None:
    if key not in top.values:
        return None
    table = top.table(key, ("value", "source"))
    return Reference(table.number("value"), table.text("source"))
