"""Problem folders that are found, copied and written: the package's own, and new ones."""

from __future__ import annotations

import ast
import difflib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from string import Template

import evolve
from evolve.errors import ProblemError, UsageError
from evolve.files import write_inside
from evolve.problem.folder import load_problem, read_text
from evolve.problem.problem import Problem

_EVALUATORS = "evaluator"
_NOISE_LINE = re.compile(r"^noise\s*=.*$", re.MULTILINE)
_NOISE_TABLE = re.compile(r"^(\[noise\][^\[]*?)(?:^spread\s*=.*\n|(?=^\[)|\Z)", re.MULTILINE)
_EVALUATOR_LINE = re.compile(r'^evaluator = ".*"$', re.MULTILINE)


def list_gallery() -> list[Problem]:
    """Returns all problems of the gallery, by name.

    Raises:
        ProblemError: One of them is damaged.
    """
    return [load_problem(path.parent) for path in sorted(_root().glob("*/problem.toml"))]


def is_shipped(problem: Problem) -> bool:
    """Returns whether a problem's evaluator came with the package."""
    return problem.evaluator.is_relative_to(_root().parent)


def find_problem(path: Path) -> Path:
    """Returns the folder itself if it exists, else the gallery's problem of that name.

    Raises:
        ProblemError: There is neither, and a problem of the gallery has a name like it.
    """
    shipped = _root() / path.name
    if path.exists() or len(path.parts) != 1:
        return path
    if shipped.is_dir():
        return shipped
    names = [one.name for one in _root().iterdir() if one.is_dir()]
    near = difflib.get_close_matches(path.name, names, n=1)
    if near:
        raise ProblemError(
            f"{path}: expected a problem folder, got nothing; did you mean {near[0]}?"
        )
    return path


def copy_problem(name: str, folder: Path) -> list[Path]:
    """Copies a problem with its evaluator, so that it can be changed.

    Args:
        name: Of a problem in the gallery.
        folder: New or empty.

    Returns:
        The files written.

    Raises:
        UsageError: No problem has that name, or the folder is not empty or cannot be written.
    """
    source = _root() / name
    if not (source / "problem.toml").is_file():
        names = ", ".join(problem.name for problem in list_gallery())
        raise UsageError(f"gallery: expected one of {names}; got {name!r}")
    expect_empty(folder)
    evaluator = load_problem(source).evaluator
    try:
        shutil.copytree(
            source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
        (folder / _EVALUATORS).mkdir()
        for module in find_modules(evaluator):
            shutil.copy2(module, folder / _EVALUATORS)
        toml = folder / "problem.toml"
        line = f'evaluator = "{_EVALUATORS}/{evaluator.name}"'
        toml.write_text(_EVALUATOR_LINE.sub(line, toml.read_text("utf-8"), count=1), "utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from error
    return list_files(folder)


def scaffold_problem(folder: Path) -> list[Path]:
    """Writes a small problem with its statement, starting program and evaluator.

    Args:
        folder: Created if needed; files that it already holds stay.

    Returns:
        The files written.

    Raises:
        UsageError: One of the files exists already, or the folder cannot be written.
    """
    name = problem_name(folder.resolve().name)
    texts = fill_templates("problem/scaffold", folder, name=name)
    existing = [path for path in texts if path.exists()]
    if existing:
        raise UsageError(f"{existing[0]}: expected no such file, got one; choose another folder")
    write_files(folder, texts)
    return list(texts)


def fill_templates(source: str, folder: Path, **values: object) -> dict[Path, str]:
    """Returns the texts of a new problem folder, with a value in place of each `$name`.

    Args:
        source: Folder with the templates in this package.
        folder: Where they will be written.
        **values: By name.
    """
    root = Path(evolve.__file__).parent / source
    return {
        folder / path.relative_to(root).with_suffix(""): Template(
            path.read_text("utf-8")
        ).substitute(values)
        for path in sorted(root.rglob("*.template"))
    }


def write_noise(folder: Path, noise: float) -> Path:
    """Writes the noise of objectives into a `problem.toml`, in place of what stood there.

    Returns:
        The file.

    Raises:
        ProblemError: It cannot be written.
    """
    path = folder / "problem.toml"
    text, line = read_text(path, folder), f"noise = {noise!r}"
    if (table := _NOISE_TABLE.search(text)) is not None:
        kept = f"{table[1].rstrip()}\nspread = {noise!r}\n"
        text = f"{text[: table.start()]}{kept}{text[table.end() :]}"
    elif _NOISE_LINE.search(text):
        text = _NOISE_LINE.sub(line, text, count=1)
    else:
        head, bracket, tables = text.partition("\n[")
        text = f"{head.rstrip()}\n{line}\n{bracket}{tables}"
    try:
        write_inside(folder, path.name, text)
    except OSError as error:
        raise ProblemError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def expect_empty(folder: Path) -> None:
    """Checks that a folder is new or empty.

    Raises:
        UsageError: It is a file, or has files in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        got = "one with files in it" if folder.is_dir() else "a file"
        raise UsageError(f"{folder}: expected a new or empty folder, got {got}")


def write_files(folder: Path, texts: dict[Path, str]) -> None:
    """Writes the files of a new problem folder.

    Raises:
        UsageError: The folder cannot be written.
    """
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from error


def list_files(folder: Path) -> list[Path]:
    """Returns all files in a folder and below."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def problem_name(text: str) -> str:
    """Returns a name for a problem that is made of a text."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-") or "problem"


def _root() -> Path:
    package = Path(evolve.__file__).resolve().parent
    shipped = package / "shipped" / "problems"
    # A checkout has them next to the package; a wheel brings them inside it.
    return shipped if shipped.is_dir() else package.parent / "problems"


def find_modules(evaluator: Path) -> list[Path]:
    """Returns an evaluator's module and the modules next to it that it imports, directly or not.

    Raises:
        SyntaxError: One of them cannot be parsed.
    """
    found = [evaluator]
    for path in found:
        siblings = [
            path.with_name(f"{name}.py") for name in imported_names(path.read_bytes(), path)
        ]
        found += [item for item in siblings if item.is_file() and item not in found]
    return found


def imported_names(source: str | bytes, path: Path | str = "<source>") -> Iterator[str]:
    """Yields the top-level modules that a source imports anywhere."""
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
