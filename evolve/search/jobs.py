"""What each generation is given: from the population and the store to jobs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from evolve.archive.choices import Chooser
from evolve.archive.stalls import StallLevel
from evolve.models.bandit import draw_by_weight
from evolve.models.roster import Part, make_roster
from evolve.operators import OperatorStats
from evolve.operators.lane import Lane
from evolve.records import Selection
from evolve.search.digests import DigestMaker
from evolve.search.generation import WHOLE
from evolve.search.library import RunLibrary
from evolve.search.shown import choose_shown
from evolve.source.signatures import sign_source
from evolve.steps.digest import Seat
from evolve.steps.jobs import GenerationJob, ModelJob, OperatorJob, TuningJob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from evolve.archive import Elite
    from evolve.population import Population
    from evolve.problem import Problem
    from evolve.records import AttemptKey, Plan
    from evolve.search.schedule import Turn
    from evolve.settings import Settings
    from evolve.settings.launches import SettingsHistory
    from evolve.steps.digest import Digest
    from evolve.store import Store

_KEPT = 1024
# In a long stall, one slot in so many leaps.
_LEAPS = 4


@dataclass(frozen=True, slots=True)
class KnownPrograms:
    """What was evaluated up to the generation that jobs follow from."""

    population: Population
    horizon: int

    def find_duplicate(self, fingerprint: str) -> AttemptKey | None:
        """Returns the first evaluated attempt with a fingerprint; None where there is none."""
        return self.population.find_duplicate(fingerprint, self.horizon)

    def objective_of(self, key: AttemptKey) -> float | None:
        """Returns the objective of an attempt that has one."""
        return self.population.objective_of(key)


class JobMaker:
    """Makes the jobs of generations; keeps what it loads, for parents are chosen again and again.

    Args:
        problem: What is solved.
        population: Its state when a generation is launched is what the jobs follow from.
        store: May hold later generations, when a run is resumed; they are ignored.
        history: The settings of each generation.
    """

    def __init__(
        self, problem: Problem, population: Population, store: Store, history: SettingsHistory
    ) -> None:
        self._problem = problem
        self._population = population
        self._store = store
        self._history = history
        self._sketches: dict[str, NDArray[np.uint32]] = {}
        self._load = lru_cache(maxsize=_KEPT)(store.load_attempt)
        self._lane = Lane(
            population, lambda key: self._load(key).program_or_fail, history.now.loop.seed
        )
        self._digests = DigestMaker(store, history, population.direction)

    def make_job(self, turn: Turn, pending: Sequence[Plan] = ()) -> GenerationJob:
        """Returns the job of a generation, from the population's state.

        Args:
            turn: The generation that may start.
            pending: Plans of the generations in flight.
        """
        settings = self._history.at(turn.generation)
        known = KnownPrograms(self._population, self._population.generation)
        tuning = self._make_tuning_jobs(turn, settings) if turn.tuning else []
        if not settings.models.is_configured:
            slots = self._make_operator_jobs(turn, settings)
            return GenerationJob(turn.generation, (*slots, *tuning), known)
        return GenerationJob(
            turn.generation,
            (*self._make_model_jobs(turn, settings), *tuning),
            known,
            digest=self._make_digest(turn, settings, pending),
            parts=self._cast(settings, turn.generation, WHOLE),
            # A baseline learns nothing.
            summarizes=settings.steps.summarize and not self._is_baseline,
        )

    @property
    def _is_baseline(self) -> bool:
        return self._population.islands.strategy.is_baseline

    def _make_operator_jobs(self, turn: Turn, settings: Settings) -> list[OperatorJob]:
        population, loop = self._population, settings.loop
        slots, level = len(turn.allowances), population.stalls.level
        chooser = Chooser(
            population.islands,
            entropy=population.entropy,
            pool=population.pool,
            sketch_of=self._sketch,
            champion=population.champion,
            climb=population.climbs.share,
        )
        # Streams apart from the slots' own, which their steps draw from.
        drawn = np.random.default_rng([loop.seed, turn.generation, loop.slots, 2])
        assigned = population.quotas.assign(turn.generation, slots, drawn)
        # Without experience all operators are alike.
        operators = OperatorStats() if level >= StallLevel.OPERATORS else population.operators
        jobs = []
        for slot, island in enumerate(assigned):
            rng = np.random.default_rng([loop.seed, turn.generation, slot, 1])
            choice = chooser.choose(island, rng)
            selection = Selection(
                self._load(choice.parent.key),
                tuple(self._load(elite.key) for elite in choice.inspirations),
            )
            leap = self._leaps(turn.generation, slot)
            jobs.append(OperatorJob(slot, choice.island, selection, operators, leap))
        return jobs

    def _make_model_jobs(self, turn: Turn, settings: Settings) -> list[ModelJob]:
        # A baseline draws from the same prompt again and again.
        count = 1 if self._is_baseline else len(turn.allowances)
        return [
            ModelJob(
                slot=slot,
                seat=Seat(slot % count, count, leap=self._leaps(turn.generation, slot)),
                evaluations=allowance,
                parts=self._cast(settings, turn.generation, slot),
                library=self._open_library(settings),
            )
            for slot, allowance in enumerate(turn.allowances)
        ]

    def _make_digest(self, turn: Turn, settings: Settings, pending: Sequence[Plan]) -> Digest:
        population = self._population
        rng = np.random.default_rng([settings.loop.seed, turn.generation, WHOLE % 2**32, 1])
        if self._is_baseline:
            pool = population.pool
            shown = [pool[int(rng.integers(len(pool)))]]
        else:
            shown = choose_shown(
                population,
                rng,
                count=1 + settings.search.inspirations,
                sketch_of=self._sketch,
                skeleton_of=lambda elite: self._lane.skeleton_of(elite.key),
            )
        return self._digests.make(
            population,
            turn,
            [self._load(elite.key) for elite in shown],
            pending=tuple(pending),
        )

    def _make_tuning_jobs(self, turn: Turn, settings: Settings) -> list[TuningJob]:
        """Returns the jobs of the tuning lane, whose slots are those after all others."""
        first = settings.loop.slots
        if settings.models.is_configured:
            shares = self._lane.share_out(turn.tuning)
        else:
            rng = np.random.default_rng([settings.loop.seed, turn.generation, first, 1])
            session = self._lane.next_session(rng)
            shares = [] if session is None else [(session, turn.tuning)]
        return [
            TuningJob(
                slot=first + number,
                island=session.island,
                start=self._load(session.start),
                tuner=self._lane.open_tuner(session.start),
                evaluations=count,
            )
            for number, (session, count) in enumerate(shares)
        ]

    def _leaps(self, generation: int, slot: int) -> bool:
        level = self._population.stalls.level
        return level >= StallLevel.LEAP and (generation + slot) % _LEAPS == 0

    def _open_library(self, settings: Settings) -> RunLibrary | None:
        """Returns what an agent may read; None where there is no agent."""
        executor, level = settings.steps.executor, self._population.stalls.level
        if executor == "chat" or (executor == "fuse" and level is StallLevel.NONE):
            return None
        population = self._population
        elites = [elite for one in population.islands.archives for elite in one.elites]
        return RunLibrary(self._store.folder, self._problem, population.generation, elites)

    def _cast(self, settings: Settings, generation: int, slot: int) -> dict[str, Part]:
        """Returns who plays each role in a slot, and how."""
        rng = np.random.default_rng([settings.loop.seed, generation, slot % 2**32, 3])
        level = self._population.stalls.level
        learns = settings.models.choice == "bandit" and level < StallLevel.OPERATORS
        parts = {}
        for role, candidates in make_roster(settings.models).items():
            if learns:
                stats, thrift = self._population.models, settings.models.thrift
                model = stats.choose(role, candidates, rng, thrift=thrift)
            else:
                model = draw_by_weight(candidates, rng)
            effort = getattr(settings.effort, role) or settings.models.effort
            parts[role] = Part(model, getattr(settings.temperature, role), effort)
        return parts

    def _sketch(self, elite: Elite) -> NDArray[np.uint32]:
        known = self._sketches.get(elite.program_id)
        if known is None:
            known = sign_source(self._load(elite.key).program_or_fail)
            self._sketches[elite.program_id] = known
        return known
