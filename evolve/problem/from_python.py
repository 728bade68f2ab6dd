"""A problem folder written from Python: from a program's source and a function that scores it."""

from __future__ import annotations

import ast
import builtins
import inspect
import math
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from evolve.errors import UsageError
from evolve.records import Direction

_TOML = """name = "{name}"
summary = "Written from Python"
direction = "{direction}"
function = "score_program"

[program]
files = [{files}]
"""
_WRAPPER = '''

def score_program(program):
    """Returns the score of a program, as a `Score`."""
    found = {function}(program)
    return found if isinstance(found, _Score) else _Score(float(found))
'''


def write_problem(
    folder: Path,
    program: str | Path | Callable[..., Any],
    evaluate: str | Path | Callable[..., Any],
    *,
    statement: str,
    direction: str,
) -> None:
    """Writes a problem folder.

    Args:
        folder: Is made; must not hold anything yet.
        program: Source, path of a file or folder, or a function, whose source is taken.
        evaluate: A function of one argument, or the path of a file that defines `evaluate`.
        statement: What the program is to do.
        direction: `maximize` or `minimize`.

    Raises:
        UsageError: The program or the evaluator cannot be taken.
    """
    if direction not in set(Direction):
        raise UsageError(f"direction: expected maximize or minimize, got {direction!r}")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: expected a new or empty folder, got one with files in it")
    files = _read_program(program)
    scoring = _read_evaluator(evaluate)
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    names = ", ".join(f'"{path}"' for path in files)
    toml = _TOML.format(name=_name(folder, program), direction=direction, files=names)
    (folder / "problem.toml").write_text(toml, encoding="utf-8")
    (folder / "statement.md").write_text(f"{statement or _describe(direction)}\n", "utf-8")
    (folder / "evaluator.py").write_text(scoring, encoding="utf-8")


def _read_program(program: str | Path | Callable[..., Any]) -> dict[str, str]:
    if callable(program):
        if not isinstance(program, FunctionType | type):
            kind = type(program).__name__
            raise UsageError(f"program: expected a function or a class, got a {kind}")
        source = _source_of(program)
        marked = f"# EVOLVE-BLOCK-START\n{source.rstrip()}\n# EVOLVE-BLOCK-END\n"
        return {"initial.py": marked}
    is_text = isinstance(program, str) and "\n" in program
    path = Path(program) if not is_text else None
    if path is not None and path.is_dir():
        paths = sorted(one for one in path.rglob("*") if one.is_file() and one.suffix != ".pyc")
        return {str(one.relative_to(path)): one.read_text(encoding="utf-8") for one in paths}
    if path is not None and path.is_file():
        return {path.name: path.read_text(encoding="utf-8")}
    if isinstance(program, Path):
        raise UsageError(f"{program}: expected a file or folder with the program, found none")
    return {"initial.py": program if program.endswith("\n") else f"{program}\n"}


def _read_evaluator(evaluate: str | Path | Callable[..., Any]) -> str:
    head = "from evolve.scoring import Score as _Score\n\n"
    if callable(evaluate) and not isinstance(evaluate, FunctionType):
        raise UsageError(
            f"evaluate: expected a function defined with `def`, got a {type(evaluate).__name__}"
        )
    if isinstance(evaluate, FunctionType):
        parts = dict(_gather(evaluate))
        imports = [part for part in parts.values() if part.startswith("import ")]
        others = [part for part in parts.values() if not part.startswith("import ")]
        body = "\n".join(imports) + "\n\n" + "\n\n".join(reversed(others))
        return head + body.strip() + "\n" + _WRAPPER.format(function=evaluate.__name__)
    path = Path(evaluate)
    if not path.is_file():
        raise UsageError(f"{path}: expected a function, or a file that defines one, found none")
    return (
        path.read_text(encoding="utf-8").rstrip()
        + "\n\n\n"
        + head.rstrip()
        + "\n"
        + (_WRAPPER.format(function="evaluate"))
    )


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
            source = _source_of(value)
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
    text = repr(value)
    try:
        is_same = ast.literal_eval(text) == value
    except (ValueError, SyntaxError, RecursionError):
        return ""
    return text if is_same else ""


def _is_importable(value: Any) -> bool:
    """Returns whether a function or class comes from the standard library or a package."""
    name = getattr(value, "__module__", None) or ""
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    is_installed = "site-packages" in file or "dist-packages" in file
    root = name.partition(".")[0]
    return root == "evolve" or root in sys.stdlib_module_names or is_installed


def _source_of(value: Callable[..., Any]) -> str:
    try:
        source = textwrap.dedent(inspect.getsource(value))
        tree = ast.parse(source)
    except (OSError, TypeError, SyntaxError) as error:
        raise UsageError(
            f"{getattr(value, '__name__', value)}: its source cannot be found; define it with "
            "`def` in a file or a notebook's cell, or give a path or a text"
        ) from error
    if not isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        raise UsageError(
            f"{value.__name__}: expected a function defined with `def`, got an expression"
        )
    return source


def _name(folder: Path, program: object) -> str:
    name = getattr(program, "__name__", folder.name)
    shown = "".join(sign if sign.isalnum() else "_" for sign in name).strip("_")
    return shown or "problem"


def _describe(direction: str) -> str:
    what = "larger" if direction == Direction.MAXIMIZE else "smaller"
    return f"Improve the program. The {what} its objective, the better."
