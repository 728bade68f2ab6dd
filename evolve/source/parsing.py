"""Python source to syntax trees and the names that it defines; files of text and data.

From several threads and without output.
"""

from __future__ import annotations

import ast
import builtins
import json
import re
import symtable
import threading
import tomllib
import warnings
from collections.abc import Iterable
from pathlib import PurePosixPath

FILE_NAME = "<program>"
# Before Python 3.11.8, threads that parse at the same time may meet a SystemError (CPython issue
# 106905).
_turn = threading.Lock()
# What a module has without defining it.
_MODULE_NAMES = "annotations builtins cached class file module path qualname"
_GIVEN = frozenset([*dir(builtins), *(f"__{name}__" for name in _MODULE_NAMES.split())])
# Code that uses these may define names in ways that cannot be seen.
_DEFINING = frozenset({"eval", "exec", "globals", "locals", "setattr", "vars"})
# All numbers in these are values that somebody chose, under a name or in a list.
_VALUES = frozenset({".json", ".toml", ".yaml", ".yml"})
_TEXTS = _VALUES | {".txt", ".md", ".rst", ".prompt", ".regex", ".csv", ".ini", ".cfg", ".conf"}
_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)$")


def parse_module(text: str) -> ast.Module:
    """Parses a file's text.

    Raises:
        SyntaxError: It is not Python.
        ValueError: It holds NUL.
        RecursionError: It is nested too deeply.
        MemoryError: It is nested too deeply for the parser.
    """
    # Not `catch_warnings`, which is not safe between threads: one filter that only matches
    # the name under which programs are parsed, added where it is not there yet.
    warnings.filterwarnings("ignore", module=re.escape(FILE_NAME))
    with _turn:
        return ast.parse(text, FILE_NAME)


def parse_python(text: str) -> ast.Module | None:
    """Returns a new syntax tree of Python source, or None when it does not parse."""
    try:
        return parse_module(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def syntax_error(text: str) -> str | None:
    """Returns in one line why text is not valid Python; None when it compiles.

    A `return` outside a function, for one, parses and does not compile.
    """
    try:
        compile(parse_module(text), FILE_NAME, "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"line {error.lineno or 1}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"line 1: {str(error) or 'nested too deeply'}"
    return None


def list_statements(text: str) -> list[ast.stmt]:
    """Returns the statements at the top level of Python source; none when it does not parse."""
    tree = parse_python(text)
    return [] if tree is None else tree.body


def list_names(text: str) -> set[str]:
    """Returns the names that Python source binds at its top level; none when it does not parse."""
    return bound_names(list_statements(text))


def bound_names(statements: Iterable[ast.stmt], *, imports: bool = True) -> set[str]:
    """Returns the names that statements bind in their own scope, those of imports if wanted."""
    names: set[str] = set()
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            if imports:
                names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        else:
            names |= {
                child.id
                for child in ast.walk(node)
                if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)
            }
    return names


def find_undefined(text: str) -> tuple[str, int] | None:
    """Finds a name that a module uses and nothing defines.

    Python only notices on reaching it, so such a module may still work. Source that does not parse,
    imports `*`, catches `NameError` or runs code from text is not judged.

    Returns:
        The name, and the line on which the first scope that uses it begins: a function or class,
        0 for the module. None where there is no such name.
    """
    try:
        scopes = list_scopes(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    defined = set(_GIVEN)
    used: dict[str, int] = {}
    for scope in scopes:
        for symbol in _list_globals(scope):
            if _is_bound(symbol):
                defined.add(symbol.get_name())
            if symbol.is_referenced():
                used.setdefault(symbol.get_name(), scope.get_lineno())
    unknown = [(line, name) for name, line in used.items() if name not in defined]
    tree = parse_python(text) if unknown else None
    if tree is None or any(_may_define_more(node) for node in ast.walk(tree)):
        return None
    line, name = min(unknown)
    return name, line


def _is_bound(symbol: symtable.Symbol) -> bool:
    # Python takes a function of the name `top` for a module, and its parameters for globals.
    return (
        symbol.is_assigned()
        or symbol.is_imported()
        or symbol.is_namespace()
        or symbol.is_parameter()
    )


def _list_globals(scope: symtable.SymbolTable) -> list[symtable.Symbol]:
    is_module = scope.get_type() == "module"
    return [symbol for symbol in scope.get_symbols() if is_module or symbol.is_global()]


def _may_define_more(node: ast.AST) -> bool:
    if isinstance(node, ast.alias):
        return node.name == "*"
    if isinstance(node, ast.Name):
        return node.id in _DEFINING
    return (
        isinstance(node, ast.ExceptHandler)
        and node.type is not None
        and "NameError" in ast.unparse(node.type)
    )


def list_scopes(text: str) -> list[symtable.SymbolTable]:
    """Returns the scopes of a file's text, the module first; raises what `parse_module` raises."""
    with _turn:
        scopes = [symtable.symtable(text, FILE_NAME, "exec")]
    for scope in scopes:
        scopes += scope.get_children()
    return scopes


def is_text(path: str) -> bool:
    """Returns whether a file is text or data by its name, so that no part of it is code."""
    return PurePosixPath(path).suffix.lower() in _TEXTS


def is_readable(path: str) -> bool:
    """Returns whether a file can be a program that evaluators read: text, data or SQL."""
    return is_text(path) or PurePosixPath(path).suffix.lower() == ".sql"


def holds_values(path: str) -> bool:
    """Returns whether a file is one of JSON, TOML or YAML by its name."""
    return PurePosixPath(path).suffix.lower() in _VALUES


def find_fault(path: str, text: str) -> str | None:
    """Returns in one line why a file is not what its name says; None where nothing is known.

    Python, JSON and TOML are read.
    """
    suffix = PurePosixPath(path).suffix.lower()
    try:
        if suffix == ".py":
            return syntax_error(text)
        if suffix == ".json":
            json.loads(text)
        elif suffix == ".toml":
            tomllib.loads(text)
    except json.JSONDecodeError as error:
        return f"line {error.lineno}: {error.msg}"
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        return f"line {at[1] if at else 1}: {_AT_LINE.sub('', str(error)).strip()}"
    except RecursionError:
        return "line 1: nested too deeply"
    return None
