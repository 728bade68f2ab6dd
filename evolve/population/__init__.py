"""All that the search knows of committed attempts: archives, champion, operators, known programs.

The state is a fold over committed attempts, so that it can be rebuilt from the store at any
generation and nothing else needs to be saved.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING

from evolve.archive import AddStatus, Elite
from evolve.archive.cells import locate
from evolve.archive.islands import Islands
from evolve.archive.quotas import SlotQuotas
from evolve.archive.stalls import StallDetector, StallLevel
from evolve.models.bandit import ModelStats
from evolve.operators import OPERATOR_JOIN, TUNE, OperatorStats
from evolve.operators.lane import Sessions
from evolve.records import Status
from evolve.settings.defaults import WITHOUT_MODEL
from evolve.source import NORMAL_FORM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from evolve.problem import Problem
    from evolve.records import AttemptKey
    from evolve.records.results import LightAttempt
    from evolve.settings.search import SearchSettings

# Programs around which cells are cut where `search.centroids` says so.
START_PROGRAMS = 64


class Standing:
    """What a run has reached: its archives and champion.

    Args:
        problem: Measures and direction.
        settings: Islands, migration, selection.
    """

    def __init__(self, problem: Problem, settings: SearchSettings) -> None:
        self.direction = problem.direction
        # Names of the further objectives.
        self.others = tuple(objective.name for objective in problem.objectives)
        directions = [objective.direction for objective in problem.objectives]
        self.islands = Islands(problem.measures, problem.direction, settings, directions)
        # Coordinates of the first programs, while cells are yet to be cut around them.
        self.first_places: list[tuple[float, ...]] = []
        self.is_cut = False
        self.generation = -1
        self.evaluations = 0
        self.initial: float | None = None
        self.champion: Elite | None = None
        self._settings = settings
        self.start: Elite | None = None
        # A baseline is what it is; a lone island has no other to begin again from.
        highest = StallLevel.RESTART if settings.islands > 1 else StallLevel.LEAP
        window = 0 if self.islands.strategy.is_baseline else settings.stall_after
        self.stalls = StallDetector(
            WITHOUT_MODEL.stall_after if window is None else window, highest
        )

    def tell(self, generation: int, attempts: Sequence[LightAttempt]) -> None:
        """Takes in a generation, its attempts in slot order.

        Raises:
            ValueError: It is not the next one.
        """
        if generation != self.generation + 1:
            raise ValueError(f"generation: expected {self.generation + 1}, got {generation}")
        self.generation = generation
        for attempt in attempts:
            self._tell_attempt(attempt)
        every = self._settings.migration_every
        if generation and every and generation % every == 0:
            self.islands.migrate()
        self._cut_cells()
        self._answer_stall()

    @property
    def entropy(self) -> float:
        """Gives the target of parent selection, half way to uniform in a stall."""
        target = self._settings.entropy
        return (1.0 + target) / 2.0 if self.stalls.level else target

    def tell_all(self, attempts: Iterable[LightAttempt], last: int) -> Iterator[int]:
        """Takes in all generations that follow, up to `last`, and gives each number once told.

        Args:
            attempts: Those of the generations that follow, in order.
            last: The last committed generation; some generations may have no attempts.
        """
        groups = groupby(attempts, key=lambda attempt: attempt.key.generation)
        following = next(groups, None)
        while self.generation < last:
            number = self.generation + 1
            if following is not None and following[0] == number:
                self.tell(number, list(following[1]))
                following = next(groups, None)
            else:
                self.tell(number, [])
            yield number

    def _tell_attempt(self, attempt: LightAttempt) -> AddStatus:
        archive = self.islands.archives[attempt.island]
        is_sample = attempt.operator == TUNE
        cell = None
        # A session makes hundreds of children, which say nothing about how the parent is used up.
        if attempt.parent is not None and not is_sample:
            cell = archive.count_child(attempt.parent)
        champion = self.champion
        status = self._add(attempt)
        if attempt.status is not Status.REJECTED:
            self.evaluations += 1
            failed = attempt.objective is None
            utility = -math.inf if failed else self.direction.sign * (attempt.objective or 0.0)
            # With several objectives there is progress beside the champion's.
            leads = self.champion is not champion or bool(self.others and status)
            # Most samples are worse than their parent by design.
            if leads or not is_sample:
                self.stalls.tell(utility, leads=leads)
        if cell is not None and attempt.status is not Status.REJECTED:
            archive.credit(cell, accepted=bool(status))
        return status

    def _add(self, attempt: LightAttempt) -> AddStatus:
        objective = attempt.objective
        if objective is None:
            return AddStatus.NOT_ADDED
        archive = self.islands.archives[attempt.island]
        coordinates = locate(archive.space.axes, attempt.measures)
        best = None if self.champion is None else self.champion.objective
        leads = best is None or self.direction.is_better(objective, best)
        # Most attempts of a long run end here, and all of them are told again on a resume.
        others = self._further(attempt)
        self._note_place(coordinates)
        if not leads and not archive.takes(archive.space.cell_of(coordinates), objective, others):
            return AddStatus.NOT_ADDED
        elite = _elite(attempt, coordinates, others)
        if leads:
            self.champion = elite
        if attempt.parent is None:
            self.initial = objective
            self.start = elite
            self.islands.seed(elite)
            return AddStatus.NEW
        return archive.add(elite)

    def _further(self, attempt: LightAttempt) -> tuple[float, ...]:
        return tuple(attempt.metrics[name] for name in self.others)

    def _note_place(self, coordinates: tuple[float, ...]) -> None:
        if self._settings.centroids == "start" and len(self.first_places) < START_PROGRAMS:
            self.first_places.append(coordinates)

    def _cut_cells(self) -> None:
        """Cuts cells around the first programs, once there are enough of them."""
        if len(self.first_places) == START_PROGRAMS and not self.is_cut:
            self.islands.cut_around(self.first_places)
            self.is_cut = True

    def _answer_stall(self) -> int | None:
        """Gives the island that restarted, if one did."""
        response = self.stalls.decide(self.generation, self.evaluations)
        if response is None or response.level is not StallLevel.RESTART or self.start is None:
            return None
        island = self.islands.restart_weakest(self.start)
        if island is not None:
            self.stalls.name_island(island)
        return island


class Population(Standing):
    """The state of the search after a number of committed generations."""

    def __init__(
        self, problem: Problem, settings: SearchSettings, normal_form: int = NORMAL_FORM
    ) -> None:
        super().__init__(problem, settings)
        self.normal_form = normal_form
        self.operators = OperatorStats()
        self.sessions = Sessions()
        self.models = ModelStats()
        self._objectives: dict[AttemptKey, float] = {}
        self._first: dict[str, AttemptKey] = {}
        self.quotas = SlotQuotas(settings.islands, by_progress=settings.quota == "progress")
        self._pool: list[Elite] = []

    def tell(self, generation: int, attempts: Sequence[LightAttempt]) -> None:
        """Takes in a generation, its attempts in slot order.

        Raises:
            ValueError: It is not the next one.
        """
        super().tell(generation, attempts)
        for _, group in groupby(attempts, key=lambda attempt: attempt.key.slot):
            told = list(group)
            if told[0].uses:
                self.models.record(told[0].uses, max(map(self._find_gain, told)))

    @property
    def pool(self) -> Sequence[Elite]:
        """Gives where a baseline takes parents from; empty for other strategies."""
        if self.islands.strategy.pool == "champion" and self.champion is not None:
            return [self.champion]
        return self._pool

    def find_twin(self, mark: str, horizon: int) -> AttemptKey | None:
        """Gives the first evaluated attempt with a fingerprint, up to a generation."""
        key = self._first.get(mark)
        return key if key is not None and key.generation <= horizon else None

    def objective_of(self, key: AttemptKey) -> float | None:
        """Gives the objective of an attempt that has one."""
        return self._objectives.get(key)

    def _tell_attempt(self, attempt: LightAttempt) -> AddStatus:
        best = self.islands.archives[attempt.island].best
        status = super()._tell_attempt(attempt)
        leads = self.islands.archives[attempt.island].best is not best
        if attempt.operator != TUNE:
            self.quotas.record(attempt.island, leads=leads, taken=bool(status))
        if attempt.status is not Status.REJECTED and attempt.fingerprint is not None:
            self._first.setdefault(attempt.fingerprint, attempt.key)
        if attempt.objective is not None:
            self._objectives[attempt.key] = attempt.objective
            self._keep(attempt)
        if attempt.operator == TUNE:
            self.sessions.record(attempt, self._objective_or_twins(attempt))
        # What several operators did in a leap tells nothing about any of them.
        elif attempt.operator and OPERATOR_JOIN not in attempt.operator:
            before = None if attempt.parent is None else self._objectives.get(attempt.parent)
            improved = (
                attempt.objective is not None
                and before is not None
                and self.direction.is_better(attempt.objective, before)
            )
            self.operators = self.operators.record(
                attempt.operator, improved=improved, accepted=bool(status)
            )
        return status

    def _find_gain(self, attempt: LightAttempt) -> float:
        """Gives what a program gained on its parent, 0 where it has no objective."""
        before = None if attempt.parent is None else self._objectives.get(attempt.parent)
        if attempt.objective is None or before is None:
            return 0.0
        return self.direction.sign * (attempt.objective - before)

    def _answer_stall(self) -> int | None:
        island = super()._answer_stall()
        if island is not None:
            self.quotas.forget(island)
        return island

    def _objective_or_twins(self, attempt: LightAttempt) -> float | None:
        """Gives an attempt's objective, or that of its twin where it was rejected for one."""
        if attempt.status is not Status.REJECTED or attempt.fingerprint is None:
            return attempt.objective
        twin = self._first.get(attempt.fingerprint)
        return None if twin is None else self._objectives.get(twin)

    def _keep(self, attempt: LightAttempt) -> None:
        """Keeps what only baselines take parents from."""
        kind = self.islands.strategy.pool
        if kind == "evaluated" or (kind == "initial" and attempt.parent is None):
            axes = self.islands.archives[0].space.axes
            self._pool.append(
                _elite(attempt, locate(axes, attempt.measures), self._further(attempt))
            )


def _elite(
    attempt: LightAttempt, coordinates: tuple[float, ...], others: tuple[float, ...]
) -> Elite:
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
    )
