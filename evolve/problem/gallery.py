"""Problem folders to start from: the package's own, a small new one, and those made in Python."""

from __future__ import annotations

import ast
import builtins
import difflib
import inspect
import math
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import evolve
from evolve.errors import ProblemError, UsageError
from evolve.problem.folder import load_problem
from evolve.problem.problem import Problem
from evolve.records import Direction

_EVALUATORS = "evaluator"
_EVALUATOR_LINE = re.compile(r'^evaluator = ".*"$', re.MULTILINE)
_TEMPLATE = ".template"
_TOML = """\
name = "{name}"
summary = "Written from Python"
direction = "{direction}"
function = "score_program"

[program]
files = [{files}]
"""
_IMPORT = "from evolve.scoring import Score as _Score\n"
_WRAPPER = '''

def score_program(program):
    """Returns the score of a program, as a `Score`."""
    found = {function}(program)
    return found if isinstance(found, _Score) else _Score(float(found))
'''


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
        for module in _find_modules(evaluator):
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
    name = _name(folder.resolve().name)
    templates = (resources.files("evolve") / "problem" / "scaffold").iterdir()
    texts = {
        folder / one.name.removesuffix(_TEMPLATE): one.read_text("utf-8").replace("{name}", name)
        for one in sorted(templates, key=lambda one: one.name)
    }
    existing = [path for path in texts if path.exists()]
    if existing:
        raise UsageError(f"{existing[0]}: expected no such file, got one; choose another folder")
    write_files(folder, texts)
    return list(texts)


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


def write_problem(
    folder: Path,
    program: str | Path | Callable[..., Any],
    evaluate: str | Path | Callable[..., Any],
    *,
    statement: str,
    direction: str,
) -> None:
    """Writes a problem folder from Python.

    Args:
        folder: New or empty.
        program: Source, path of a file or folder, or a function, whose source is taken.
        evaluate: A function of one argument, or the path of a file that defines `evaluate`.
        statement: What the program is to do.
        direction: `maximize` or `minimize`.

    Raises:
        UsageError: The program or the evaluator cannot be taken.
    """
    if direction not in set(Direction):
        raise UsageError(f"direction: expected maximize or minimize, got {direction!r}")
    expect_empty(folder)
    files = _read_program(program)
    better = "larger" if direction == Direction.MAXIMIZE else "smaller"
    plain = f"Improve the program. The {better} its objective, the better."
    toml = _TOML.format(
        name=_name(getattr(program, "__name__", folder.name)),
        direction=direction,
        files=", ".join(f'"{path}"' for path in files),
    )
    others = {
        "problem.toml": toml,
        "statement.md": f"{statement or plain}\n",
        "evaluator.py": _read_evaluator(evaluate),
    }
    write_files(folder, {folder / path: text for path, text in {**files, **others}.items()})


def _read_program(program: str | Path | Callable[..., Any]) -> dict[str, str]:
    if callable(program):
        source = _source_of(program, "program")
        return {"initial.py": f"# EVOLVE-BLOCK-START\n{source.rstrip()}\n# EVOLVE-BLOCK-END\n"}
    if isinstance(program, Path) or "\n" not in program:
        path = Path(program)
        if path.is_dir():
            paths = [one for one in list_files(path) if one.suffix != ".pyc"]
            return {str(one.relative_to(path)): one.read_text("utf-8") for one in paths}
        if path.is_file():
            return {path.name: path.read_text("utf-8")}
    if isinstance(program, Path):
        raise UsageError(f"{program}: expected a file or folder with the program, found none")
    return {"initial.py": program if program.endswith("\n") else f"{program}\n"}


def _read_evaluator(evaluate: str | Path | Callable[..., Any]) -> str:
    if callable(evaluate):
        _source_of(evaluate, "evaluate")
        parts = dict(_gather(evaluate)).values()
        imports = [part for part in parts if part.startswith("import ")]
        others = [part for part in parts if not part.startswith("import ")]
        body = "\n".join(imports) + "\n\n" + "\n\n".join(reversed(others))
        return f"{_IMPORT}\n{body.strip()}\n" + _WRAPPER.format(function=evaluate.__name__)
    path = Path(evaluate)
    if not path.is_file():
        raise UsageError(f"{path}: expected a function, or a file that defines one, found none")
    code = path.read_text("utf-8").rstrip()
    return f"{code}\n\n\n{_IMPORT}" + _WRAPPER.format(function="evaluate")


def _gather(function: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """Yields a function and what it uses of its file, each by name: source, or an import.

    Raises:
        UsageError: It uses what only lives in this process.
    """
    waiting: dict[str, Any] = {function.__name__: function}
    seen: set[str] = set()
    while waiting:
        name, value = waiting.popitem()
        seen.add(name)
        spelled = _spell(value)
        if isinstance(value, ModuleType):
            alias = "" if name == value.__name__ else f" as {name}"
            yield name, f"import {value.__name__}{alias}"
        elif spelled:
            yield name, f"{name} = {spelled}"
        elif _is_importable(value):
            yield name, f"import {value.__module__}\n{name} = {value.__module__}.{value.__name__}"
        elif isinstance(value, FunctionType | type):
            source = _source_of(value, name)
            yield name, source
            used = _used_names(value, source)
            waiting |= {one: found for one, found in used.items() if one not in seen}
        else:
            raise UsageError(
                f"evaluate: uses `{name}` ({type(value).__name__}), which only lives in this "
                "process; build it inside the function, or give the path of a file"
            )


def _used_names(value: Any, source: str) -> Mapping[str, Any]:
    """Returns what a function or class uses of its file, by name."""
    if isinstance(value, FunctionType):
        found = inspect.getclosurevars(value)
        if found.nonlocals:
            names = ", ".join(f"`{name}`" for name in found.nonlocals)
            raise UsageError(
                f"evaluate: closes over {names} of the function around it; pass the value in "
                "through a constant at the top of its file"
            )
        scope = value.__globals__
    else:
        scope = vars(inspect.getmodule(value) or builtins)
    loaded = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    known = set(dir(builtins)) | {value.__name__}
    return {name: scope[name] for name in loaded - known if name in scope}


def _spell(value: Any) -> str:
    """Returns a plain value, or a container of some, as source; empty where it is none."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    try:
        return repr(value) if ast.literal_eval(repr(value)) == value else ""
    except (ValueError, SyntaxError, RecursionError):
        return ""


def _is_importable(value: Any) -> bool:
    """Returns whether a function or class comes from the standard library or a package."""
    name = getattr(value, "__module__", None) or ""
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    is_installed = "site-packages" in file or "dist-packages" in file
    root = name.partition(".")[0]
    return root == "evolve" or root in sys.stdlib_module_names or is_installed


def _source_of(value: Any, where: str) -> str:
    """Returns the source of a function or class.

    Raises:
        UsageError: It is something else, or its source cannot be found.
    """
    if not isinstance(value, FunctionType | type):
        kind = type(value).__name__
        raise UsageError(f"{where}: expected a function defined with `def`, got a {kind}")
    try:
        source = textwrap.dedent(inspect.getsource(value))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError) as error:
        raise UsageError(
            f"{where}: its source cannot be found; define it with `def` in a file or a notebook's "
            "cell, or give a path or a text"
        ) from error
    if not isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        raise UsageError(f"{where}: expected a function defined with `def`, got an expression")
    return source


def _name(text: str) -> str:
    """Returns a name for a problem that is made of a text."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "problem"


def _root() -> Path:
    package = Path(evolve.__file__).resolve().parent
    shipped = package / "shipped" / "problems"
    # A checkout has them next to the package; a wheel brings them inside it.
    return shipped if shipped.is_dir() else package.parent / "problems"


def _find_modules(evaluator: Path) -> list[Path]:
    """Returns an evaluator's module and the modules next to it that it imports, directly or not."""
    found = [evaluator]
    for path in found:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            siblings = [path.with_name(f"{name.partition('.')[0]}.py") for name in names]
            found += [item for item in siblings if item.is_file() and item not in found]
    return found
