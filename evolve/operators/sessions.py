"""TuningSessions in which the constants of an elite are tuned, one after the other.

A session belongs to the attempt whose program it starts from; its samples are attempts like all
others, so that its state follows from committed attempts alone. Tuning takes part in every
generation from whose start all of its earlier samples are committed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from evolve.archive import Elite, Islands
from evolve.operators.tuning import MAX_CONSTANTS, Tuner, find_tunables, hash_skeleton, is_spent
from evolve.records import TUNE, AttemptKey, Direction, Program
from evolve.records.results import LightAttempt

# Elites that are looked at beside the best of each island when a new session starts.
_DRAWS = 24
# Where a model writes programs: samples of a first try, tries in a generation, the fewest samples
# of a session that are worth it, and sessions in a generation.
_TRY, _TRIES, _LEAST = 16, 3, 8
MOST_SESSIONS = 4
# A structure is tried with so much of what the champion gained on the starting program.
_LEAST_GAIN = 0.5


@dataclass(frozen=True, slots=True)
class TuningSession:
    """A session to go on with.

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


@dataclass(frozen=True, slots=True)
class _Structure:
    utility: float
    session: TuningSession
    samples: int


@dataclass(frozen=True, slots=True)
class _Known:
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
        self._known: dict[AttemptKey, _Known] = {}
        self._tuners: dict[AttemptKey, Tuner] = {}

    def next_session(self, rng: np.random.Generator) -> TuningSession | None:
        """Returns the session to go on with, or a new one; None where nothing can be tuned."""
        last = self._state.sessions.last
        if last is not None and not self._is_spent(last.start):
            return last
        self._tuners.clear()
        return self._choose(rng)

    def open_tuner(self, start: AttemptKey) -> Tuner:
        """Returns a session's tuner after all committed samples; any thread may call."""
        known = self._state.sessions.objectives.get(start, [])
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
            evaluations: How many there are for all sessions.

        Returns:
            TuningSessions, each with its number of evaluations.
        """
        structures = self._list_structures()
        fresh = [one for one in structures if one.samples < _TRY]
        spent = [one for one in structures if one.samples >= _TRY]
        chosen = (fresh[:_TRIES] + spent)[: max(1, min(MOST_SESSIONS, evaluations // _LEAST))]
        if not chosen:
            return []
        share, rest = divmod(evaluations, len(chosen))
        return [(one.session, share + (number < rest)) for number, one in enumerate(chosen)]

    def skeleton_of(self, key: AttemptKey) -> str:
        """Returns what a program has in common with all that differ in tuned constants only."""
        return self._know(key).skeleton

    def _list_structures(self) -> list[_Structure]:
        """Returns what can still be tuned, each structure once, the best objective first."""
        sign, sessions = self._state.direction.sign, self._state.sessions.objectives
        best: dict[str, tuple[float, TuningSession]] = {}
        begun: dict[str, AttemptKey] = {}
        for key in sessions:
            begun.setdefault(self._know(key).skeleton, key)
        for archive in self._state.islands.archives:
            for elite in archive.elites:
                known = self._know(elite.key)
                utility = sign * elite.objective
                if known.constants and utility > best.get(known.skeleton, (-math.inf, None))[0]:
                    best[known.skeleton] = utility, TuningSession(elite.origin, elite.key)
        champion = self._state.champion
        least = -math.inf if champion is None else self._least(sign * champion.objective)
        structures = []
        for skeleton, (utility, found) in best.items():
            start = begun.get(skeleton)
            if utility < least or (start is not None and self._is_spent(start)):
                continue
            session = found if start is None else TuningSession(found.island, start)
            samples = 0 if start is None else len(sessions[start])
            structures.append(_Structure(utility, session, samples))
        return sorted(structures, key=lambda one: (-one.utility, one.session.start))

    def _least(self, champion: float) -> float:
        """Returns the utility below which tuning will hardly lead to a champion."""
        start = self._state.start
        if start is None:
            return -math.inf
        first = self._state.direction.sign * start.objective
        return first + _LEAST_GAIN * (champion - first)

    def _choose(self, rng: np.random.Generator) -> TuningSession | None:
        """Returns the first elite whose structure was not tuned yet; else one not tuned itself."""
        sessions = self._state.sessions.objectives
        tuned = {self._know(key).skeleton for key in sessions}
        rest: TuningSession | None = None
        for island, elite in self._candidates(rng):
            if elite.key in sessions or not self._know(elite.key).constants:
                continue
            if self._know(elite.key).skeleton not in tuned:
                return TuningSession(island, elite.key)
            rest = rest or TuningSession(island, elite.key)
        return rest

    def _candidates(self, rng: np.random.Generator) -> Sequence[tuple[int, Elite]]:
        """Returns the champion, the best of each island, then others, the better ones first."""
        archives = self._state.islands.archives
        champion = self._state.champion
        found = [] if champion is None else [(champion.origin, champion)]
        found += [(i, one.best) for i, one in enumerate(archives) if one.best is not None]
        drawn = []
        for number in range(_DRAWS):
            island = number % len(archives)
            elites = archives[island].elites
            if elites:
                drawn.append((island, elites[int(rng.integers(len(elites)))]))
        sign = self._state.direction.sign
        return found + sorted(drawn, key=lambda pair: -sign * pair[1].objective)

    def _is_spent(self, start: AttemptKey) -> bool:
        objectives = [self._state.objective_of(start), *self._state.sessions.objectives[start]]
        return is_spent(objectives, self._know(start).constants, self._state.direction)

    def _know(self, key: AttemptKey) -> _Known:
        known = self._known.get(key)
        if known is None:
            program = self._load(key)
            tunables = find_tunables(program, MAX_CONSTANTS)
            known = _Known(len(tunables), hash_skeleton(program, tunables))
            self._known[key] = known
        return known
