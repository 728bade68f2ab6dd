"""The population: archives, champion, credit of operators and models, known programs."""

from __future__ import annotations

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

from evolve.archive import AddStatus, Elite
from evolve.archive.archives import locate
from evolve.archive.credit import Credit, HillClimbing
from evolve.models.roster import ModelStats
from evolve.operators.sessions import TuningSessions
from evolve.population.state import RunState, make_elite
from evolve.problem import Problem, Stage
from evolve.records import INJECT, OPERATOR_JOIN, RESCORE, TUNE, AttemptKey, Status
from evolve.records.results import (
    Generation,
    LightAttempt,
    PlacedAttempt,
    SlotResult,
    gain_on_parent,
)
from evolve.settings.sections import SearchSettings
from evolve.source import fingerprint

# An operator is rewarded for a program better than its parent; much less for one that only fills
# or improves another cell, which keeps the archive moving.
_REWARD_IMPROVED = 1.0
_REWARD_ACCEPTED = 0.1
# What is made so says nothing about its parent, nor about operators.
_UNBRED = frozenset({TUNE, RESCORE, INJECT})
# Programs that must have reached a stage before a share of them passes.
_FEWEST_REACHED = 8
_uses_of = attrgetter("uses")
_slot_of = attrgetter("key.slot")


class Population(RunState):
    """What a run has reached, and all else that the next generation follows from."""

    def __init__(self, problem: Problem, settings: SearchSettings) -> None:
        super().__init__(problem, settings)
        self.operators = Credit(decay=0.999, prior_uses=8.0, prior_rewards=0.4)
        self.sessions = TuningSessions()
        self.models = ModelStats()
        self.climbing = HillClimbing()
        self._climbs = "hill-climbing" not in settings.without and (
            self.islands.strategy.rule == "boltzmann"
        )
        self._objectives: dict[AttemptKey, float] = {}
        self._first: dict[str, AttemptKey] = {}
        self._pool: list[Elite] = []
        self._leads = self.islands.strategy.rule == "pareto"
        # By stage, the objectives reached there, with the sign that makes larger better.
        self._reached: defaultdict[str, list[float]] = defaultdict(list)

    def bars(self, stages: Iterable[Stage]) -> dict[str, float]:
        """Returns the objective that lets a program go on in each stage that passes a share.

        Before some programs were there, all go on.
        """
        bars = {}
        for stage in stages:
            reached = self._reached[stage.name]
            if stage.share is not None and len(reached) >= _FEWEST_REACHED:
                passing = math.ceil(stage.share * len(reached))
                bars[stage.name] = self.direction.sign * reached[-passing]
        return bars

    def add(self, generation: int, attempts: Sequence[LightAttempt]) -> None:
        """Adds a generation, its attempts in slot order.

        Raises:
            ValueError: It is not the next one.
        """
        super().add(generation, attempts)
        if self.champion is not None:
            self.climbing.end_generation(self.champion.key)
        if not any(map(_uses_of, attempts)):
            return
        for _, group in groupby(attempts, key=_slot_of):
            slot = list(group)
            if slot[0].uses:
                self.models.record(slot[0].uses, max(map(self._gain_on_parent, slot)))

    @property
    def climbing_share(self) -> float:
        """Returns the share of slots that change the champion alone."""
        return self.climbing.share if self._climbs else 0.0

    @property
    def pool(self) -> Sequence[Elite]:
        """Returns where a baseline takes parents from, and `pareto`: the leader on each instance.

        Empty for other strategies.
        """
        if self.islands.strategy.pool == "champion" and self.champion is not None:
            return [self.champion]
        return self._pool

    def find_duplicate(self, fingerprint: str, horizon: int) -> AttemptKey | None:
        """Returns the first evaluated attempt with a fingerprint, up to a generation."""
        key = self._first.get(fingerprint)
        return key if key is not None and key.generation <= horizon else None

    def objective_of(self, key: AttemptKey) -> float | None:
        """Returns the objective of an attempt that has one."""
        return self._objectives.get(key)

    def _add_attempt(self, attempt: LightAttempt) -> AddStatus:
        operator, champion = attempt.operator, self.champion
        status = super()._add_attempt(attempt)
        for stage in attempt.stages:
            if stage.objective is not None:
                insort(self._reached[stage.name], self.direction.sign * stage.objective)
        is_evaluated = attempt.status is not Status.REJECTED
        if operator not in _UNBRED and attempt.parent is not None and is_evaluated:
            self.climbing.record(attempt.parent, leads=self.champion is not champion)
        if is_evaluated and attempt.fingerprint is not None:
            self._first.setdefault(attempt.fingerprint, attempt.key)
        if attempt.objective is not None:
            self._objectives[attempt.key] = attempt.objective
            self._keep(attempt)
        if operator == TUNE:
            self.sessions.record(attempt, self._objective_or_duplicates(attempt))
        # What several operators did in a leap says nothing about any of them.
        elif operator and operator not in _UNBRED and OPERATOR_JOIN not in operator:
            improved = self._gain_on_parent(attempt) > 0.0
            reward = _REWARD_IMPROVED if improved else _REWARD_ACCEPTED if status else 0.0
            self.operators.record(operator, reward)
        return status

    def _begin_anew(self) -> None:
        super()._begin_anew()
        self._pool = []
        self._reached.clear()

    def _gain_on_parent(self, attempt: LightAttempt) -> float:
        """Returns what a program gained on its parent, 0 where it has no objective."""
        return gain_on_parent(attempt, self._objectives.get, self.direction) or 0.0

    def _objective_or_duplicates(self, attempt: LightAttempt) -> float | None:
        """Returns an attempt's objective, or that of the program that it is a duplicate of."""
        if attempt.status is not Status.REJECTED or attempt.fingerprint is None:
            return attempt.objective
        earlier = self._first.get(attempt.fingerprint)
        return None if earlier is None else self._objectives.get(earlier)

    def _keep(self, attempt: LightAttempt) -> None:
        """Keeps what only baselines take parents from."""
        pool = self.islands.strategy.pool
        if self._leads:
            self._note_leads(attempt)
        elif pool == "evaluated" or (pool == "initial" and attempt.parent is None):
            axes = self.islands.archives[0].space.axes
            self._pool.append(
                make_elite(attempt, locate(axes, attempt.measures), self._further(attempt))
            )

    def _note_leads(self, attempt: LightAttempt) -> None:
        """Puts a program in the place of those that it is better than, instance by instance."""
        axes = self.islands.archives[0].space.axes
        elite = make_elite(attempt, locate(axes, attempt.measures), self._further(attempt))
        reached = elite.merit.instances
        if len(self._pool) != len(reached):
            # The starting program, or another evaluator with other instances.
            self._pool = [elite] * len(reached)
        for number, objective in enumerate(reached):
            if self.direction.is_better(objective, self._pool[number].merit.instances[number]):
                self._pool[number] = elite


def light_attempts(generation: Generation) -> list[LightAttempt]:
    """Returns the attempts of a generation as the store will return them later."""
    return [_light(placed, result) for result in generation.slots for placed in result.attempts]


def _light(placed: PlacedAttempt, result: SlotResult) -> LightAttempt:
    attempt = placed.attempt
    program = attempt.program
    return LightAttempt(
        key=attempt.key,
        island=attempt.island,
        parent=attempt.parent,
        depth=attempt.depth,
        operator=attempt.plan.operator if attempt.plan else "",
        program_id=None if program is None else program.id,
        fingerprint=None if program is None else fingerprint(program),
        status=attempt.evaluation.status,
        objective=attempt.objective,
        measures=attempt.evaluation.measures,
        metrics=attempt.evaluation.metrics,
        instances=attempt.evaluation.instances,
        stages=attempt.evaluation.stages,
        evaluations=len(attempt.evaluation.repeats) or 1,
        uses=result.uses,
    )
