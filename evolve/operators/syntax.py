"""A parsed file with the places in its evolvable blocks that operators may change."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from evolve.errors import ProblemError
from evolve.operators.places import NAMED_WEIGHT, Line, Number, Place, Syntax, make_syntax
from evolve.source import find_blocks, parse_python

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE_END = re.compile(r"\r\n|\r|\n")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@lru_cache(maxsize=128)
def read_syntax(text: str) -> Syntax | None:
    """Reads a Python file; returns None when it does not parse or its markers are unbalanced."""
    tree = parse_python(text)
    if tree is None:
        return None
    try:
        blocks = find_blocks(text)
    except ProblemError:
        return None
    reader = _Reader(text, tuple((block.start, block.end) for block in blocks))
    reader.read(tree)
    numbers = tuple(sorted(reader.numbers, key=lambda number: number.start))
    return make_syntax(text, numbers, tuple(reader.places), tuple(reader.lines))


class _Reader:
    """Walks a tree once and collects its places."""

    def __init__(self, text: str, blocks: tuple[tuple[int, int], ...]) -> None:
        self.places: list[Place] = []
        self.numbers: list[Number] = []
        self.lines: list[Line] = []
        self._text = text
        self._blocks = blocks
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(text)), len(text)]
        self._bodies = 0

    def read(self, tree: ast.Module) -> None:
        """Collects all places, without recursion: programs may nest deeply."""
        stack: list[tuple[ast.AST, ast.AST, str, tuple[str, ...]]] = [(tree, tree, "", ())]
        while stack:
            node, parent, function, loops = stack.pop()
            if isinstance(node, ast.expr):
                if not self._take_expression(node, parent, function, loops):
                    continue
                inner = loops
            else:
                self._take_bodies(node, function)
                if isinstance(node, _FUNCTIONS):
                    function, loops = node.name, ()
                inner = loops + _loop_names(node)
            children = [
                (child, node, function, loops if _is_outside_loop(node, child) else inner)
                for child in _children(node)
            ]
            stack += reversed(children)

    def _take_expression(
        self, node: ast.expr, parent: ast.AST, function: str, loops: tuple[str, ...]
    ) -> bool:
        """Returns whether to look inside."""
        if isinstance(node, ast.JoinedStr | ast.Slice | ast.Starred):
            return not isinstance(node, ast.JoinedStr)
        if not isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
            start, end = self._span(node)
            if not self._is_evolvable(start, end):
                return True
            self.places.append(Place(node, parent, start, end, function, loops))
            value = _signed_value(node)
            if value is not None:
                guarded = isinstance(parent, ast.BinOp | ast.UnaryOp | ast.Attribute)
                weight = NAMED_WEIGHT if _is_named(parent) else 1.0
                if guarded and self._has_own_parentheses(start, end):
                    # They go with it, so that its sign leaves the skeleton alone.
                    start, end = start - 1, end + 1
                self.numbers.append(Number(start, end, value, weight, guarded))
                return False
        return not isinstance(node, ast.Name | ast.Constant)

    def _has_own_parentheses(self, start: int, end: int) -> bool:
        before, behind = self._text[max(start - 2, 0) : start], self._text[end : end + 1]
        return before[-1:] + behind == "()" and not before[:1].isalnum()

    def _take_bodies(self, node: ast.AST, function: str) -> None:
        inner = node.name if isinstance(node, _FUNCTIONS) else function
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if not isinstance(body, list):
                continue
            self._bodies += 1
            for index, statement in enumerate(body):
                line = self._read_line(statement, inner, len(body), index)
                if line is not None:
                    self.lines.append(line)

    def _read_line(self, node: ast.stmt, function: str, siblings: int, index: int) -> Line | None:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        start, end = self._starts[first - 1], self._starts[node.end_lineno or node.lineno]
        code_start, code_end = self._span(node)
        if first == node.lineno and self._text[start:code_start].strip():
            return None
        behind = self._text[code_end:end].strip()
        if (behind and not behind.startswith("#")) or not self._is_evolvable(start, end):
            return None
        line = self._text[start:end]
        indent = line[: len(line) - len(line.lstrip())]
        return Line(node, start, end, indent, function, siblings, self._bodies, index)

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        return (
            self._offset(node.lineno, node.col_offset),
            self._offset(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset),
        )

    def _offset(self, line: int, column: int) -> int:
        """Turns a line and a column in bytes of UTF-8 into an offset in characters."""
        start = self._starts[line - 1]
        text = self._text[start : start + column]
        if text.isascii():
            return start + column
        return start + len(text.encode()[:column].decode(errors="ignore"))

    def _is_evolvable(self, start: int, end: int) -> bool:
        return any(low <= start and end <= high for low, high in self._blocks)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Returns what may change inside a node: no annotations, decorators, patterns or docstrings."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "pattern", "ctx", "op", "ops"}:
            continue
        for item in value if isinstance(value, list) else [value]:
            is_text = isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
            if isinstance(item, ast.AST) and not is_text:
                yield item


def _loop_names(node: ast.AST) -> tuple[str, ...]:
    """Returns the names that count or run in a loop: of `for i, (x, y) in ...` only `i`."""
    if not isinstance(node, ast.For):
        return ()
    target = node.target.elts[0] if isinstance(node.target, ast.Tuple) else node.target
    return (target.id,) if isinstance(target, ast.Name) else ()


def _is_outside_loop(node: ast.AST, child: ast.AST) -> bool:
    return isinstance(node, ast.For) and child in {node.iter, node.target}


def _signed_value(node: ast.expr) -> int | float | None:
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node, sign = node.operand, -1
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return sign * value
    return None


def _is_named(parent: ast.AST) -> bool:
    return isinstance(
        parent, ast.Assign | ast.AnnAssign | ast.Tuple | ast.List | ast.arguments | ast.keyword
    )
