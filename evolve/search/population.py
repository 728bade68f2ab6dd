"""All that the search knows of committed attempts, as a fold over them.

So it can be rebuilt from the store at any generation, and nothing else needs to be saved.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from shlex import quote
from typing import Any

from evolve.archive import AddStatus, Elite, Islands
from evolve.archive.archives import locate
from evolve.archive.credit import Credit, HillClimbing, is_progress, merit_of, outranks
from evolve.errors import UsageError
from evolve.models.roster import ModelStats
from evolve.operators.tuning import TuningSessions
from evolve.problem import Problem, Stage
from evolve.records import INJECT, OPERATOR_JOIN, RESCORE, TUNE, Attempt, AttemptKey, Status
from evolve.records.plain import to_plain
from evolve.records.results import (
    Generation,
    LightAttempt,
    ModelUse,
    Payoff,
    gain_on_parent,
)
from evolve.search.schedule import StallWatch
from evolve.settings.sections import WITHOUT_MODEL, SearchSettings
from evolve.source.analysis import fingerprint
from evolve.store import Store
from evolve.toml import write_value

# Generations between migrations.
_MIGRATION_EVERY = 10
# An operator is rewarded for a program better than its parent; much less for one that only fills
# or improves another cell, which keeps the archive moving.
_REWARD_IMPROVED = 1.0
_REWARD_ACCEPTED = 0.1
# What is made so says nothing about its parent, nor about operators.
_UNBRED = frozenset({TUNE, RESCORE, INJECT})
# Programs that must have reached a stage before a share of them passes.
_FEWEST_REACHED = 8
# The facts that say what generations are folded with.
_FACT, _SPACE = "search", "space"
_generation_of = attrgetter("key.generation")
_slot_of = attrgetter("key.slot")


class Population:
    """What a run has reached, and all else that the next generation follows from.

    Args:
        problem: Measures and direction.
        settings: Islands, migration, selection.

    Attributes:
        generation: The last one that was added; -1 before the first.
        newest: The attempts of that generation.
        programs: How many were evaluated.
        evaluations: How often they were.
        progressed_at: Evaluations up to the last progress.
        initial: Objective of the starting program, the first that has one.
        samples: Attempts that were samples of tuning.
        tuned: The attempts whose constants they tuned.
        outcomes: How many attempts came to what.
        rejections: How many attempts were rejected, by reason.
        payoffs: What operators and models have brought, by kind and name.
    """

    def __init__(self, problem: Problem, settings: SearchSettings) -> None:
        self.direction, self.noise = problem.direction, problem.noise
        self.references = problem.references
        # Names of the further objectives.
        self.others = tuple(objective.name for objective in problem.objectives)
        directions = [objective.direction for objective in problem.objectives]
        self._make_islands = partial(
            Islands, problem.measures, problem.direction, settings, directions
        )
        self._settings = settings
        self.generation = -1
        self.newest: Sequence[LightAttempt] = ()
        self.programs = self.evaluations = self.progressed_at = self.samples = 0
        self.tuned: set[AttemptKey] = set()
        self.outcomes: Counter[Status] = Counter()
        self.rejections: Counter[str] = Counter()
        self.payoffs: dict[tuple[str, str], Payoff] = {}
        self._begin_anew()
        strategy = self.islands.strategy
        watches = "stalls" not in settings.without and not strategy.is_baseline
        self.stalls = StallWatch((settings.stall_after or WITHOUT_MODEL.stall_after) * watches)
        self.operators = Credit(decay=0.999, prior_uses=8.0, prior_rewards=0.4)
        self.sessions = TuningSessions()
        self.models = ModelStats()
        self.climbing = HillClimbing()
        self._climbs = "hill-climbing" not in settings.without and strategy.rule == "boltzmann"
        self._objectives: dict[AttemptKey, float] = {}
        self._first: dict[str, AttemptKey] = {}

    def _begin_anew(self) -> None:
        """Empties the archives: what another evaluator says does not compare."""
        self.islands = self._make_islands()
        self.initial: float | None = None
        self.champion: Elite | None = None
        self.start: Elite | None = None
        self._pool: list[Elite] = []
        # By stage, the objectives reached there, with the sign that makes larger better.
        self._reached: defaultdict[str, list[float]] = defaultdict(list)

    @property
    def entropy(self) -> float:
        """Returns the target of parent selection, half way to uniform in a stall."""
        target = self._settings.entropy
        return (1.0 + target) / 2.0 if self.stalls.level else target

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

    def find_duplicate(self, fingerprint: str, horizon: int) -> AttemptKey | None:
        """Returns the first evaluated attempt with a fingerprint, up to a generation."""
        key = self._first.get(fingerprint)
        return key if key is not None and key.generation <= horizon else None

    def objective_of(self, key: AttemptKey) -> float | None:
        """Returns the objective of an attempt that has one."""
        return self._objectives.get(key)

    def add(self, generation: int, attempts: Sequence[LightAttempt]) -> None:
        """Adds a generation, its attempts in slot order.

        Raises:
            ValueError: It is not the next one.
        """
        if generation != self.generation + 1:
            raise ValueError(f"generation: expected {self.generation + 1}, got {generation}")
        self.generation, self.newest = generation, attempts
        if any(attempt.operator == RESCORE for attempt in attempts):
            self._begin_anew()
        for attempt in attempts:
            self._add_attempt(attempt)
        if any(attempt.uses for attempt in attempts):
            for _, slot in groupby(attempts, key=_slot_of):
                self._credit_models(list(slot))
        if self.champion is not None:
            self.climbing.end_generation(self.champion.key)
        migrates = "migration" not in self._settings.without
        if migrates and generation and generation % _MIGRATION_EVERY == 0:
            self.islands.migrate()
        self.stalls.end_generation(generation, self.evaluations)

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

    def _add_attempt(self, attempt: LightAttempt) -> None:
        self._note_parent(attempt)
        champion = self.champion
        status = self._offer(attempt)
        self.outcomes[attempt.status] += 1
        if attempt.status is Status.REJECTED:
            self.rejections[attempt.reason] += 1
        else:
            self._note_evaluation(attempt, champion, status)
        if attempt.objective is not None:
            self._objectives[attempt.key] = attempt.objective
            self._keep(attempt)
        if attempt.operator:
            self._credit_operator(attempt, status)

    def _note_parent(self, attempt: LightAttempt) -> None:
        if attempt.parent is None:
            return
        if attempt.operator == TUNE:
            self.samples += 1
            self.tuned.add(attempt.parent)
        # A session makes hundreds of children: they do not say how the parent is used up.
        # What somebody put in is nobody's child.
        elif attempt.operator != INJECT and "visits" not in self._settings.without:
            self.islands.archives[attempt.island].record_child(attempt.parent)

    def _offer(self, attempt: LightAttempt) -> AddStatus:
        """Offers an attempt to the archive of its island, and as the champion."""
        objective, champion = attempt.objective, self.champion
        if objective is None:
            return AddStatus.NOT_ADDED
        archive = self.islands.archives[attempt.island]
        leads = champion is None or outranks(
            self.direction.sign,
            merit_of(objective, attempt.instances),
            champion.merit,
            self.noise,
        )
        # Most attempts of a long run end here.
        cell = archive.space.cell_of(locate(archive.space.axes, attempt.measures))
        if not leads and not archive.would_take(cell, objective, self._further(attempt)):
            return AddStatus.NOT_ADDED
        elite = self._make_elite(attempt, objective)
        if leads:
            self.champion = elite
        # The first with an objective, where the starting program has none.
        if attempt.parent is None or self.start is None:
            self.initial = objective
            self.start = elite
            self.islands.seed(elite)
            return AddStatus.NEW
        return archive.add(elite)

    def _note_evaluation(
        self, attempt: LightAttempt, before: Elite | None, status: AddStatus
    ) -> None:
        """Counts an evaluated attempt.

        Args:
            attempt: The attempt.
            before: The champion before it.
            status: What became of it in the archive.
        """
        self.programs += 1
        self.evaluations += attempt.evaluations
        for stage in attempt.stages:
            if stage.objective is not None:
                insort(self._reached[stage.name], self.direction.sign * stage.objective)
        # With several objectives there is progress beyond the champion's.
        progresses = self._note_progress(before) or bool(self.others and status)
        # Most samples are worse than their parent by design.
        if progresses or attempt.operator != TUNE:
            self.stalls.record(is_progress=progresses)
        if attempt.operator not in _UNBRED and attempt.parent is not None:
            self.climbing.record(attempt.parent, leads=self.champion is not before)
        if attempt.fingerprint is not None:
            self._first.setdefault(attempt.fingerprint, attempt.key)

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

    def _credit_operator(self, attempt: LightAttempt, status: AddStatus) -> None:
        operator, gain = attempt.operator, self._gain_on_parent(attempt)
        if attempt.parent is not None:
            self._note_use("operator", operator, attempt.objective is not None, gain)
        if operator == TUNE:
            self.sessions.record(attempt, self._objective_or_duplicates(attempt))
        # What several operators did in a leap says nothing about any of them.
        elif operator not in _UNBRED and OPERATOR_JOIN not in operator:
            improved = (gain or 0.0) > 0.0
            reward = _REWARD_IMPROVED if improved else _REWARD_ACCEPTED if status else 0.0
            self.operators.record(operator, reward)

    def _credit_models(self, slot: Sequence[LightAttempt]) -> None:
        """Credits the models that a slot asked with the best that came of it."""
        gains = [self._gain_on_parent(one) for one in slot]
        best = max((gain for gain in gains if gain is not None), default=None)
        is_scored = any(one.objective is not None for one in slot)
        if slot[0].uses:
            self.models.record(slot[0].uses, max(gain or 0.0 for gain in gains))
        for model in {use.model for use in slot[0].uses}:
            self._note_use("model", model, is_scored, best)

    def _note_use(self, kind: str, name: str, is_scored: bool, gain: float | None) -> None:  # noqa: FBT001
        before = self.payoffs.get((kind, name), Payoff(kind, name))
        self.payoffs[kind, name] = before.add(gain, is_scored=is_scored)

    def _gain_on_parent(self, attempt: LightAttempt) -> float | None:
        return gain_on_parent(attempt, self._objectives.get, self.direction)

    def _objective_or_duplicates(self, attempt: LightAttempt) -> float | None:
        """Returns an attempt's objective, or that of the program that it is a duplicate of."""
        if attempt.status is not Status.REJECTED or attempt.fingerprint is None:
            return attempt.objective
        earlier = self._first.get(attempt.fingerprint)
        return None if earlier is None else self._objectives.get(earlier)

    def _keep(self, attempt: LightAttempt) -> None:
        """Keeps what only baselines and `pareto` take parents from."""
        strategy, objective = self.islands.strategy, attempt.objective
        if objective is None:
            return
        if strategy.rule == "pareto":
            self._note_leads(self._make_elite(attempt, objective))
        elif strategy.pool == "evaluated" or (
            strategy.pool == "initial" and attempt.parent is None
        ):
            self._pool.append(self._make_elite(attempt, objective))

    def _note_leads(self, elite: Elite) -> None:
        """Puts a program in the place of those that it is better than, instance by instance."""
        reached = elite.merit.instances
        if len(self._pool) != len(reached):
            # The starting program, or another evaluator with other instances.
            self._pool = [elite] * len(reached)
        for number, objective in enumerate(reached):
            if self.direction.is_better(objective, self._pool[number].merit.instances[number]):
                self._pool[number] = elite

    def _further(self, attempt: LightAttempt) -> tuple[float, ...]:
        return tuple(attempt.metrics[name] for name in self.others)

    def _make_elite(self, attempt: LightAttempt, objective: float) -> Elite:
        """Returns the elite that an evaluated attempt would be.

        Raises:
            ValueError: It has no program.
        """
        if attempt.program_id is None:
            raise ValueError(f"attempt {attempt.key}: expected an evaluated program, got none")
        return Elite(
            key=attempt.key,
            program_id=attempt.program_id,
            objective=objective,
            measures=locate(self.islands.archives[0].space.axes, attempt.measures),
            origin=attempt.island,
            depth=attempt.depth,
            parent=attempt.parent,
            others=self._further(attempt),
            merit=merit_of(objective, attempt.instances),
        )


def light_attempts(generation: Generation) -> list[LightAttempt]:
    """Returns the attempts of a generation as the store will return them later."""
    return [_light(one, result.uses) for result in generation.slots for one in result.attempts]


def _light(attempt: Attempt, uses: tuple[ModelUse, ...]) -> LightAttempt:
    program, verdict = attempt.program, attempt.evaluation
    return LightAttempt(
        key=attempt.key,
        island=attempt.island,
        parent=attempt.parent,
        depth=attempt.depth,
        plan=attempt.plan,
        program_id=None if program is None else program.id,
        fingerprint=None if program is None else fingerprint(program),
        status=verdict.status,
        objective=verdict.objective,
        measures=verdict.measures,
        metrics=verdict.metrics,
        instances=verdict.instances,
        stages=verdict.stages,
        evaluations=len(verdict.repeats) or 1,
        seconds=verdict.seconds,
        reason=verdict.reason,
        uses=uses,
    )


def load_population(store: Store, problem: Problem, settings: SearchSettings) -> Population:
    """Returns what a run has reached as of its last committed generation.

    Raises:
        UsageError: The settings are not those that the run began with.
        StoreError: The database cannot be read.
    """
    expect_frozen(store, problem, settings)
    population = Population(problem, settings)
    last = store.last_generation()
    if last is not None:
        for _ in population.add_all(store.light_attempts(), last):
            pass
    return population


def freeze_past(store: Store, problem: Problem, settings: SearchSettings) -> None:
    """Writes down what generations are folded with.

    Raises:
        StoreError: The database cannot be written.
    """
    store.set_facts(**{_FACT: settings, _SPACE: _describe_space(problem)})


def expect_frozen(store: Store, problem: Problem, settings: SearchSettings) -> None:
    """Checks that all is as the run began with.

    Raises:
        UsageError: One was changed, by hand; the message says how to make a run with it.
        StoreError: The database cannot be read.
    """
    now, facts = to_plain(settings), store.facts()
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


def _describe_space(problem: Problem) -> Any:
    """Returns what elites are distinguished and compared by, as the database returns it."""
    return to_plain(
        {
            "direction": problem.direction,
            "measures": problem.measures,
            "objectives": problem.objectives,
        }
    )
