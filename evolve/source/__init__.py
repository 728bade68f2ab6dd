"""Program text: evolvable blocks, normal form and fingerprint, built-in measures."""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from evolve.errors import ProblemError
from evolve.source.naming import number_locals
from evolve.source.parsing import parse_module

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evolve.records import Program

# `seconds` is taken while a program runs; all others follow from its source.
BUILT_IN_MEASURES = (
    "length", "nodes", "depth", "branches", "calls", "similarity", "seconds",
)  # fmt: skip

_MARKER = re.compile(r"^.*EVOLVE-BLOCK-(START|END)\b.*$\n?", re.MULTILINE)
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


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of text that may change: character offsets, `end` excluded."""

    start: int
    end: int


class _Shape(NamedTuple):
    """What one walk over a syntax tree finds."""

    digest: str
    nodes: int
    depth: int
    branches: int
    calls: int


@lru_cache(maxsize=256)
def find_blocks(text: str) -> tuple[Block, ...]:
    """Finds the evolvable blocks of a file, in order.

    A block lies between a line with `EVOLVE-BLOCK-START` and the next line with
    `EVOLVE-BLOCK-END`, in any language's comment syntax; the marker lines stay outside.

    Returns:
        The blocks, possibly empty ones; without any marker one block with the whole text.

    Raises:
        ProblemError: A marker has no partner, or blocks are nested; the line is named.
    """
    blocks: list[Block] = []
    opened: re.Match[str] | None = None
    for marker in _MARKER.finditer(text):
        line = _line_number(text, marker)
        if marker[1] == "START":
            if opened is not None:
                raise ProblemError(
                    f"line {line}: expected `EVOLVE-BLOCK-END` for the block that starts in line "
                    f"{_line_number(text, opened)}, got another `EVOLVE-BLOCK-START`; "
                    "blocks cannot be nested"
                )
            opened = marker
        elif opened is None:
            raise ProblemError(
                f"line {line}: expected `EVOLVE-BLOCK-START` before this `EVOLVE-BLOCK-END`; "
                "add it, or remove this line"
            )
        else:
            blocks.append(Block(opened.end(), marker.start()))
            opened = None
    if opened is not None:
        raise ProblemError(
            f"line {_line_number(text, opened)}: expected `EVOLVE-BLOCK-END` after this "
            "`EVOLVE-BLOCK-START`, got the end of the file; add it"
        )
    return tuple(blocks) or (Block(0, len(text)),)


def evolvable_text(text: str) -> str:
    """Joins the text of all evolvable blocks of a file.

    Raises:
        ProblemError: As for `find_blocks`.
    """
    return "".join(text[block.start : block.end] for block in find_blocks(text))


def parse_python(text: str) -> ast.Module | None:
    """Parses Python source without a word on the terminal.

    Returns:
        A tree of the caller's own, or None when the text is no Python.
    """
    try:
        return parse_module(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def is_python(text: str) -> bool:
    """Returns whether text parses; its `fingerprint` does not parse it again."""
    return _shape(text) is not None


def syntax_error(text: str) -> str | None:
    """Says in one line why text is no Python; gives None when it parses."""
    try:
        parse_module(text)
    except SyntaxError as error:
        return f"line {error.lineno or 1}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"line 1: {str(error) or 'nested too deeply'}"
    return None


def list_names(text: str) -> frozenset[str]:
    """Lists the names that Python source binds at its top level; none when it does not parse."""
    tree = parse_python(text)
    names: set[str] = set()
    for statement in [] if tree is None else tree.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            names |= {(item.asname or item.name).partition(".")[0] for item in statement.names}
        else:
            names |= {
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
    return frozenset(names)


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


def _line_number(text: str, marker: re.Match[str]) -> int:
    return text.count("\n", 0, marker.start()) + 1


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
    """Appends a node's own content to the parts and gives its children, last one first.

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
    return Counter(_TOKEN.findall(text))


def _similarity(texts: tuple[str, ...], others: tuple[str, ...]) -> float:
    ours, theirs = _count_tokens("\n".join(texts)), _count_tokens("\n".join(others))
    total = ours.total() + theirs.total()
    if total == 0:
        return 1.0
    shared = sum(min(count, theirs[token]) for token, count in ours.items() if token in theirs)
    return 2.0 * shared / total
