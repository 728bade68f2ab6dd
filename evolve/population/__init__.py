"""All that the search knows of committed attempts: archives, champion, operators, known programs.

The state is a fold over committed attempts, so that it can be rebuilt from the store at any
generation and nothing else needs to be saved.
"""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from evolve.archive.cells import locate
from evolve.archive.climbs import Climbs
from evolve.archive.quotas import SlotQuotas
from evolve.models.roles import ModelStats
from evolve.population.standing import Standing, make_elite
from evolve.records import OPERATOR_JOIN, TUNE, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.archive import AddStatus, Elite
    from evolve.problem import Problem
    from evolve.records import AttemptKey
    from evolve.records.results import LightAttempt
    from evolve.settings.sections import SearchSettings

__all__ = ["Population", "Standing"]

_uses_of = attrgetter("uses")
_slot_of = attrgetter("key.slot")


class Population(Standing):
    """The state of the search after a number of committed generations."""

    def __init__(self, problem: Problem, settings: SearchSettings) -> None:
        # What looks at a run needs only what it has reached.
        from evolve.operators import OperatorStats
        from evolve.operators.lane import Sessions

        super().__init__(problem, settings)
        self.operators = OperatorStats()
        self.sessions = Sessions()
        self.models = ModelStats()
        self._objectives: dict[AttemptKey, float] = {}
        self._first: dict[str, AttemptKey] = {}
        climbs = "climbs" not in settings.without and self.islands.strategy.rule == "boltzmann"
        self.climbs = Climbs(is_on=climbs)
        self.quotas = SlotQuotas(settings.islands, by_progress=settings.quota == "progress")
        self._pool: list[Elite] = []
        self._keeps = self.islands.strategy.pool in {"evaluated", "initial"}

    def tell(self, generation: int, attempts: Sequence[LightAttempt]) -> None:
        """Takes in a generation, its attempts in slot order.

        Raises:
            ValueError: It is not the next one.
        """
        super().tell(generation, attempts)
        if self.champion is not None:
            self.climbs.end_generation(self.champion.key)
        if not any(map(_uses_of, attempts)):
            return
        for _, group in groupby(attempts, key=_slot_of):
            told = list(group)
            if told[0].uses:
                self.models.record(told[0].uses, max(map(self._find_gain, told)))

    @property
    def pool(self) -> Sequence[Elite]:
        """Returns where a baseline takes parents from; empty for other strategies."""
        if self.islands.strategy.pool == "champion" and self.champion is not None:
            return [self.champion]
        return self._pool

    def find_duplicate(self, mark: str, horizon: int) -> AttemptKey | None:
        """Returns the first evaluated attempt with a fingerprint, up to a generation."""
        key = self._first.get(mark)
        return key if key is not None and key.generation <= horizon else None

    def objective_of(self, key: AttemptKey) -> float | None:
        """Returns the objective of an attempt that has one."""
        return self._objectives.get(key)

    def _tell_attempt(self, attempt: LightAttempt) -> AddStatus:
        archive, operator = self.islands.archives[attempt.island], attempt.operator
        best, champion = archive.best, self.champion
        status = super()._tell_attempt(attempt)
        if operator != TUNE:
            leads = bool(status) and archive.best is not best
            self.quotas.record(attempt.island, leads=leads, taken=bool(status))
            if attempt.parent is not None and attempt.status is not Status.REJECTED:
                self.climbs.record(attempt.parent, leads=self.champion is not champion)
        if attempt.status is not Status.REJECTED and attempt.fingerprint is not None:
            self._first.setdefault(attempt.fingerprint, attempt.key)
        if attempt.objective is not None:
            self._objectives[attempt.key] = attempt.objective
            if self._keeps:
                self._keep(attempt)
        if operator == TUNE:
            self.sessions.record(attempt, self._objective_or_duplicates(attempt))
        # What several operators did in a leap tells nothing about any of them.
        elif operator and OPERATOR_JOIN not in operator:
            improved = self._find_gain(attempt) > 0.0
            self.operators = self.operators.record(
                operator, improved=improved, accepted=bool(status)
            )
        return status

    def _find_gain(self, attempt: LightAttempt) -> float:
        """Returns what a program gained on its parent, 0 where it has no objective."""
        before = None if attempt.parent is None else self._objectives.get(attempt.parent)
        if attempt.objective is None or before is None:
            return 0.0
        return self.direction.sign * (attempt.objective - before)

    def _answer_stall(self) -> int | None:
        island = super()._answer_stall()
        if island is not None:
            self.quotas.forget(island)
        return island

    def _objective_or_duplicates(self, attempt: LightAttempt) -> float | None:
        """Returns an attempt's objective, or that of its twin where it was rejected for one."""
        if attempt.status is not Status.REJECTED or attempt.fingerprint is None:
            return attempt.objective
        twin = self._first.get(attempt.fingerprint)
        return None if twin is None else self._objectives.get(twin)

    def _keep(self, attempt: LightAttempt) -> None:
        """Keeps what only baselines take parents from."""
        if self.islands.strategy.pool == "evaluated" or attempt.parent is None:
            axes = self.islands.archives[0].space.axes
            self._pool.append(
                make_elite(attempt, locate(axes, attempt.measures), self._further(attempt))
            )
