"""Tuning: the constants of a program that may change, and CMA-ES over them.

Hansen 2016, The CMA evolution strategy: a tutorial.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evolve.errors import ProblemError
from evolve.operators.constants import format_number
from evolve.operators.syntax import read_syntax, read_tokens
from evolve.records import Direction, Program, SourceFile
from evolve.source import find_blocks, holds_values

if TYPE_CHECKING:
    # Slow: see `_load_optimiser`.
    from cmaes import CMA

MAX_CONSTANTS = 64

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_OPENER = re.compile(r"(?:#|//|/\*|--|;|%|!|\(\*|<!--)\s*tune:\s*(.*)")
_RANGE = re.compile(rf"({_NUMBER})\s*\.\.\s*({_NUMBER})(\s+log\b)?")
_LITERAL = re.compile(rf"(?<![\w.]){_NUMBER}(?![\w.])")
# In expressions these are mostly part of a formula, not a choice.
_FORMULA = frozenset({0.0, 0.5, 1.0, 2.0, 3.0, 4.0, -1.0, 10.0, 100.0})
# Without a range, a constant moves on the scale of its own size, but not of less than this.
_LEAST_SCALE = 0.1
# Relative to the size of a constant, or to the width of its range.
_FIRST_STEP, _LARGEST_STEP, _STEP_GROWTH = 0.1, 6.4, 4.0
# Where the best is no better than this quantile of a generation, the steps are too small to tell
# anything (Hansen 2016, on flat fitness): the session starts again with larger ones.
_FLAT_SHARE = 0.7
# A session continues while its later half brought at least this share of all it gained.
_LEAST_SHARE = 0.02
_LEAST_SAMPLES = 60
_SAMPLES_PER_CONSTANT = 10


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


class Tuner:
    """One session: programs that differ from its first in constants, ever better ones.

    What it proposes follows from its arguments and the objectives added, in order, alone; only the
    order of objectives matters. Where objectives are equal because steps are too small, it starts
    again from the best program so far, with larger steps.

    Args:
        program: Where to start from; at least one constant can be tuned.
        direction: Whether larger or smaller objectives are better.
        seed: Seed of its random stream.
        known: Objectives of the samples made before, None for programs that have none.
    """

    def __init__(
        self,
        program: Program,
        direction: Direction,
        *,
        seed: Sequence[int],
        known: Sequence[float | None] = (),
    ) -> None:
        self._program = program
        self._sign = direction.sign
        self._tunables = find_tunables(program, MAX_CONSTANTS)
        self._seed = tuple(seed)
        self._step = _FIRST_STEP
        self._best = (np.inf, np.array([tunable.position for tunable in self._tunables]))
        self._cma = self._start(0)
        self._waiting: list[NDArray[np.float64]] = []
        self._losses: list[tuple[NDArray[np.float64], float]] = []
        self.objectives: list[float | None] = []
        for objective in known:
            self.ask(1)
            self.add([objective])

    @property
    def constants(self) -> int:
        """Returns the number of constants."""
        return len(self._tunables)

    def ask(self, most: int) -> list[Program]:
        """Returns programs to evaluate, as many as do not depend on one another's objectives.

        Args:
            most: At least 1.
        """
        if not self._waiting:
            count = self._cma.population_size - len(self._losses)
            self._waiting = [self._cma.ask() for _ in range(count)]
        chosen = self._waiting[:most]
        return [set_tunables(self._program, self._tunables, point.tolist()) for point in chosen]

    def add(self, objectives: Sequence[float | None]) -> None:
        """Adds the objectives of the programs asked for, in order; there may be fewer."""
        for objective in objectives:
            loss = np.inf if objective is None else -self._sign * objective
            self._losses.append((self._waiting.pop(0), loss))
            self.objectives.append(objective)
        if len(self._losses) == self._cma.population_size:
            self._learn()
            self._losses = []

    def _learn(self) -> None:
        points, losses = zip(*self._losses, strict=True)
        first = int(np.argmin(losses))
        if losses[first] < self._best[0]:
            self._best = (losses[first], points[first])
        if np.isfinite(losses[first]) and losses[first] == np.quantile(
            losses, _FLAT_SHARE, method="lower"
        ):
            self._step = min(_STEP_GROWTH * self._step, _LARGEST_STEP)
            self._cma = self._start(len(self.objectives))
        else:
            ranks = np.unique(losses, return_inverse=True)[1]
            self._cma.tell([(p, float(rank)) for p, rank in zip(points, ranks, strict=True)])

    def _start(self, number: int) -> CMA:
        ends = [
            (-np.inf, np.inf) if tunable.range is None else (0.0, 1.0) for tunable in self._tunables
        ]
        return _load_optimiser()(
            self._best[1],
            self._step,
            bounds=np.array(ends),
            n_max_resampling=8,
            seed=int(np.random.SeedSequence([*self._seed, number]).generate_state(1)[0]),
        )


@cache
def _load_optimiser() -> type[CMA]:
    """Returns the one class of its library that is used.

    The package as a whole imports SciPy where that is installed, which takes two seconds.
    """
    package = find_spec("cmaes")
    if package is None or package.origin is None:
        raise ImportError("expected the package `cmaes`, got none; install `evolve` again")
    spec = spec_from_file_location("cmaes._cma", Path(package.origin).with_name("_cma.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"{package.origin}: expected a module `_cma` next to it")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    optimiser: type[CMA] = module.CMA
    return optimiser


def is_spent(objectives: Sequence[float | None], constants: int, direction: Direction) -> bool:
    """Returns whether a session has brought what it could.

    It continues while the later half of its samples brought more than a small share of the gain of
    all; the scale of objectives does not matter.

    Args:
        objectives: Of its samples in order, the program's own first.
        constants: Number of constants.
        direction: Whether larger or smaller objectives are better.
    """
    if len(objectives) <= _LEAST_SAMPLES + _SAMPLES_PER_CONSTANT * constants:
        return False
    values = [-np.inf if one is None else direction.sign * one for one in objectives]
    start, half, best = values[0], max(values[: len(values) // 2]), max(values)
    return bool(best - half <= _LEAST_SHARE * (best - start))
