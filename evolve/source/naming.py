"""Names that only their own function can see, so that other names in their place change nothing."""

from __future__ import annotations

import ast
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_FUNCTIONS, ast.ClassDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# Where one of these is called, names can be read as texts.
_REVEALING = frozenset({"locals", "vars", "dir", "eval", "exec", "globals"})


def number_locals(tree: ast.Module) -> dict[int, str]:
    """Returns a name by place to each local variable of each function of a tree.

    Parameters keep their names, since callers may use them; so do names that a scope inside of
    the function sees, that are bound by other means than assignment and loops, and all names of
    functions that may read their variables by name.

    Returns:
        The new name of each `ast.Name` node that stands for such a variable, by `id` of the node.
    """
    renamed: dict[int, str] = {}
    for function in ast.walk(tree):
        if isinstance(function, _FUNCTIONS):
            renamed |= _number(function)
    return renamed


def _number(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[int, str]:
    own = list(_walk_own(function))
    names = [node for node in own if isinstance(node, ast.Name)]
    if any(name.id in _REVEALING for name in names):
        return {}
    kept = _find_kept(function, own)
    inside = {id(name): name for name in _find_comprehension_names(own)}
    bound = {
        name.id for name in names if isinstance(name.ctx, ast.Store) and id(name) not in inside
    }
    everywhere = Counter(name.id for name in names)
    bound |= {name for name, count in _count_bound(own).items() if count == everywhere[name]}
    numbers: dict[str, str] = {}
    for name in names:
        if name.id in bound and name.id not in kept:
            # No identifier looks like that.
            numbers.setdefault(name.id, f"${len(numbers)}")
    return {id(name): numbers[name.id] for name in names if name.id in numbers}


def _walk_own(function: ast.AST) -> Iterator[ast.AST]:
    """Returns the nodes of a function in the order of the text, without those of inner scopes."""
    stack = list(reversed(getattr(function, "body", [])))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, _SCOPES):
            stack += reversed(list(ast.iter_child_nodes(node)))


def _find_kept(function: ast.FunctionDef | ast.AsyncFunctionDef, own: list[ast.AST]) -> set[str]:
    """Returns the names that must stay: all that is bound or seen by other means."""
    arguments = ast.walk(function.args)
    kept = {argument.arg for argument in arguments if isinstance(argument, ast.arg)}
    for node in own:
        if isinstance(node, _SCOPES):
            for inner in ast.walk(node):
                names = getattr(inner, "names", ())
                kept |= {name for name in names if isinstance(name, str)}
                kept |= {str(getattr(inner, name, "")) for name in ("id", "name")}
        elif isinstance(node, ast.Global | ast.Nonlocal):
            kept |= set(node.names)
        elif isinstance(node, ast.alias):
            kept.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            kept.add(node.name or "")
        elif isinstance(node, ast.MatchMapping):
            kept.add(node.rest or "")
    return kept


def _find_comprehension_names(own: list[ast.AST]) -> Iterator[ast.Name]:
    """Returns the names that loops of comprehensions bind."""
    for node in own:
        if isinstance(node, ast.comprehension):
            yield from (one for one in ast.walk(node.target) if isinstance(one, ast.Name))


def _count_bound(own: list[ast.AST]) -> Counter[str]:
    """Counts for each name how often it stands in a comprehension that binds it.

    The first sequence is read outside of the comprehension, and does not count.
    """
    found: set[tuple[str, int]] = set()
    for node in own:
        if isinstance(node, _COMPREHENSIONS):
            bound = {name.id for name in _find_comprehension_names(list(ast.walk(node)))}
            outside = {id(inner) for inner in ast.walk(node.generators[0].iter)}
            found |= {
                (inner.id, id(inner))
                for inner in ast.walk(node)
                if isinstance(inner, ast.Name) and inner.id in bound and id(inner) not in outside
            }
    return Counter(name for name, _ in found)
