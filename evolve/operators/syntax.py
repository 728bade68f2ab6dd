"""Files as operators see them: the places in their evolvable blocks that may change.

Python is parsed; in other languages numbers and operators are found by their look alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from evolve.errors import ProblemError
from evolve.source import find_blocks, is_text, parse_python

Edit = tuple[int, int, str]

# Constants that someone named or put into a table are meant to be tuned, more than the 1 in
# `1 - x`: they are drawn that much more often.
NAMED_WEIGHT = 4.0
_LINE_END = re.compile(r"\r\n|\r|\n")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

_C = (r"//[^\n]*", r"/\*.*?(?:\*/|\Z)")
_HASH = (r"#[^\n]*",)
# What is a comment, by the end of the file's name.
_COMMENTS = {
    **dict.fromkeys(("sh", "bash", "rb", "pl", "r", "jl", "nim", "ex", "exs", "awk", "tcl"), _HASH),
    **dict.fromkeys(("toml", "yaml", "yml", "cfg", "ini", "conf", "mk", "cmake"), _HASH),
    **dict.fromkeys(("lua", "sql", "hs", "elm", "ada", "adb", "vhd"), (r"--[^\n]*",)),
    **dict.fromkeys(("lisp", "scm", "clj", "el", "asm", "s"), (r";[^\n]*",)),
    **dict.fromkeys(("m", "erl", "tex", "pro"), (r"%[^\n]*",)),
    **dict.fromkeys(("f", "f90", "f95", "f03", "f08"), (r"![^\n]*",)),
    **dict.fromkeys(("ml", "mli"), (r"\(\*.*?(?:\*\)|\Z)",)),
    **dict.fromkeys(("txt", "json", "csv", "md", "rst", "prompt", "regex"), ()),
}
_STRING = r'"(?:\\.|[^"\\\n])*"'
# A quote may stand for more than a character: a lifetime in Rust, a mark between digits in C++.
_CHARACTER = r"'(?:\\[^\n]|\\x\w+|\\u\{\w+\}|[^'\\\n])'"
_TEXT = r"'(?:\\.|[^'\\\n])*'"
_DIGITS = r"\d+(?:_\d+)*(?:\.\d+|\.(?![\w.]))?(?:[eE][-+]?\d+)?"
_NUMBER = rf"(?P<number>(?<![\w)\]])\(-{_DIGITS}\)|{_DIGITS}|(?<![\w)\].])\.\d+(?:[eE][-+]?\d+)?)"
# Numbers with another base, with leading zeros or several dots, and what only looks like one.
_OTHER = r"0[xXbBoO]\w+|0\d+(?![\w.])|\d[\d_]*(?:\.\d+){2,}|\d[\d_]*'[\d']+|[A-Za-z_$]\w*"
# In text and data a sign is part of the number; what looks like a date or a time is left alone.
_SIGNED = rf"(?P<number>(?<![\w)\].:-])-?(?:{_DIGITS}|\.\d+(?:[eE][-+]?\d+)?)(?![-:]?\d))"
_SYMBOL = r"(?<=\s)(?P<symbol><=|>=|==|!=|&&|\|\||[-+*/<>])(?=\s)"
_GROUPS = (("+", "-", "*", "/"), ("<", "<=", ">", ">=", "==", "!="), ("&&", "||"))
_NAMED = re.compile(r"(?:(?<![=<>!])=|#define\s+\w+|[{\[,:])\s*$")
_LONGEST_LEAD = 80


@dataclass(frozen=True, slots=True)
class Place:
    """An expression that may be replaced.

    Attributes:
        node: The expression.
        parent: The node that holds it.
        start: Offset of its first character.
        end: Offset behind its last character.
        function: Name of the innermost function around it, empty outside of functions.
        loops: Names of the variables of the loops around it.
    """

    node: ast.expr
    parent: ast.AST
    start: int
    end: int
    function: str
    loops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric constant, its sign included.

    Attributes:
        start: Offset of its first character.
        end: Offset behind its last character.
        value: What it stands for.
        weight: How readily it is chosen.
        guarded: Whether a minus sign in its place needs parentheses.
    """

    start: int
    end: int
    value: int | float
    weight: float
    guarded: bool

    @property
    def is_named(self) -> bool:
        """Returns whether someone gave it a name or put it into a table."""
        return self.weight > 1.0


class Symbol(NamedTuple):
    """An arithmetic, comparison or boolean operator in a language that is not parsed.

    Attributes:
        start: Offset of its first character.
        end: Offset behind its last character.
        group: Those that may stand in its place, itself included.
    """

    start: int
    end: int
    group: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Syntax:
    """What operators know of a file; everything lies in its evolvable blocks.

    Attributes:
        text: The whole file.
        places: Expressions that are read, outermost first.
        numbers: Numeric constants in the order of the text.
        skeleton: The text with its numbers taken out; equal for files that differ in numbers only.
        symbols: Operators of a file in another language than Python.
    """

    text: str
    places: tuple[Place, ...]
    numbers: tuple[Number, ...]
    skeleton: tuple[str, ...]
    symbols: tuple[Symbol, ...] = ()

    def cut(self, place: Place | Number) -> str:
        """Returns the text of a place."""
        return self.text[place.start : place.end]

    def replace(self, edits: Sequence[Edit]) -> str:
        """Returns the text with some stretches replaced; they must not overlap."""
        text = self.text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text


def make_syntax(
    text: str,
    numbers: tuple[Number, ...],
    places: tuple[Place, ...] = (),
    symbols: tuple[Symbol, ...] = (),
) -> Syntax:
    """Makes what operators know of a file out of its places; adds the skeleton."""
    ends = [0, *(end for number in numbers for end in (number.start, number.end)), len(text)]
    skeleton = tuple(text[a:b] for a, b in zip(ends[::2], ends[1::2], strict=True))
    kinds = tuple(type(number.value).__name__ for number in numbers)
    return Syntax(text, places, numbers, skeleton + kinds, symbols)


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
    return make_syntax(text, numbers, tuple(reader.places))


class _Reader:
    """Walks a tree once and collects its places."""

    def __init__(self, text: str, blocks: tuple[tuple[int, int], ...]) -> None:
        self.places: list[Place] = []
        self.numbers: list[Number] = []
        self._text = text
        self._blocks = blocks
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(text)), len(text)]

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

    def _span(self, node: ast.expr) -> tuple[int, int]:
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


@lru_cache(maxsize=128)
def read_tokens(text: str, path: str) -> Syntax | None:
    """Reads a file of any language; returns None when its markers are unbalanced.

    Strings and comments are skipped. No expression or statement is known: operators that
    change those find no place. In text and data there are numbers alone.

    Args:
        text: The file.
        path: Its name, which tells the language.
    """
    try:
        blocks = find_blocks(text)
    except ProblemError:
        return None
    numbers: list[Number] = []
    symbols: list[Symbol] = []
    has_code = not is_text(path)
    for token in _pattern(path.rpartition(".")[2].lower(), has_code=has_code).finditer(text):
        start, end = token.span()
        if not any(block.start <= start and end <= block.end for block in blocks):
            continue
        if token["number"] is not None:
            numbers.append(_read_number(text, start, end, is_guarded=has_code))
        elif token["symbol"] is not None:
            group = next(group for group in _GROUPS if token["symbol"] in group)
            symbols.append(Symbol(start, end, group))
    return make_syntax(text, tuple(numbers), symbols=tuple(symbols))


@lru_cache(maxsize=32)
def _pattern(extension: str, *, has_code: bool) -> re.Pattern[str]:
    comments = _COMMENTS.get(extension, _C)
    quoted = _TEXT if comments == _HASH or extension in {"js", "ts", "lua", "sql"} else _CHARACTER
    found = (_NUMBER, _SYMBOL) if has_code else (_SIGNED, r"(?P<symbol>(?!))")
    return re.compile("|".join((*comments, _STRING, quoted, _OTHER, *found)), re.DOTALL)


def _read_number(text: str, start: int, end: int, *, is_guarded: bool) -> Number:
    digits = text[start:end].strip("()").replace("_", "")
    value: int | float = int(digits) if digits.lstrip("-").isdigit() else float(digits)
    is_named = _NAMED.search(text, max(0, start - _LONGEST_LEAD), start) is not None
    return Number(start, end, value, NAMED_WEIGHT if is_named else 1.0, is_guarded)
