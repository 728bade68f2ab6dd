"""Tuning: the constants of a program that may change, CMA-ES over them, and sessions of it.

Hansen 2016, The CMA evolution strategy: a tutorial.

Sessions tune the constants of elites, one after the other. A session belongs to the attempt whose
program it starts from; its samples are attempts like all others, so that its state follows from
committed attempts alone. Tuning takes part in every generation from whose start all of its earlier
samples are committed.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from evolve.archive import Elite, Islands
from evolve.operators.syntax import Edit, Number, edit_text, pick, read_syntax
from evolve.records import TUNE, AttemptKey, Direction, Program, SourceFile
from evolve.records.results import LightAttempt
from evolve.source.parsing import holds_values

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
# Elites that are looked at next to the best of each island when a new session starts.
_DRAWS = 24
# Where a model writes programs: samples of a first try, tries in a generation, the fewest samples
# of a session that are worth it, and sessions in a generation.
_TRY, _TRIES, _LEAST = 16, 3, 8
MOST_SESSIONS = 4
# A structure is tried with so much of what the champion gained on the starting program.
_LEAST_GAIN = 0.5


class TunableRange(NamedTuple):
    """Where a marked constant may move: both ends included."""

    low: float
    high: float
    is_log: bool


class Tunable(NamedTuple):
    """A constant that may be tuned.

    Attributes:
        file: Place of its file in the program.
        number: The constant; a whole number stays one.
        range: The range that its line is marked with, None without a mark.
    """

    file: int
    number: Number
    range: TunableRange | None = None

    @property
    def position(self) -> float:
        """Returns the coordinate of its value: from 0 to 1 in a range, 0 without one."""
        if self.range is None:
            return 0.0
        low, high, is_log = self.range
        value = min(max(self.number.value, low), high)
        if is_log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def value_at(self, position: float) -> float:
        """Returns the value of a coordinate, the inverse of `position`."""
        old = self.number.value
        if self.range is None:
            value = old + position * max(abs(old), _LEAST_SCALE)
        else:
            low, high, is_log = self.range
            share = min(max(position, 0.0), 1.0)
            value = low * (high / low) ** share if is_log else low + (high - low) * share
            value = min(max(value, low), high)
        return round(value) if isinstance(old, int) else value


def find_tunables(program: Program) -> tuple[Tunable, ...]:
    """Finds the constants to tune, in the order of the text, `MAX_CONSTANTS` at most.

    In files of any language these are constants whose line, or the line above it, has a comment
    such as `tune: 0.1 .. 10 log`; several ranges, parted by commas, belong to the first constants
    of the line in order. Where no line is marked, these are all numbers of JSON, TOML and YAML
    files, and the constants of Python files that are no whole numbers, but for the likes of 0.5
    and 2.0 inside of expressions. Only evolvable blocks count.
    """
    for read in (_read_marks, _read_numbers):
        files = enumerate(program.files)
        found = [Tunable(index, *one) for index, file in files for one in read(*file)]
        if found:
            return tuple(found[:MAX_CONSTANTS])
    return ()


def set_tunables(
    program: Program, tunables: Sequence[Tunable], positions: Sequence[float]
) -> Program:
    """Returns the program with its constants at other coordinates."""
    pairs = zip(tunables, positions, strict=True)
    edits = [(one.file, one.number.write(one.value_at(float(place)))) for one, place in pairs]
    texts = _edit_files(program, edits)
    return Program(
        tuple(SourceFile(file.path, text) for file, text in zip(program.files, texts, strict=True))
    )


def hash_skeleton(program: Program, tunables: Sequence[Tunable]) -> str:
    """Returns 16 hexadecimal digits, equal for programs that differ in tuned constants only."""
    edits = [(one.file, (one.number.start, one.number.end, "\0")) for one in tunables]
    text = "\0\0".join(_edit_files(program, edits))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _edit_files(program: Program, edits: Sequence[tuple[int, Edit]]) -> list[str]:
    return [
        edit_text(file.text, [edit for place, edit in edits if place == index])
        for index, file in enumerate(program.files)
    ]


def _read_marks(path: str, text: str) -> Iterator[tuple[Number, TunableRange]]:
    syntax = read_syntax(path, text)
    blocks = () if syntax is None else syntax.blocks
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
            if any(block.holds(start, end) for block in blocks):
                yield _make_marked(start, literal[0], found), found
        offset += len(line)


def _make_marked(start: int, literal: str, found: TunableRange) -> Number:
    # A sign may be an operator: it stays where it is, and the range is that of what follows.
    if literal[0] in "+-" and found.low >= 0.0:
        start, literal = start + 1, literal[1:]
    is_whole = literal.lstrip("+-").isdecimal()
    return Number(start, start + len(literal), int(literal) if is_whole else float(literal))


def _read_ranges(text: str) -> Iterator[TunableRange]:
    for match in _RANGE.finditer(text):
        low, high, is_log = float(match[1]), float(match[2]), bool(match[3])
        if low < high and not (is_log and low <= 0.0):
            yield TunableRange(low, high, is_log)


def _read_numbers(path: str, text: str) -> Iterator[tuple[Number]]:
    syntax = read_syntax(path, text)
    for number in () if syntax is None else syntax.numbers:
        is_formula = number.weight == 1.0 and number.value in _FORMULA
        is_real = isinstance(number.value, float) and math.isfinite(number.value)
        if holds_values(path) or (path.endswith(".py") and is_real and not is_formula):
            yield (number,)


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

    Attributes:
        constants: How many it tunes.
        objectives: Of its samples so far, in order.
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
        self._tunables = find_tunables(program)
        self.constants = len(self._tunables)
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
    loader = SourceFileLoader("cmaes._cma", str(Path(package.origin).with_name("_cma.py")))
    module = ModuleType(loader.name)
    loader.exec_module(module)
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


class TuningSession(NamedTuple):
    """A session to continue.

    Attributes:
        island: Island of the elite it started from.
        start: The attempt whose program it tunes.
    """

    island: int
    start: AttemptKey


class TuningSessions:
    """What all sessions brought so far; a fold over committed attempts."""

    def __init__(self) -> None:
        self.objectives: dict[AttemptKey, list[float | None]] = {}
        self.last: TuningSession | None = None

    def record(self, attempt: LightAttempt, objective: float | None) -> None:
        """Takes in a sample.

        Args:
            attempt: The attempt.
            objective: Its own, or that of its duplicate where it was rejected for one.
        """
        if attempt.operator == TUNE and attempt.parent is not None:
            self.last = TuningSession(attempt.island, attempt.parent)
            self.objectives.setdefault(attempt.parent, []).append(objective)


class TunedState(Protocol):
    """What tuning needs to know of the population."""

    direction: Direction
    islands: Islands
    champion: Elite | None
    start: Elite | None
    sessions: TuningSessions

    def objective_of(self, key: AttemptKey) -> float | None:
        """Returns the objective of an attempt that has one."""


class _Structure(NamedTuple):
    """What programs have in common that differ in tuned constants only."""

    constants: int
    skeleton: str


class TuningPlanner:
    """Decides which session continues, and keeps their tuners.

    Args:
        state: The population; its state when a generation starts is what counts.
        load: Returns the program of an evaluated attempt.
        seed: Seed of the run.
    """

    def __init__(self, state: TunedState, load: Callable[[AttemptKey], Program], seed: int) -> None:
        self._state = state
        self._load = load
        self._seed = seed
        self._structure_of = cache(self._read_structure)
        self._tuners: dict[AttemptKey, Tuner] = {}

    def next_session(self, rng: Generator) -> TuningSession | None:
        """Returns the session to continue, or a new one; None where nothing can be tuned."""
        last = self._state.sessions.last
        if last is not None and not self._is_spent(last.start):
            return last
        self._tuners.clear()
        return self._choose(rng)

    def open_tuner(self, start: AttemptKey) -> Tuner:
        """Returns a session's tuner after all committed samples; any thread may call."""
        known = self._samples(start)
        tuner = self._tuners.get(start)
        if tuner is None or tuner.objectives != known:
            tuner = self._tuners[start] = Tuner(
                self._load(start), self._state.direction, seed=[self._seed, *start], known=known
            )
        return tuner

    def share_out(self, evaluations: int) -> list[tuple[TuningSession, int]]:
        """Returns the sessions that a generation of a model's programs continues.

        A program that a model wrote has guessed constants, and would lose against tuned ones for
        that alone: each promising structure gets a first try, as many as there are places for,
        before the best go on.

        Args:
            evaluations: How many there are for all sessions, each of which gets a number of them.
        """
        found = self._list_sessions()
        fresh = [one for one in found if len(self._samples(one.start)) < _TRY]
        begun = [one for one in found if len(self._samples(one.start)) >= _TRY]
        chosen = (fresh[:_TRIES] + begun)[: max(1, min(MOST_SESSIONS, evaluations // _LEAST))]
        if not chosen:
            return []
        share, rest = divmod(evaluations, len(chosen))
        return [(one, share + (number < rest)) for number, one in enumerate(chosen)]

    def skeleton_of(self, key: AttemptKey) -> str:
        """Returns what a program has in common with all that differ in tuned constants only."""
        return self._structure_of(key).skeleton

    def _list_sessions(self) -> list[TuningSession]:
        """Returns a session for each structure that can still be tuned, the best one first."""
        best: dict[str, tuple[float, TuningSession]] = {}
        begun: dict[str, AttemptKey] = {}
        for key in self._state.sessions.objectives:
            begun.setdefault(self.skeleton_of(key), key)
        for archive in self._state.islands.archives:
            for elite in archive.elites:
                constants, skeleton = self._structure_of(elite.key)
                utility = self._state.direction.sign * elite.objective
                if constants and utility > best.get(skeleton, (-math.inf, None))[0]:
                    start = begun.get(skeleton, elite.key)
                    best[skeleton] = utility, TuningSession(elite.origin, start)
        least = self._find_least()
        promising = [one for one in best.values() if one[0] >= least]
        promising.sort(key=lambda one: (-one[0], one[1].start))
        return [session for _, session in promising if not self._is_spent(session.start)]

    def _find_least(self) -> float:
        """Returns the utility below which tuning will hardly lead to a champion."""
        start, champion = self._state.start, self._state.champion
        if start is None or champion is None:
            return -math.inf
        gained = champion.objective - start.objective
        return self._state.direction.sign * (start.objective + _LEAST_GAIN * gained)

    def _choose(self, rng: Generator) -> TuningSession | None:
        """Returns the first elite whose structure was not tuned yet; else one not tuned itself."""
        sessions = self._state.sessions.objectives
        tuned = {self.skeleton_of(key) for key in sessions}
        rest: TuningSession | None = None
        for island, elite in self._candidates(rng):
            if elite.key in sessions or not self._structure_of(elite.key).constants:
                continue
            if self.skeleton_of(elite.key) not in tuned:
                return TuningSession(island, elite.key)
            rest = rest or TuningSession(island, elite.key)
        return rest

    def _candidates(self, rng: Generator) -> Sequence[tuple[int, Elite]]:
        """Returns the champion, the best of each island, then others, the better ones first."""
        archives = self._state.islands.archives
        champion = self._state.champion
        found = [] if champion is None else [(champion.origin, champion)]
        found += [(i, one.best) for i, one in enumerate(archives) if one.best is not None]
        places = [number % len(archives) for number in range(_DRAWS)]
        filled = ((island, archives[island].elites) for island in places)
        drawn = [(island, pick(elites, rng)) for island, elites in filled if elites]
        sign = self._state.direction.sign
        return found + sorted(drawn, key=lambda pair: -sign * pair[1].objective)

    def _samples(self, start: AttemptKey) -> list[float | None]:
        return self._state.sessions.objectives.get(start, [])

    def _is_spent(self, start: AttemptKey) -> bool:
        objectives = [self._state.objective_of(start), *self._samples(start)]
        return is_spent(objectives, self._structure_of(start).constants, self._state.direction)

    def _read_structure(self, key: AttemptKey) -> _Structure:
        program = self._load(key)
        tunables = find_tunables(program)
        return _Structure(len(tunables), hash_skeleton(program, tunables))
