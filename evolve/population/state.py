"""What a run has reached, as a fold over its committed attempts, and what it is folded with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from shlex import quote
from typing import Any

from evolve.archive import AddStatus, Elite, Islands
from evolve.archive.archives import locate
from evolve.archive.credit import Merit, is_progress, outranks
from evolve.errors import UsageError
from evolve.problem import Problem
from evolve.records import INJECT, RESCORE, TUNE, VALIDATION, AttemptKey, Status
from evolve.records.results import LightAttempt
from evolve.settings.sections import WITHOUT_MODEL, SearchSettings
from evolve.store import Store
from evolve.toml import write_value

# Generations between migrations.
_MIGRATION_EVERY = 10
# The facts that say what generations are folded with.
_FACT, _SPACE = "search", "space"
_generation_of = attrgetter("key.generation")


@dataclass(frozen=True, slots=True)
class StallEvent:
    """A stall that began, went on, or ended.

    Attributes:
        generation: After which generation.
        evaluations: Evaluations up to it.
        action: What is done now, in words.
    """

    generation: int
    evaluations: int
    action: str


# What is done at each level of a stall.
_ACTIONS = (
    "progress again",
    "parents are drawn more evenly",
    "some slots leap to a new formulation",
)
# In windows: when slots begin to leap.
_LEAPS_AFTER = 3


class StallWatch:
    """Sees where many evaluations in a row brought no progress; a fold over evaluations.

    Args:
        window: Evaluations without progress that make a stall; 0 sees none.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.fruitless = 0
        self.level = 0
        self.events: list[StallEvent] = []

    @property
    def leaps(self) -> bool:
        """Returns whether the stall is so long that some slots leap."""
        return self.level == len(_ACTIONS) - 1

    def record(self, *, is_progress: bool) -> None:
        """Adds an evaluated attempt."""
        self.fruitless = 0 if is_progress else self.fruitless + 1

    def find_change(self) -> str:
        """Returns what is done from now on, after a generation; empty when nothing changes."""
        windows = self.fruitless // self.window if self.window else 0
        level = (windows >= 1) + (windows >= _LEAPS_AFTER)
        if level == self.level:
            return ""
        self.level = level
        return _ACTIONS[level]

    def describe(self) -> str:
        """Returns in words how long there was no progress, and what is done about it."""
        if not self.window:
            return "not watched"
        waited = f"{self.fruitless} of {self.window} evaluations without progress"
        return f"level {self.level}: {_ACTIONS[self.level]}; {waited}" if self.level else waited


class RunState:
    """What a run has reached: its archives and champion.

    Args:
        problem: Measures and direction.
        settings: Islands, migration, selection.
    """

    def __init__(self, problem: Problem, settings: SearchSettings) -> None:
        self.direction = problem.direction
        # What the champion is compared with, by name.
        self.references = problem.references
        # Names of the further objectives.
        self.others = tuple(objective.name for objective in problem.objectives)
        directions = [objective.direction for objective in problem.objectives]
        self._make_islands = partial(
            Islands, problem.measures, problem.direction, settings, directions
        )
        self.islands = self._make_islands()
        self.generation = -1
        # Of programs, and how often they were evaluated.
        self.programs = self.evaluations = 0
        self.initial: float | None = None
        # Evaluations up to the last progress.
        self.progressed_at = 0
        self.champion: Elite | None = None
        # Samples of tuning, and the attempts whose constants they tuned.
        self.samples = 0
        self.tuned: set[AttemptKey] = set()
        self.start: Elite | None = None
        self._settings = settings
        # How far two objectives of one program may lie apart.
        self.noise = problem.noise
        watches = "stalls" not in settings.without and not self.islands.strategy.is_baseline
        self.stalls = StallWatch((settings.stall_after or WITHOUT_MODEL.stall_after) * watches)

    @property
    def entropy(self) -> float:
        """Returns the target of parent selection, half way to uniform in a stall."""
        target = self._settings.entropy
        return (1.0 + target) / 2.0 if self.stalls.level else target

    def add(self, generation: int, attempts: Sequence[LightAttempt]) -> None:
        """Adds a generation, its attempts in slot order.

        Raises:
            ValueError: It is not the next one.
        """
        if generation != self.generation + 1:
            raise ValueError(f"generation: expected {self.generation + 1}, got {generation}")
        self.generation = generation
        if any(attempt.operator == RESCORE for attempt in attempts):
            self._begin_anew()
        for attempt in attempts:
            self._add_attempt(attempt)
        migrates = "migration" not in self._settings.without
        if migrates and generation and generation % _MIGRATION_EVERY == 0:
            self.islands.migrate()
        action = self.stalls.find_change()
        if action:
            self.stalls.events.append(StallEvent(generation, self.evaluations, action))

    def add_all(self, attempts: Iterable[LightAttempt], last: int) -> Iterator[int]:
        """Adds all generations that follow, up to `last`, and yields the number of each then.

        Args:
            attempts: Those of the generations that follow, in order.
            last: The last committed generation; some generations may have no attempts.
        """
        groups = groupby(attempts, key=_generation_of)
        following = next(groups, None)
        while self.generation < last:
            number = self.generation + 1
            if following is not None and following[0] == number:
                self.add(number, list(following[1]))
                following = next(groups, None)
            else:
                self.add(number, [])
            yield number

    def _begin_anew(self) -> None:
        """Empties the archives: what another evaluator said does not compare."""
        self.islands = self._make_islands()
        self.initial = self.champion = self.start = None

    def _add_attempt(self, attempt: LightAttempt) -> AddStatus:
        is_sample = attempt.operator == TUNE
        if is_sample and attempt.parent is not None:
            self.samples += 1
            self.tuned.add(attempt.parent)
        # A session makes hundreds of children: they do not say how the parent is used up.
        # What somebody put in is nobody's child.
        elif attempt.parent is not None and not (
            attempt.operator == INJECT or "visits" in self._settings.without
        ):
            self.islands.archives[attempt.island].record_child(attempt.parent)
        champion = self.champion
        status = self._offer(attempt)
        if attempt.status is not Status.REJECTED:
            self.programs += 1
            self.evaluations += attempt.evaluations
            # With several objectives there is progress beyond the champion's.
            is_progress = self._note_progress(champion) or bool(self.others and status)
            # Most samples are worse than their parent by design.
            if is_progress or not is_sample:
                self.stalls.record(is_progress=is_progress)
        return status

    def _offer(self, attempt: LightAttempt) -> AddStatus:
        """Offers an attempt to the archive of its island, and as the champion."""
        objective = attempt.objective
        if objective is None:
            return AddStatus.NOT_ADDED
        archive = self.islands.archives[attempt.island]
        coordinates = locate(archive.space.axes, attempt.measures)
        leads = self._outranks_champion(attempt, objective)
        others = self._further(attempt) if self.others else ()
        # Most attempts of a long run end here.
        cell = archive.space.cell_of(coordinates)
        if not leads and not archive.would_take(cell, objective, others):
            return AddStatus.NOT_ADDED
        elite = make_elite(attempt, coordinates, others)
        if leads:
            self.champion = elite
        # The first with an objective, where the starting program has none.
        if attempt.parent is None or self.start is None:
            self.initial = objective
            self.start = elite
            self.islands.seed(elite)
            return AddStatus.NEW
        return archive.add(elite)

    def _outranks_champion(self, attempt: LightAttempt, objective: float) -> bool:
        champion, sign = self.champion, self.direction.sign
        return champion is None or outranks(
            sign, merit_of(objective, attempt.instances), champion.merit, self.noise
        )

    def _note_progress(self, before: Elite | None) -> bool:
        """Returns whether the champion is new and enough better than the one before."""
        champion = self.champion
        if champion is None or champion is before:
            return False
        if before is not None and self.initial is not None:
            gain = self.direction.gain(champion.objective, before.objective)
            gained = self.direction.gain(before.objective, self.initial)
            # By instances a champion may be better whose objective is not.
            if gain > 0.0 and not is_progress(gain, gained):
                return False
        self.progressed_at = self.evaluations
        return True

    def _further(self, attempt: LightAttempt) -> tuple[float, ...]:
        return tuple(attempt.metrics[name] for name in self.others)


def make_elite(
    attempt: LightAttempt, coordinates: tuple[float, ...], others: tuple[float, ...]
) -> Elite:
    """Returns the elite that an evaluated attempt would be.

    Raises:
        ValueError: It has no objective.
    """
    if attempt.program_id is None or attempt.objective is None:
        raise ValueError(f"attempt {attempt.key}: expected an evaluated program, got none")
    return Elite(
        key=attempt.key,
        program_id=attempt.program_id,
        objective=attempt.objective,
        measures=coordinates,
        origin=attempt.island,
        depth=attempt.depth,
        parent=attempt.parent,
        others=others,
        merit=merit_of(attempt.objective, attempt.instances),
    )


def merit_of(objective: float, instances: Mapping[str, float]) -> Merit:
    """Returns what decides between an evaluated program and the champion."""
    if not instances:
        return Merit(objective)
    names = sorted(instances)
    kept = tuple(instances[name] for name in names if name.startswith(VALIDATION))
    fitted = tuple(instances[name] for name in names if not name.startswith(VALIDATION))
    return Merit(objective, fitted, kept)


def load_state(store: Store, problem: Problem, settings: SearchSettings) -> RunState:
    """Returns what a run has reached as of its last committed generation.

    Raises:
        UsageError: The settings are not those that the run began with.
        StoreError: The database cannot be read.
    """
    expect_frozen(store, problem, settings)
    state = RunState(problem, settings)
    last = store.last_generation()
    if last is not None:
        for _ in state.add_all(store.light_attempts(), last):
            pass
    return state


def freeze_past(store: Store, problem: Problem, settings: SearchSettings) -> None:
    """Writes down what generations are folded with.

    Raises:
        StoreError: The database cannot be written.
    """
    store.set_facts(**{_FACT: _as_plain(settings), _SPACE: _describe_space(problem)})


def expect_frozen(store: Store, problem: Problem, settings: SearchSettings) -> None:
    """Checks that all is as the run began with.

    Raises:
        UsageError: One was changed, by hand; the message says how to make a run with it.
        StoreError: The database cannot be read.
    """
    now, facts = _as_plain(settings), store.facts()
    for name, value in facts.get(_FACT, {}).items():
        if name in now and now[name] != value:
            change = quote(f"search.{name}={write_value(now[name])}")
            raise UsageError(
                f"{store.folder / 'settings.toml'}: `search.{name}`: expected {value!r}, as the "
                f"run began with, got {now[name]!r}; put it back, then `evolve fork "
                f"{quote(str(store.folder))} --set {change}` makes a run that continues with it"
            )
    space = _describe_space(problem)
    for name, value in facts.get(_SPACE, {}).items():
        if space.get(name) != value:
            raise UsageError(
                f"{problem.folder / 'problem.toml'}: `{name}`: expected {value!r}, as the run "
                f"began with, got {space.get(name)!r}; put it back, or begin a new run with it"
            )


def _as_plain(settings: SearchSettings) -> dict[str, Any]:
    """Returns settings as the database returns them."""
    plain = dataclasses.asdict(settings)
    return plain | {name: list(value) for name, value in plain.items() if type(value) is tuple}


def _describe_space(problem: Problem) -> dict[str, Any]:
    """Returns what elites are distinguished and compared by, as the database returns it."""
    return {
        "direction": str(problem.direction),
        "measures": [list(dataclasses.astuple(measure)) for measure in problem.measures],
        "objectives": [[one.name, str(one.direction)] for one in problem.objectives],
    }
