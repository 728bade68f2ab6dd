"""The numeric constants of a program that a numeric optimiser may change."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evolve.errors import ProblemError
from evolve.operators.constants import format_number
from evolve.operators.syntax import read_syntax
from evolve.operators.tokens import read_tokens
from evolve.records import Program, SourceFile
from evolve.source import holds_values
from evolve.source.blocks import find_blocks

MAX_CONSTANTS = 64

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_OPENER = re.compile(r"(?:#|//|/\*|--|;|%|!|\(\*|<!--)\s*tune:\s*(.*)")
_RANGE = re.compile(rf"({_NUMBER})\s*\.\.\s*({_NUMBER})(\s+log\b)?")
_LITERAL = re.compile(rf"(?<![\w.]){_NUMBER}(?![\w.])")
# In expressions these are mostly part of a formula, not a choice.
_FORMULA = frozenset({0.0, 0.5, 1.0, 2.0, 3.0, 4.0, -1.0, 10.0, 100.0})
# Without a range, a constant moves on the scale of its own size, but not of less than this.
_LEAST_SCALE = 0.1


class TunableRange(NamedTuple):
    """Where a marked constant may move: both ends included."""

    low: float
    high: float
    is_log: bool


@dataclass(frozen=True, slots=True)
class Tunable:
    """A constant that may be tuned.

    Attributes:
        file: Place of its file in the program.
        start: Offset of its first character.
        end: Offset behind its last character.
        value: What it stands for.
        is_whole: Whether it stays a whole number.
        is_guarded: Whether a minus sign in its place needs parentheses.
        range: The range that its line is marked with, None without a mark.
    """

    file: int
    start: int
    end: int
    value: float
    is_whole: bool = False
    is_guarded: bool = False
    range: TunableRange | None = None

    @property
    def position(self) -> float:
        """Returns the coordinate of its value: from 0 to 1 in a range, 0 without one."""
        if self.range is None:
            return 0.0
        low, high, is_log = self.range
        value = min(max(self.value, low), high)
        if is_log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def value_at(self, position: float) -> float:
        """Returns the value of a coordinate, the inverse of `position`."""
        if self.range is None:
            value = self.value + position * max(abs(self.value), _LEAST_SCALE)
        else:
            low, high, is_log = self.range
            share = min(max(position, 0.0), 1.0)
            value = low * (high / low) ** share if is_log else low + (high - low) * share
            value = min(max(value, low), high)
        return round(value) if self.is_whole else value


def find_tunables(program: Program, limit: int) -> tuple[Tunable, ...]:
    """Finds the constants to tune, in the order of the text.

    In files of any language these are constants whose line, or the line above it, has a comment
    such as `tune: 0.1 .. 10 log`; several ranges, parted by commas, belong to the first constants
    of the line in order. Where no line is marked, these are all numbers of JSON, TOML and YAML
    files, and the constants of Python files that are no whole numbers, but for the likes of 0.5
    and 2.0 inside of expressions.

    Args:
        program: Only its evolvable blocks are looked at.
        limit: Most constants.
    """
    marked = [
        tunable for index in range(len(program.files)) for tunable in _read_marks(program, index)
    ]
    if marked:
        return tuple(marked[:limit])
    found = [
        tunable for index in range(len(program.files)) for tunable in _read_numbers(program, index)
    ]
    return tuple(found[:limit])


def set_tunables(
    program: Program, tunables: Sequence[Tunable], positions: Sequence[float]
) -> Program:
    """Returns the program with its constants at other coordinates."""
    texts = [file.text for file in program.files]
    pairs = sorted(zip(tunables, positions, strict=True), key=lambda pair: -pair[0].start)
    for tunable, position in pairs:
        value = tunable.value_at(float(position))
        new = format_number(value)
        if tunable.is_guarded and new.startswith("-"):
            new = f"({new})"
        text = texts[tunable.file]
        texts[tunable.file] = text[: tunable.start] + new + text[tunable.end :]
    return Program(
        tuple(SourceFile(file.path, text) for file, text in zip(program.files, texts, strict=True))
    )


def hash_skeleton(program: Program, tunables: Sequence[Tunable]) -> str:
    """Returns 16 hexadecimal digits, equal for programs that differ in tuned constants only."""
    texts = [list(file.text) for file in program.files]
    for tunable in sorted(tunables, key=lambda tunable: -tunable.start):
        texts[tunable.file][tunable.start : tunable.end] = ["\0"]
    text = "\0\0".join("".join(characters) for characters in texts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _read_marks(program: Program, index: int) -> Iterator[Tunable]:
    text = program.files[index].text
    try:
        blocks = find_blocks(text)
    except ProblemError:
        return
    pending: list[TunableRange] = []
    offset = 0
    for line in text.splitlines(keepends=True):
        mark = _OPENER.search(line)
        code = line if mark is None else line[: mark.start()]
        ranges, pending = pending, []
        if mark is not None:
            ranges = list(_read_ranges(mark[1]))
            if not code.strip():
                ranges, pending = [], ranges
        for literal, found in zip(_LITERAL.finditer(code), ranges, strict=False):
            start, end = offset + literal.start(), offset + literal.end()
            if any(block.start <= start and end <= block.end for block in blocks):
                yield _make_marked(index, start, literal[0], found)
        offset += len(line)


def _make_marked(index: int, start: int, literal: str, found: TunableRange) -> Tunable:
    # A sign may be an operator: it stays where it is, and the range is that of what follows.
    if literal[0] in "+-" and found.low >= 0.0:
        start, literal = start + 1, literal[1:]
    is_whole = literal.lstrip("+-").isdecimal()
    return Tunable(index, start, start + len(literal), float(literal), is_whole, range=found)


def _read_ranges(text: str) -> Iterator[TunableRange]:
    for match in _RANGE.finditer(text):
        low, high, is_log = float(match[1]), float(match[2]), bool(match[3])
        if low < high and not (is_log and low <= 0.0):
            yield TunableRange(low, high, is_log)


def _read_numbers(program: Program, index: int) -> Iterator[Tunable]:
    path, text = program.files[index]
    if holds_values(path):
        tokens = read_tokens(text, path)
        for number in () if tokens is None else tokens.numbers:
            whole = isinstance(number.value, int)
            yield Tunable(index, number.start, number.end, float(number.value), is_whole=whole)
    syntax = read_syntax(text) if path.endswith(".py") else None
    for number in () if syntax is None else syntax.numbers:
        is_formula = not number.is_named and number.value in _FORMULA
        if isinstance(number.value, float) and math.isfinite(number.value) and not is_formula:
            yield Tunable(index, number.start, number.end, number.value, is_guarded=number.guarded)
