"""What follows from source alone: fingerprint, measures, MinHash signature, suspicious signs.

Suspicious is what answers the test and not the question. People look at it, for each sign has an
innocent form: a base case, a cache, a table of constants.
"""

from __future__ import annotations

import ast
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from evolve.records import Program
from evolve.source.parsing import evolvable_text, parse_python

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# `seconds` is taken while a program runs; all others follow from its source.
BUILT_IN_MEASURES = ("length", "nodes", "depth", "branches", "calls", "similarity", "seconds")

_TOKEN = re.compile(r"\w+|[^\w\s]")
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
# A signature has the smallest hashes of runs of so many tokens, one by each of so many functions.
_SHINGLE, _HASHES = 3, 64


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

    Of Python files the normal form is the syntax tree without docstrings, `pass` and bare
    constants; so formatting and comments do not count. Of other text, also Python that does not
    parse, it is the text without white space at line ends.

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
    parts: list[str] = []
    kinds: Counter[type[ast.AST]] = Counter()
    depth = 0
    # A stack of its own, since programs may nest deeper than Python may recurse.
    stack: list[tuple[ast.AST, int]] = [(tree, 1)]
    while stack:
        node, level = stack.pop()
        kinds[type(node)] += 1
        depth = max(depth, level)
        stack += [(child, level + 1) for child in _describe(node, parts)]
    branches = sum(kinds[kind] for kind in _BRANCHES)
    return _Shape(_hash(parts), kinds.total(), depth, branches, kinds[ast.Call])


def _describe(node: ast.AST, parts: list[str]) -> list[ast.AST]:
    """Appends a node's own content to the parts and returns its children, last one first.

    Each field adds one part, a list one more for each item: only equal trees have equal parts.
    """
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
    return Counter(_TOKEN.findall(text))


def _similarity(texts: tuple[str, ...], others: tuple[str, ...]) -> float:
    ours, theirs = _count_tokens("\n".join(texts)), _count_tokens("\n".join(others))
    total = ours.total() + theirs.total()
    if total == 0:
        return 1.0
    return 2.0 * (ours & theirs).total() / total


def sign_source(program: Program) -> NDArray[np.uint32]:
    """Returns the smallest hashes of the runs of three tokens in a program's evolvable text.

    Broder 1997, On the resemblance and containment of documents.

    Returns:
        Shape `(64,)`.
    """
    # Slow to import: a run begins without it.
    import numpy as np

    tokens: list[str] = []
    for file in program.files:
        tokens += _TOKEN.findall(evolvable_text(file.text))
    count = max(len(tokens) - _SHINGLE + 1, 1)
    shingles = {" ".join(tokens[start : start + _SHINGLE]) for start in range(count)}
    hashes = np.fromiter((zlib.crc32(text.encode()) for text in shingles), np.uint32)
    multipliers, offsets = _hash_functions()
    mixed = hashes[:, None] * multipliers + offsets
    smallest: NDArray[np.uint32] = (mixed ^ (mixed >> np.uint32(15))).min(axis=0)
    return smallest


def share_in_common(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Estimates the share of runs of tokens that two programs have in common, from 0 to 1."""
    return int((one == other).sum()) / _HASHES


@cache
def _hash_functions() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Returns odd multipliers and offsets modulo 2^32; any would do."""
    import numpy as np

    numbers = np.arange(1, _HASHES + 1, dtype=np.uint32)
    return numbers * np.uint32(2_654_435_769) | np.uint32(1), numbers * np.uint32(40_503)


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
        match node:
            case ast.Compare() if _is_special(node, names):
                yield SPECIAL_CASE, node
            case ast.Match(subject, cases) if _mentions(subject, names):
                if any(isinstance(case.pattern, ast.MatchValue) for case in cases):
                    yield SPECIAL_CASE, node
            case ast.Subscript(table, key, ast.Load()) | ast.Call(
                ast.Attribute(table, "get"), [key, *_]
            ):
                named = collections.get(table.id) if isinstance(table, ast.Name) else table
                if isinstance(named, ast.Dict) and _mentions(key, names):
                    yield SPECIAL_CASE, node
        if isinstance(node, ast.stmt | ast.expr) and _changes_shared(node, shared):
            yield STATE, node


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
    match node:
        case ast.Global():
            return True
        case ast.Call(ast.Attribute(ast.Name(owner), method)):
            return owner in shared and method in _CHANGING
        case ast.Call(ast.Name("next"), [iterator, *_]):
            return _mentions(iterator, shared)
        case ast.Assign(targets):
            changed = targets
        case ast.AugAssign(target):
            changed = [target]
        case _:
            return False
    kept = (one.value for one in changed if isinstance(one, ast.Subscript | ast.Attribute))
    return any(isinstance(one, ast.Name) and one.id in shared for one in kept)


def _count_numbers(node: ast.expr) -> int:
    return sum(
        isinstance(one, ast.Constant) and isinstance(one.value, int | float)
        for one in ast.walk(node)
    )
