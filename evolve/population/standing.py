"""What a run has reached, as a fold over its committed attempts."""

from __future__ import annotations

import math
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from evolve.archive import AddStatus, Elite
from evolve.archive.cells import locate
from evolve.archive.islands import Islands
from evolve.archive.progress import Merit, is_progress, outranks
from evolve.archive.stalls import StallDetector, StallLevel
from evolve.records import TUNE, VALIDATION, Status
from evolve.settings.sections import WITHOUT_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from evolve.problem import Problem
    from evolve.records import AttemptKey
    from evolve.records.results import LightAttempt
    from evolve.settings.sections import SearchSettings

# Programs around which cells are cut where `search.centroids` says so.
_START_PROGRAMS = 64
_generation_of = attrgetter("key.generation")


class Standing:
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
        self.islands = Islands(problem.measures, problem.direction, settings, directions)
        # Coordinates of the first programs, while cells are yet to be cut around them.
        self.first_places: list[tuple[float, ...]] = []
        self.is_cut = False
        self.generation = -1
        self.evaluations = 0
        self.initial: float | None = None
        # Evaluations up to the last progress.
        self.progressed_at = 0
        self.champion: Elite | None = None
        # Samples of the tuning lane, and the attempts whose constants they tuned.
        self.samples = 0
        self.tuned: set[AttemptKey] = set()
        self.start: Elite | None = None
        # A resume tells all attempts again: what each of them asks for is looked up once.
        self._settings = settings
        self._sign = problem.direction.sign
        self._noise = problem.noise
        self._notes_places = settings.centroids == "start"
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
        """Returns the target of parent selection, half way to uniform in a stall."""
        target = self._settings.entropy
        return (1.0 + target) / 2.0 if self.stalls.level else target

    def tell_all(self, attempts: Iterable[LightAttempt], last: int) -> Iterator[int]:
        """Takes in all generations that follow, up to `last`, and gives each number once told.

        Args:
            attempts: Those of the generations that follow, in order.
            last: The last committed generation; some generations may have no attempts.
        """
        groups = groupby(attempts, key=_generation_of)
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
        if attempt.parent is not None:
            # A session makes hundreds of children: they do not say how the parent is used up.
            if is_sample:
                self.samples += 1
                self.tuned.add(attempt.parent)
            else:
                cell = archive.count_child(attempt.parent)
        champion = self.champion
        status = self._add(attempt)
        if attempt.status is not Status.REJECTED:
            self.evaluations += 1
            objective = attempt.objective
            utility = -math.inf if objective is None else self._sign * objective
            # With several objectives there is progress beside the champion's.
            leads = self._note_progress(champion) or bool(self.others and status)
            # Most samples are worse than their parent by design.
            if leads or not is_sample:
                self.stalls.tell(utility, leads=leads)
            if cell is not None:
                archive.credit(cell, accepted=bool(status))
        return status

    def _add(self, attempt: LightAttempt) -> AddStatus:
        objective = attempt.objective
        if objective is None:
            return AddStatus.NOT_ADDED
        archive = self.islands.archives[attempt.island]
        coordinates = locate(archive.space.axes, attempt.measures)
        leads = self._outranks_champion(attempt, objective)
        others = self._further(attempt) if self.others else ()
        if self._notes_places and len(self.first_places) < _START_PROGRAMS:
            self.first_places.append(coordinates)
        # Most attempts of a long run end here.
        if not leads and not archive.takes(archive.space.cell_of(coordinates), objective, others):
            return AddStatus.NOT_ADDED
        elite = make_elite(attempt, coordinates, others)
        if leads:
            self.champion = elite
        if attempt.parent is None:
            self.initial = objective
            self.start = elite
            self.islands.seed(elite)
            return AddStatus.NEW
        return archive.add(elite)

    def _outranks_champion(self, attempt: LightAttempt, objective: float) -> bool:
        champion = self.champion
        if champion is None:
            return True
        return outranks(self._sign, merit_of(attempt, objective), champion.merit, self._noise)

    def _note_progress(self, before: Elite | None) -> bool:
        """Returns whether the champion is new and enough better than the one before."""
        champion = self.champion
        if champion is None or champion is before:
            return False
        if before is None or self.initial is None:
            self.progressed_at = self.evaluations
            return True
        gain = self._sign * (champion.objective - before.objective)
        # By instances a champion may be better whose objective is not.
        gained = self._sign * (before.objective - self.initial)
        if gain <= 0.0 or is_progress(gain, gained):
            self.progressed_at = self.evaluations
            return True
        return False

    def _further(self, attempt: LightAttempt) -> tuple[float, ...]:
        return tuple(attempt.metrics[name] for name in self.others)

    def _cut_cells(self) -> None:
        """Cuts cells around the first programs, once there are enough of them."""
        if len(self.first_places) == _START_PROGRAMS and not self.is_cut:
            self.islands.cut_around(self.first_places)
            self.is_cut = True

    def _answer_stall(self) -> int | None:
        """Returns the island that restarted, if one did."""
        response = self.stalls.decide(self.generation, self.evaluations)
        if response is None or response.level is not StallLevel.RESTART or self.start is None:
            return None
        island = self.islands.restart_weakest(self.start)
        if island is not None:
            self.stalls.name_island(island)
        return island


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
        merit=merit_of(attempt, attempt.objective),
    )


def merit_of(attempt: LightAttempt, objective: float) -> Merit:
    """Returns what decides between an evaluated attempt and the champion."""
    if not attempt.instances:
        return Merit(objective)
    names = sorted(attempt.instances)
    kept = tuple(attempt.instances[name] for name in names if name.startswith(VALIDATION))
    fitted = tuple(attempt.instances[name] for name in names if not name.startswith(VALIDATION))
    return Merit(objective, fitted, kept)
