"""Signs in Python source that a program answers the test and not the question.

They are looked at by people. Each has an innocent form: a base case, a cache, a table of
constants.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from evolve.records import Program
from evolve.source.parsing import parse_python

SPECIAL_CASE = "special-cases an input"
STATE = "keeps state between calls"
TABLE = "holds a table of numbers"

# Fewer numbers are parameters; base cases compare with the first ones.
_LONG_TABLE = 100
_USUAL = (0, 1, 2, -1)
_CHANGING = frozenset(
    {"append", "add", "extend", "insert", "pop", "popitem", "update", "setdefault", "remove"}
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COLLECTIONS = (ast.List, ast.Dict, ast.Set, ast.Tuple)


class Suspicion(NamedTuple):
    """A sign in a program's source.

    Attributes:
        kind: What it may mean.
        path: The file.
        line: Its line, from 1.
        code: The line itself.
    """

    kind: str
    path: str
    line: int
    code: str


def find_suspicions(program: Program, start: Program) -> list[Suspicion]:
    """Returns the signs in a program's Python files that its starting program does not have."""
    known = {(one.kind, one.code) for one in _find_all(start)}
    found = (one for one in _find_all(program) if (one.kind, one.code) not in known)
    return sorted(set(found), key=lambda one: (one.path, one.line, one.kind))


def _find_all(program: Program) -> Iterator[Suspicion]:
    for path, text in program.files:
        tree = parse_python(text) if path.endswith(".py") else None
        if tree is None:
            continue
        lines = text.splitlines()
        for kind, node in _search(tree):
            yield Suspicion(kind, path, node.lineno, lines[node.lineno - 1].strip()[:200])


def _search(tree: ast.Module) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
    collections: dict[str, ast.AST] = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    # Functions and classes have attributes that last, too.
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    collections |= {node.name: node for node in tree.body if isinstance(node, named)}
    for node in ast.walk(tree):
        if isinstance(node, _COLLECTIONS) and _count_numbers(node) > _LONG_TABLE:
            yield TABLE, node
        if isinstance(node, _FUNCTIONS):
            yield from _search_function(node, collections)


def _search_function(
    function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
    collections: Mapping[str, ast.AST],
) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
    arguments = function.args
    names = {one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    given = [*arguments.defaults, *(one for one in arguments.kw_defaults if one is not None)]
    if any(isinstance(one, ast.List | ast.Dict | ast.Set) for one in given):
        yield STATE, given[0]
    local = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    shared = {
        name
        for name, value in collections.items()
        if name not in local | names and not isinstance(value, ast.Constant | ast.Tuple)
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Compare) and _is_special(node, names):
            yield SPECIAL_CASE, node
        elif isinstance(node, ast.Match) and _mentions(node.subject, names):
            cases = (case.pattern for case in node.cases)
            if any(isinstance(one, ast.MatchValue) for one in cases):
                yield SPECIAL_CASE, node
        elif isinstance(node, ast.expr) and (found := _find_lookup(node)) is not None:
            table, key = found
            if isinstance(table, ast.Name):
                table = collections.get(table.id, table)
            if isinstance(table, ast.Dict) and _mentions(key, names):
                yield SPECIAL_CASE, node
        if isinstance(node, ast.stmt | ast.expr) and _changes_shared(node, shared):
            yield STATE, node


def _find_lookup(node: ast.expr) -> tuple[ast.AST, ast.expr] | None:
    """Returns what is looked into and the key, of `TABLE[key]` or `TABLE.get(key)`."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        return node.value, node.slice
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        return (node.func.value, node.args[0]) if node.func.attr == "get" else None
    return None


def _is_special(node: ast.Compare, names: set[str]) -> bool:
    """Returns whether a parameter, or its length, is compared with a value of no usual meaning."""
    if not any(isinstance(one, ast.Eq | ast.In | ast.Is) for one in node.ops):
        return False
    sides = [node.left, *node.comparators]
    return any(_mentions(side, names) for side in sides) and any(map(_is_odd_value, sides))


def _is_odd_value(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return any(map(_is_odd_value, node.elts))
    if not isinstance(node, ast.Constant) or isinstance(node.value, bool):
        return False
    is_number = isinstance(node.value, int | float)
    return is_number and node.value not in _USUAL


def _mentions(node: ast.expr, names: set[str]) -> bool:
    return any(isinstance(one, ast.Name) and one.id in names for one in ast.walk(node))


def _changes_shared(node: ast.stmt | ast.expr, shared: set[str]) -> bool:
    """Returns whether a statement or call changes what outlives the call of its function."""
    if isinstance(node, ast.Global | ast.Nonlocal):
        return isinstance(node, ast.Global)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        owner = node.func.value
        return isinstance(owner, ast.Name) and owner.id in shared and node.func.attr in _CHANGING
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "next":
        return bool(node.args) and _mentions(node.args[0], shared)
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AugAssign):
        targets = [node.target]
    kept = (one for one in targets if isinstance(one, ast.Subscript | ast.Attribute))
    return any(isinstance(one.value, ast.Name) and one.value.id in shared for one in kept)


def _count_numbers(node: ast.expr) -> int:
    return sum(
        isinstance(one, ast.Constant) and isinstance(one.value, int | float)
        for one in ast.walk(node)
    )
