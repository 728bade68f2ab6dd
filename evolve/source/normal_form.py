"""The normal form of programs: their fingerprints, and what is measured in their source."""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from evolve.records import Program
from evolve.source.blocks import evolvable_text
from evolve.source.parsing import parse_python

# `seconds` is taken while a program runs; all others follow from its source.
BUILT_IN_MEASURES = ("length", "nodes", "depth", "branches", "calls", "similarity", "seconds")

TOKEN = re.compile(r"\w+|[^\w\s]")
_BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.BoolOp,
    ast.ExceptHandler,
    ast.comprehension,
    ast.match_case,
)
# The load or store context follows from the place; the others are remarks.
_SKIPPED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_FUNCTIONS, ast.ClassDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# Where one of these is called, names can be read as texts.
_REVEALING = frozenset({"locals", "vars", "dir", "eval", "exec", "globals"})


class _Shape(NamedTuple):
    """What one walk over a syntax tree finds."""

    digest: str
    nodes: int
    depth: int
    branches: int
    calls: int


def is_python(text: str) -> bool:
    """Returns whether text parses; its `fingerprint` does not parse it again."""
    return _shape(text) is not None


def fingerprint(program: Program) -> str:
    """Hashes the normal form: equal for programs that differ in nothing that runs.

    Of Python files the normal form is the syntax tree without docstrings, `pass`, bare constants
    and, where that is safe, names of local variables; so formatting and comments do not count. Of
    other text, also Python that does not parse, it is the text without white space at line ends.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    parts: list[str] = []
    for path, text in program.files:
        shape = _shape(text) if path.endswith(".py") else None
        parts += [path, _trim(text) if shape is None else shape.digest]
    return _hash(parts)[:16]


def built_in_measures(program: Program, initial: Program) -> dict[str, float]:
    """Measures a program by its source alone.

    Args:
        program: The program to measure.
        initial: The program of the problem folder, for `similarity`.

    Returns:
        `length` (characters of evolvable text) and `similarity` (0 to 1: shared tokens of the
        evolvable text over all tokens); for programs in Python that parse also `nodes` and
        `depth` of the syntax tree, `branches` (places where control may go two ways) and
        `calls`.

    Raises:
        ProblemError: The markers of a file are unbalanced.
    """
    texts = tuple(evolvable_text(file.text) for file in program.files)
    measures = {
        "length": float(sum(map(len, texts))),
        "similarity": _similarity(texts, tuple(evolvable_text(f.text) for f in initial.files)),
    }
    shapes = [_shape(text) for path, text in program.files if path.endswith(".py")]
    known = [shape for shape in shapes if shape is not None]
    if known and len(known) == len(shapes):
        measures["nodes"] = float(sum(shape.nodes for shape in known))
        measures["depth"] = float(max(shape.depth for shape in known))
        measures["branches"] = float(sum(shape.branches for shape in known))
        measures["calls"] = float(sum(shape.calls for shape in known))
    return measures


def _trim(text: str) -> str:
    lines = (line.rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def _hash(parts: list[str]) -> str:
    # Tree parts have no NUL inside: identifiers cannot, and `repr` escapes it.
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=512)
def _shape(text: str) -> _Shape | None:
    tree = parse_python(text)
    if tree is None:
        return None
    names = number_locals(tree)
    parts: list[str] = []
    kinds: Counter[type[ast.AST]] = Counter()
    depth = 0
    # A stack of its own, since programs may nest deeper than Python may recurse.
    stack: list[tuple[ast.AST, int]] = [(tree, 1)]
    while stack:
        node, level = stack.pop()
        kinds[type(node)] += 1
        depth = max(depth, level)
        stack += [(child, level + 1) for child in _describe(node, parts, names)]
    branches = sum(kinds[kind] for kind in _BRANCHES)
    return _Shape(_hash(parts), kinds.total(), depth, branches, kinds[ast.Call])


def _describe(node: ast.AST, parts: list[str], names: Mapping[int, str]) -> list[ast.AST]:
    """Appends a node's own content to the parts and returns its children, last one first.

    Each field adds one part, a list one more for each item: only equal trees have equal parts.
    """
    if id(node) in names:
        parts += ["Name", names[id(node)]]
        return []
    parts.append(type(node).__name__)
    children: list[ast.AST] = []
    for name in node._fields:
        if name in _SKIPPED_FIELDS:
            continue
        value = getattr(node, name, None)
        items = [item for item in value if not _is_idle(item)] if isinstance(value, list) else None
        if items is not None:
            parts.append(f"[{len(items)}")
        for item in (value,) if items is None else items:
            if isinstance(item, ast.AST):
                parts.append("(")
                children.append(item)
            else:
                parts.append(repr(item))
    children.reverse()
    return children


def _is_idle(item: object) -> bool:
    """Returns whether a statement does nothing: docstrings, `pass`, `...`."""
    return isinstance(item, ast.Pass) or (
        isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
    )


@lru_cache(maxsize=512)
def _count_tokens(text: str) -> Counter[str]:
    return Counter(TOKEN.findall(text))


def _similarity(texts: tuple[str, ...], others: tuple[str, ...]) -> float:
    ours, theirs = _count_tokens("\n".join(texts)), _count_tokens("\n".join(others))
    total = ours.total() + theirs.total()
    if total == 0:
        return 1.0
    shared = sum(min(count, theirs[token]) for token, count in ours.items() if token in theirs)
    return 2.0 * shared / total


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
