"""The problems that come with the package: listed, found by name, copied to be changed."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import evolve
from evolve.errors import UsageError
from evolve.problem import load_problem

if TYPE_CHECKING:
    from evolve.problem import Problem

_PROBLEMS = "problems"
_EVALUATORS = "evaluator"
_KEY = re.compile(r'^evaluator = ".*"$', re.MULTILINE)


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
    """Returns the folder itself if there is one, else the gallery's problem of that name."""
    shipped = _root() / path.name
    if not path.exists() and len(path.parts) == 1 and shipped.is_dir():
        return shipped
    return path


def copy_problem(name: str, folder: Path) -> list[Path]:
    """Copies a problem with its evaluator, so that it can be changed.

    Args:
        name: Of a problem in the gallery.
        folder: New or empty.

    Returns:
        The files written.

    Raises:
        UsageError: No problem has that name, or the folder holds something or cannot be written.
    """
    source = _root() / name
    if not (source / "problem.toml").is_file():
        names = ", ".join(problem.name for problem in list_gallery())
        raise UsageError(f"gallery: expected one of {names}; got {name!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: expected a new or empty folder, got one with files in it")
    evaluator = load_problem(source).evaluator
    try:
        shutil.copytree(
            source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
        (folder / _EVALUATORS).mkdir()
        for module in _with_imports(evaluator):
            shutil.copy2(module, folder / _EVALUATORS)
        settings = folder / "problem.toml"
        line = f'evaluator = "{_EVALUATORS}/{evaluator.name}"'
        settings.write_text(_KEY.sub(line, settings.read_text("utf-8"), count=1), "utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: expected a folder to write to: {error.strerror}") from error
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _root() -> Path:
    package = Path(evolve.__file__).resolve().parent
    shipped = package / "shipped" / _PROBLEMS
    # A checkout has them beside the package; a wheel brings them inside it.
    return shipped if shipped.is_dir() else package.parent / _PROBLEMS


def _with_imports(evaluator: Path) -> list[Path]:
    """Returns a module and those beside it that it imports, theirs included."""
    found = [evaluator]
    for path in found:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            beside = [path.with_name(f"{name.partition('.')[0]}.py") for name in names]
            found += [item for item in beside if item.is_file() and item not in found]
    return found
