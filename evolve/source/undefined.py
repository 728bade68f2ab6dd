"""Names that Python source uses and nothing defines."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

from evolve.source import parse_python
from evolve.source.parsing import list_scopes

if TYPE_CHECKING:
    import symtable

# What a module has without defining it.
_GIVEN = frozenset(dir(builtins)) | {
    "__annotations__",
    "__builtins__",
    "__cached__",
    "__class__",
    "__file__",
    "__module__",
    "__path__",
    "__qualname__",
}
# Whoever uses these may define names in ways that cannot be seen.
_DEFINING = frozenset({"eval", "exec", "globals", "locals", "setattr", "vars"})


def find_undefined(text: str) -> tuple[str, int] | None:
    """Finds a name that is used in a module and that nothing defines.

    Python finds it only when it gets there, so that such a module may still work. Nothing is said
    of source that does not parse, imports `*`, catches `NameError`, or runs code made of text.

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
