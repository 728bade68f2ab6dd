"""The files of a problem folder, each checked as it is read."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from evolve.errors import ProblemError
from evolve.records import SourceFile
from evolve.source import find_blocks, list_names, syntax_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evolve.records import Program
    from evolve.scoring.commands import Recipe

MAX_FILE_BYTES = 1_000_000
# The prompts that a problem may have of its own, as `prompts/NAME.md`.
PROMPTS = ("plan", "leap", "edit", "rewrite", "lines", "repair", "agent", "summarize")
_PARAMETER = re.compile(r"\{\{(\w+)\}\}")


def find_folder(path: Path) -> Path:
    """Finds a problem folder by its path or that of the `problem.toml` in it.

    Raises:
        ProblemError: There is none.
    """
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


def read_text(path: Path) -> str:
    """Reads a text file.

    Raises:
        ProblemError: It cannot be read, is too large, or no UTF-8.
    """
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


def read_statement(path: Path, parameters: Mapping[str, Any]) -> str:
    """Reads the statement and puts the parameters in where it says `{{name}}`.

    Raises:
        ProblemError: It cannot be read, is empty, or names an unknown parameter.
    """
    text = read_text(path)
    if not text.strip():
        raise ProblemError(f"{path}: expected what a program has to do, in words; got nothing")

    def look_up(match: re.Match[str]) -> str:
        if match[1] not in parameters:
            raise ProblemError(
                f"{path}: unknown parameter `{match[0]}`; [parameters] has: {', '.join(parameters)}"
            )
        return str(parameters[match[1]])

    return _PARAMETER.sub(look_up, text)


def read_source(folder: Path, name: str, where: str) -> SourceFile:
    """Reads a file of the starting program.

    Args:
        folder: The problem folder.
        name: Path in it.
        where: Who names the file, for messages.

    Raises:
        ProblemError: It lies outside, cannot be read, or cannot be parsed.
    """
    relative = PurePosixPath(name)
    path = (folder / relative).resolve()
    if relative.is_absolute() or not path.is_relative_to(folder):
        raise ProblemError(f"{where}: `files`: expected files inside the folder, got {name!r}")
    text = read_text(path)
    try:
        find_blocks(text)
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error
    problem = syntax_error(text) if path.suffix == ".py" else None
    if problem is not None:
        raise ProblemError(f"{path}: expected Python that can be parsed: {problem}")
    return SourceFile(str(relative), text)


def check_entry(folder: Path, initial: Program, entry: tuple[str, ...], recipe: Recipe) -> None:
    """Checks that evaluators can reach the program through its first file.

    Raises:
        ProblemError: It can be neither imported nor started, or lacks a function.
    """
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


def check_prompts(folder: Path) -> None:
    """Checks that each file in `prompts/` is one that a step looks for.

    Raises:
        ProblemError: One is not.
    """
    for path in sorted((folder / "prompts").glob("*")):
        if path.suffix != ".md" or path.stem not in PROMPTS:
            known = ", ".join(f"{name}.md" for name in PROMPTS)
            raise ProblemError(
                f"{path}: expected one of {known}, got a file that no step looks for; rename it, "
                "or move it out of `prompts`"
            )


def find_evaluator(folder: Path, name: str, where: str, evaluators: Path | None) -> Path:
    """Finds the evaluator's file.

    Args:
        folder: The problem folder.
        name: Path of the evaluator, relative to it.
        where: Who names it, for messages.
        evaluators: Another folder in which it is looked for by its file name alone.

    Raises:
        ProblemError: There is none.
    """
    path = (folder / name).resolve()
    if evaluators is not None:
        path = evaluators.resolve() / path.name
    if not path.is_file():
        raise ProblemError(
            f"{where}: `evaluator`: expected a Python file, got nothing at {path}; name it in "
            '`evaluator = "..."`, or put an `evaluator.py` beside `problem.toml`'
        )
    return path
