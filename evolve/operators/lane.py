"""The tuning lane: sessions in which the constants of an elite are tuned, one after the other.

A session belongs to the attempt whose program it starts from; what its samples brought is told
like every other attempt, so that its state follows from committed attempts alone. The lane works
in every generation from whose start all of its earlier samples are committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from evolve.operators import (
    MAX_CONSTANTS,
    TUNE,
    Tuner,
    find_knobs,
    hash_skeleton,
    is_spent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from evolve.archive import Elite
    from evolve.archive.islands import Islands
    from evolve.records import AttemptKey, Direction, Program
    from evolve.records.results import LightAttempt

# Elites that are looked at beside the best of each island when a new session starts.
_DRAWS = 24


@dataclass(frozen=True, slots=True)
class Session:
    """A session to go on with.

    Attributes:
        island: Island of the elite it started from.
        start: The attempt whose program it tunes.
    """

    island: int
    start: AttemptKey


class Sessions:
    """What all sessions brought so far; a fold over committed attempts."""

    def __init__(self) -> None:
        self.told: dict[AttemptKey, list[float | None]] = {}
        self.last: Session | None = None

    def record(self, attempt: LightAttempt, objective: float | None) -> None:
        """Takes in an attempt of the lane.

        Args:
            attempt: The attempt.
            objective: Its own, or that of its twin where it was rejected as a duplicate.
        """
        if attempt.operator == TUNE and attempt.parent is not None:
            self.last = Session(attempt.island, attempt.parent)
            self.told.setdefault(attempt.parent, []).append(objective)


class State(Protocol):
    """What the lane needs to know of the population."""

    direction: Direction
    islands: Islands
    champion: Elite | None
    sessions: Sessions

    def objective_of(self, key: AttemptKey) -> float | None:
        """Gives the objective of an attempt that has one."""


@dataclass(frozen=True, slots=True)
class _Known:
    constants: int
    skeleton: str


class Lane:
    """Decides which session goes on, and keeps their tuners.

    Args:
        state: The population; its state when a generation is launched is what counts.
        load: Gives the program of an evaluated attempt.
        seed: Seed of the run.
    """

    def __init__(self, state: State, load: Callable[[AttemptKey], Program], seed: int) -> None:
        self._state = state
        self._load = load
        self._seed = seed
        self._known: dict[AttemptKey, _Known] = {}
        self._tuners: dict[AttemptKey, Tuner] = {}

    def next_session(self, rng: np.random.Generator) -> Session | None:
        """Gives the session to go on with, or a new one; None where nothing can be tuned."""
        last = self._state.sessions.last
        if last is not None and not self._is_spent(last.start):
            return last
        self._tuners.clear()
        return self._choose(rng)

    def open_tuner(self, start: AttemptKey) -> Tuner:
        """Gives the tuner of a session as it is after all that was told; any thread may call."""
        told = self._state.sessions.told.get(start, [])
        tuner = self._tuners.get(start)
        if tuner is None or tuner.told != told:
            tuner = self._tuners[start] = Tuner(
                self._load(start), self._state.direction, seed=[self._seed, *start], told=told
            )
        return tuner

    def _choose(self, rng: np.random.Generator) -> Session | None:
        """Gives the first elite whose structure was not tuned yet; else one not tuned itself."""
        sessions = self._state.sessions.told
        tuned = {self._know(key).skeleton for key in sessions}
        rest: Session | None = None
        for island, elite in self._candidates(rng):
            if elite.key in sessions or not self._know(elite.key).constants:
                continue
            if self._know(elite.key).skeleton not in tuned:
                return Session(island, elite.key)
            rest = rest or Session(island, elite.key)
        return rest

    def _candidates(self, rng: np.random.Generator) -> Sequence[tuple[int, Elite]]:
        """Gives the champion, the best of each island, then others, the better ones first."""
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
        told = [self._state.objective_of(start), *self._state.sessions.told[start]]
        return is_spent(told, self._know(start).constants, self._state.direction)

    def _know(self, key: AttemptKey) -> _Known:
        known = self._known.get(key)
        if known is None:
            program = self._load(key)
            knobs = find_knobs(program, MAX_CONSTANTS)
            known = _Known(len(knobs), hash_skeleton(program, knobs))
            self._known[key] = known
        return known
