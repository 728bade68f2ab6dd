"""Files as operators see them: the places in their evolvable blocks that may change.

Python is parsed; in other languages numbers and operators are found by their look alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeGuard, TypeVar

from evolve.errors import ProblemError
from evolve.records import Program
from evolve.source.parsing import EvolveBlock, find_blocks, is_text, parse_python

if TYPE_CHECKING:
    from numpy.random import Generator

T = TypeVar("T")
Edit = tuple[int, int, str]

# Constants that someone named or put into a table are meant to be tuned, more than the 1 in
# `1 - x`: they are drawn that much more often.
NAMED_WEIGHT = 4.0
LARGEST = 1e12
"""The most that a constant is changed to."""
_LINE_END = re.compile(r"\r\n|\r|\n")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NAMING = (ast.Assign, ast.AnnAssign, ast.Tuple, ast.List, ast.arguments, ast.keyword)
_NO_VALUES = (ast.Slice, ast.Starred)
# No annotations, decorators or patterns.
_FIXED_FIELDS = {"annotation", "returns", "decorator_list", "pattern", "ctx", "op", "ops"}

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


class Place(NamedTuple):
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


class Number(NamedTuple):
    """A numeric constant, its sign included.

    Attributes:
        start: Offset of its first character.
        end: Offset behind its last character.
        value: What it stands for; whole numbers are `int`.
        weight: How readily it is chosen, above 1 where someone named it or put it into a table.
        is_guarded: Whether a minus sign in its place needs parentheses.
    """

    start: int
    end: int
    value: int | float
    weight: float = 1.0
    is_guarded: bool = False

    def write(self, value: float) -> Edit:
        """Returns the edit that puts another value in its place."""
        text = format_number(value)
        is_torn = self.is_guarded and text.startswith("-")
        return self.start, self.end, f"({text})" if is_torn else text


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
        blocks: Its evolvable blocks.
        numbers: Numeric constants in the order of the text.
        places: Expressions that are read, outermost first; of Python alone.
        symbols: Operators of a file in another language than Python.
    """

    text: str
    blocks: tuple[EvolveBlock, ...]
    numbers: Sequence[Number]
    places: Sequence[Place] = ()
    symbols: Sequence[Symbol] = ()

    @property
    def skeleton(self) -> str:
        """Returns the text without its numbers; equal for files that differ in numbers only."""
        kinds = [(one.start, one.end, f"\0{type(one.value).__name__}") for one in self.numbers]
        return edit_text(self.text, kinds)


def edit_text(text: str, edits: Iterable[Edit]) -> str:
    """Returns a text with some stretches replaced; they must not overlap."""
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def format_number(value: float) -> str:
    """Writes a number as source: whole numbers in full, others with ten digits."""
    if isinstance(value, int):
        return str(value)
    text = repr(float(f"{min(max(value, -LARGEST), LARGEST):.10g}"))
    # YAML takes `1e-05` for a text.
    return text if "." in text else text.replace("e", ".0e")


def pick(items: Sequence[T], rng: Generator) -> T:
    """Draws one of some items, all alike."""
    return items[int(rng.integers(len(items)))]


@lru_cache(maxsize=128)
def read_syntax(path: str, text: str) -> Syntax | None:
    """Reads a file; returns None when its markers are unbalanced, or its Python does not parse.

    Of other languages, strings and comments are skipped, and no expression or statement is known:
    operators that change those find no place. In text and data there are numbers alone.

    Args:
        path: Its name, which tells the language.
        text: The file.
    """
    try:
        blocks = find_blocks(text)
    except ProblemError:
        return None
    if not path.endswith(".py"):
        return _read_tokens(path, text, blocks)
    tree = parse_python(text)
    return None if tree is None else _Reader(text, blocks).read(tree)


class _Reader:
    """Walks a tree once and collects its places."""

    def __init__(self, text: str, blocks: tuple[EvolveBlock, ...]) -> None:
        self._text, self._blocks = text, blocks
        self._places: list[Place] = []
        self._numbers: list[Number] = []
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(text)), len(text)]

    def read(self, tree: ast.Module) -> Syntax:
        """Returns all places, found without recursion: programs may nest deeply."""
        stack: list[tuple[ast.AST, ast.AST, str, tuple[str, ...]]] = [(tree, tree, "", ())]
        while stack:
            node, parent, function, loops = stack.pop()
            if isinstance(node, ast.JoinedStr):
                continue
            if _is_read(node) and self._take(node, parent, function, loops):
                continue
            if isinstance(node, _FUNCTIONS):
                function, loops = node.name, ()
            inner = loops + _loop_names(node)
            children = [
                (child, node, function, loops if _is_outside_loop(node, child) else inner)
                for child in _children(node)
            ]
            stack += reversed(children)
        return Syntax(self._text, self._blocks, sorted(self._numbers), self._places)

    def _take(self, node: ast.expr, parent: ast.AST, function: str, loops: tuple[str, ...]) -> bool:
        """Collects an expression that may change; returns whether it is a number."""
        start = self._offset(node.lineno, node.col_offset)
        end = self._offset(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)
        if not any(block.holds(start, end) for block in self._blocks):
            return False
        self._places.append(Place(node, parent, start, end, function, loops))
        value = _signed_value(node)
        if value is None:
            return False
        is_guarded = isinstance(parent, ast.BinOp | ast.UnaryOp | ast.Attribute)
        if is_guarded and self._has_own_parentheses(start, end):
            # They go with it, so that its sign leaves the skeleton alone.
            start, end = start - 1, end + 1
        weight = NAMED_WEIGHT if isinstance(parent, _NAMING) else 1.0
        self._numbers.append(Number(start, end, value, weight, is_guarded))
        return True

    def _has_own_parentheses(self, start: int, end: int) -> bool:
        before, behind = self._text[max(start - 2, 0) : start], self._text[end : end + 1]
        return before[-1:] + behind == "()" and not before[:1].isalnum()

    def _offset(self, line: int, column: int) -> int:
        """Turns a line and a column in bytes of UTF-8 into an offset in characters."""
        start = self._starts[line - 1]
        text = self._text[start : start + column]
        if text.isascii():
            return start + column
        return start + len(text.encode()[:column].decode(errors="ignore"))


def _is_read(node: ast.AST) -> TypeGuard[ast.expr]:
    """Returns whether a node is an expression that stands for a value."""
    is_target = isinstance(getattr(node, "ctx", None), ast.Store | ast.Del)
    return isinstance(node, ast.expr) and not is_target and not isinstance(node, _NO_VALUES)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Returns what may change inside a node; no docstrings."""
    for name, value in ast.iter_fields(node):
        for item in value if isinstance(value, list) else [value]:
            is_remark = isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)
            if isinstance(item, ast.AST) and name not in _FIXED_FIELDS and not is_remark:
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


def _read_tokens(path: str, text: str, blocks: tuple[EvolveBlock, ...]) -> Syntax:
    numbers: list[Number] = []
    symbols: list[Symbol] = []
    has_code = not is_text(path)
    for token in _pattern(path.rpartition(".")[2].lower(), has_code=has_code).finditer(text):
        start, end = token.span()
        if not any(block.holds(start, end) for block in blocks):
            continue
        if token["number"] is not None:
            numbers.append(_read_number(text, start, end, is_guarded=has_code))
        elif token["symbol"] is not None:
            group = next(group for group in _GROUPS if token["symbol"] in group)
            symbols.append(Symbol(start, end, group))
    return Syntax(text, blocks, numbers, symbols=symbols)


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


def can_change(program: Program) -> bool:
    """Returns whether any operator may find a place in a program."""
    known = filter(None, (read_syntax(*file) for file in program.files))
    return any(one.numbers or one.symbols or one.places for one in known)
