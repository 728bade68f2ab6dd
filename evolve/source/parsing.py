"""Files of programs as text: Python's syntax trees and names, data, evolvable blocks.

Python is parsed from several threads and without output.
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
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import groupby, zip_longest
from pathlib import PurePosixPath

from evolve.errors import ProblemError

FILE_NAME = "<program>"
# Before Python 3.11.8, threads that parse at the same time may meet a SystemError (CPython issue
# 106905).
_turn = threading.Lock()
# Not Python, with NUL in it, or nested too deeply.
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
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
    except _UNREADABLE:
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
        with _turn:
            scopes = [symtable.symtable(text, FILE_NAME, "exec")]
    except _UNREADABLE:
        return None
    defined, used = set(_GIVEN), dict[str, int]()
    for scope in scopes:
        scopes += scope.get_children()
        for symbol in scope.get_symbols():
            if symbol.is_global() or scope is scopes[0]:
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
    is_declared = symbol.is_imported() or symbol.is_namespace() or symbol.is_parameter()
    return is_declared or symbol.is_assigned()


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


# A comment of its own, with or without a note behind it; or the end of a line of code. Words before
# it, or both markers in one line, are prose.
_IN_A_COMMENT = r"[^\w\n\"'`]*|(?:REM|C|dnl)[ \t]+"
_AFTER_CODE = r".*[ \t](?:#+|//+|/\*+|--|;+|%+|!+|<!--)[ \t]*(?=EVOLVE-BLOCK-\w+[^\w\n\"'`]*$)"
MARKER = re.compile(
    rf"^(?=.*EVOLVE-BLOCK-)(?:{_IN_A_COMMENT}|{_AFTER_CODE})EVOLVE-BLOCK-(START|END)\b"
    r"(?!.*EVOLVE-BLOCK-).*$\n?",
    re.MULTILINE,
)
# Nothing but the end of the comment follows.
_BARE = re.compile(r"EVOLVE-BLOCK-(?:START|END)[^\w]*$")
_QUOTES = ('"""', "'''")
# How alike letters must be to those of a marker to be one that is misspelt.
_ALIKE, _FEWEST = 0.8, 10
_SPELLINGS = ("EVOLVEBLOCKSTART", "EVOLVEBLOCKEND", "EVOLVEBLOCKBEGIN", "EVOLVEBLOCKSTOP")
# Lines around a block; the most of one definition, and of all that is shown beyond the blocks.
_AROUND, _LONGEST, _MOST = 12, 40, 160
# In so many lines at most stands a name that is looked up in a language that is not parsed.
_RARE = 8
_NAME = re.compile(r"[^\W\d]\w{2,}")


@dataclass(frozen=True, slots=True)
class EvolveBlock:
    """A stretch of text that may change: character offsets, `end` excluded."""

    start: int
    end: int

    def holds(self, start: int, end: int) -> bool:
        """Returns whether a stretch of the text lies inside."""
        return self.start <= start and end <= self.end


@lru_cache(maxsize=256)
def find_blocks(text: str) -> tuple[EvolveBlock, ...]:
    """Finds the evolvable blocks of a file, in order.

    A block lies between a line with `EVOLVE-BLOCK-START` and the next line with
    `EVOLVE-BLOCK-END`, in any language's comment syntax; the marker lines stay outside. Sentences
    and docstrings that speak of the markers are not taken for them.

    Returns:
        The blocks, possibly empty ones; without any marker one block with the whole text.

    Raises:
        ProblemError: A marker has no partner, or blocks are nested; the line is named.
    """
    found = list(MARKER.finditer(text))
    outside = _leave_out_strings(text, found)
    if outside:
        found = outside
    if not _are_paired(found):
        # Comments that speak of the markers, next to the markers themselves.
        bare = [marker for marker in found if _BARE.search(marker[0].rstrip())]
        found = bare if bare and _are_paired(bare) else found
    return _pair(text, found)


def _pair(text: str, markers: list[re.Match[str]]) -> tuple[EvolveBlock, ...]:
    blocks = []
    for opened, closed in zip_longest(markers[::2], markers[1::2]):
        line = _line_number(text, opened.start())
        if opened[1] == "END":
            raise ProblemError(
                f"line {line}: expected `EVOLVE-BLOCK-START` before this `EVOLVE-BLOCK-END`; "
                "add it, or remove this line"
            )
        if closed is None:
            raise ProblemError(
                f"line {line}: expected `EVOLVE-BLOCK-END` after this `EVOLVE-BLOCK-START`, got "
                "the end of the file; add it"
            )
        if closed[1] == "START":
            raise ProblemError(
                f"line {_line_number(text, closed.start())}: expected `EVOLVE-BLOCK-END` for the "
                f"block that starts in line {line}, got another `EVOLVE-BLOCK-START`; blocks "
                "cannot be nested"
            )
        blocks.append(EvolveBlock(opened.end(), closed.start()))
    return tuple(blocks) or (EvolveBlock(0, len(text)),)


def _are_paired(markers: list[re.Match[str]]) -> bool:
    kinds = [marker[1] for marker in markers]
    return kinds == ["START", "END"] * (len(kinds) // 2)


def _leave_out_strings(text: str, markers: list[re.Match[str]]) -> list[re.Match[str]]:
    """Returns the markers outside of Python's string literals; none where it is not Python."""
    if len(markers) < 2 or not any(quotes in text for quotes in _QUOTES):
        return []
    tree = parse_python(text)
    if tree is None:
        return []
    inside = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant | ast.JoinedStr)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if node.end_lineno != node.lineno
    }
    return [one for one in markers if _line_number(text, one.start()) not in inside]


def find_oddities(text: str) -> list[str]:
    """Returns what is probably not meant about the blocks of a file: a line for each.

    Raises:
        ProblemError: As for `find_blocks`.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        letters = re.sub(r"[\W_\d]", "", line).upper()
        likeness = (SequenceMatcher(None, letters, name).ratio() for name in _SPELLINGS)
        is_short = _FEWEST <= len(letters) <= 2 * _FEWEST
        if is_short and not MARKER.search(line) and max(likeness) > _ALIKE:
            found.append(
                f"line {number}: `{line.strip()}` is no marker; `EVOLVE-BLOCK-START` and "
                "`EVOLVE-BLOCK-END` are"
            )
    blocks = find_blocks(text)
    is_bounded = blocks[0] != EvolveBlock(0, len(text))
    if found and not is_bounded:
        found.append("all of the file may change, since no marker bounds what may")
    for block in blocks:
        lines = text[block.start : block.end].splitlines()
        if is_bounded and not any(map(_holds_code, lines)):
            number = _line_number(text, block.start) - 1
            found.append(f"line {number}: the block is empty: only a model can put something there")
    return found


def _holds_code(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith(("#", "//", "/*", "--", ";", "%"))


def evolvable_text(text: str) -> str:
    """Joins the text of all evolvable blocks of a file.

    Raises:
        ProblemError: As for `find_blocks`.
    """
    return "".join(text[block.start : block.end] for block in find_blocks(text))


def frozen_parts(text: str) -> list[str]:
    """Returns what stands outside the evolvable blocks of a file, one part more than blocks.

    Raises:
        ProblemError: As for `find_blocks`.
    """
    blocks = find_blocks(text)
    ends = [0, *(block.end for block in blocks)]
    starts = [*(block.start for block in blocks), len(text)]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]


def _line_number(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


@lru_cache(maxsize=64)
def cut_frozen(text: str) -> str:
    """Returns a file with most of its frozen text left out.

    What is left are the blocks, the lines around them, imports, and what defines names that the
    blocks use. A line in brackets says how many lines are missing.
    """
    lines = text.split("\n")
    spans = [
        (text.count("\n", 0, block.start), text.count("\n", 0, block.end))
        for block in find_blocks(text)
    ]
    # A last line that is empty is the end of the one before.
    end = {len(lines) - 1} if not lines[-1] else set()
    kept = end | {line for first, last in spans for line in range(first - 1, last + 1)}
    names = {name for line in kept if 0 <= line < len(lines) for name in _NAME.findall(lines[line])}
    around = {
        line
        for first, last in spans
        for line in (*range(first - _AROUND, first), *range(last, last + _AROUND))
    }
    for line in sorted(around) + list(_find_used(text, lines, names)):
        if len(kept) < sum(last - first + 2 for first, last in spans) + _MOST:
            kept.add(line)
    return "\n".join(_join(lines, kept))


def _find_used(text: str, lines: list[str], names: set[str]) -> Iterator[int]:
    """Yields the lines, from 0, of imports and of what defines one of some names."""
    tree = parse_python(text)
    if tree is None:
        found: defaultdict[str, list[int]] = defaultdict(list)
        for number, line in enumerate(lines):
            for name in names & {*_NAME.findall(line)} if line[:1].strip() else ():
                found[name].append(number)
        # Words of the language are everywhere.
        yield from (line for where in found.values() if len(where) <= _RARE for line in where)
        return
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) or names & bound_names([node]):
            last = node.end_lineno or node.lineno
            yield from range(node.lineno - 1, min(last, node.lineno - 1 + _LONGEST))


def _join(lines: list[str], kept: set[int]) -> Iterator[str]:
    for is_kept, numbers in groupby(range(len(lines)), kept.__contains__):
        if is_kept:
            yield from (lines[number] for number in numbers)
        else:
            yield f"[{len(list(numbers))} lines that may not change are left out]"
