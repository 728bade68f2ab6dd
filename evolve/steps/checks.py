"""Cheap checks of a new program, before it is evaluated."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from evolve.problem import Problem
from evolve.records import Program, Rejected
from evolve.source import list_names, parse_python
from evolve.source.parsing import find_undefined

_MOST_NAMED = 8


def check_program(program: Program, problem: Problem, modules: frozenset[str]) -> Rejected | None:
    """Returns why a program fails, or would fail; None where nothing is seen.

    Args:
        program: That can be parsed.
        problem: Names what must be defined.
        modules: What can be imported in the sandbox beside the standard library; nothing is said
            about imports when it is empty.
    """
    path, text = program.entry
    if not path.endswith(".py"):
        return None
    missing = [name for name in problem.entry if name not in list_names(text)]
    if missing:
        return Rejected(f"{path}: expected a function `{missing[0]}` at the top level, found none")
    for name, source in program.files:
        undefined = find_undefined(source) if name.endswith(".py") else None
        if undefined is not None:
            unknown, line = undefined
            place = f"in what begins on line {line}" if line else "at the top level"
            return Rejected(f"{name}: nothing defines the name `{unknown}`, used {place}")
    if not modules:
        return None
    own = {name.split("/")[0].removesuffix(".py") for name, _ in program.files}
    known = modules | own | sys.stdlib_module_names
    if "program" in problem.asks:
        known |= {"evolve"}
    for name in _imports_of(text):
        if name not in known:
            listed = ", ".join(sorted(set(problem.packages) | (modules & _TELLING)))[:200]
            return Rejected(
                f"{path}: imports `{name}`, which programs do not have here"
                + (f"; there are: {listed}" if listed else "")
            )
    return None


def _imports_of(text: str) -> Iterator[str]:
    """Returns the modules that are imported whenever the file is; those in `try` may fail."""
    tree = parse_python(text)
    for node in tree.body if tree is not None else []:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]


_TELLING = frozenset({"numpy", "scipy", "numba", "sklearn", "pandas", "networkx", "sympy", "torch"})
