"""What each slot of a generation is given: from the population and the store to jobs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from evolve.archive.choices import Chooser
from evolve.archive.stalls import StallLevel
from evolve.models.bandit import draw_by_weight
from evolve.models.roster import Part, make_roster
from evolve.operators import OperatorStats
from evolve.operators.lane import Lane
from evolve.records import Ancestor, Selection
from evolve.search.digests import DigestMaker
from evolve.search.library import RunLibrary
from evolve.source.sketches import sketch_program
from evolve.steps.start import PlanBoard
from evolve.steps.tools import Job

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evolve.archive import Elite
    from evolve.population import Population
    from evolve.records import AttemptKey
    from evolve.search.schedule import Turn
    from evolve.settings import LoopSettings, Settings
    from evolve.settings.launches import SettingsHistory
    from evolve.store import Store

_KEPT = 1024
# In a long stall, one slot in so many leaps.
_LEAPS = 4


class JobMaker:
    """Makes the jobs of generations; keeps what it loads, for parents are chosen again and again.

    Args:
        population: Its state when a generation is launched is what the jobs follow from.
        store: May hold later generations, when a run is resumed; they are passed over.
        history: The settings of each generation.
    """

    def __init__(self, population: Population, store: Store, history: SettingsHistory) -> None:
        self._population = population
        self._store = store
        self._history = history
        self._sketches: dict[str, NDArray[np.uint32]] = {}
        self._load = lru_cache(maxsize=_KEPT)(self._load_ancestor)
        self._lane = Lane(
            population,
            lambda key: self._load(key).attempt.program_or_fail,
            history.now.loop.seed,
        )
        self.digests = DigestMaker(store, history, population.direction, self._load)

    def make_jobs(self, turn: Turn) -> list[Job]:
        """Gives the jobs of a generation, from the population's state; the lane's comes last."""
        population, settings = self._population, self._history.at(turn.generation)
        loop = settings.loop
        islands, horizon = population.islands, population.generation
        with_model = settings.models.is_configured
        if with_model:
            self.digests.advance(horizon)
        slots, level = len(turn.allowances), population.stalls.level
        chooser = Chooser(
            islands,
            entropy=population.entropy,
            pool=population.pool,
            sketch_of=self._sketch,
            champion=population.champion,
            climb=population.climbs.share,
            alone=not with_model,
        )
        # Streams apart from the slots' own, which their steps draw from.
        drawn = np.random.default_rng([loop.seed, turn.generation, loop.slots, 2])
        assigned = population.quotas.assign(turn.generation, slots, drawn)
        # Without experience all operators are alike.
        operators = OperatorStats() if level >= StallLevel.OPERATORS else population.operators
        steps = settings.steps
        board = PlanBoard(slots) if turn.generation == 1 and steps.diverse_start else None
        jobs = []
        for slot, island in enumerate(assigned):
            choice = chooser.choose(
                island, np.random.default_rng([loop.seed, turn.generation, slot, 1])
            )
            selection = Selection(
                self._load(choice.parent.key),
                tuple(self._load(elite.key) for elite in choice.inspirations),
            )
            digest = (
                self.digests.make(selection, turn.generation, population.evaluations)
                if with_model
                else None
            )
            jobs.append(
                Job(
                    generation=turn.generation,
                    slot=slot,
                    island=choice.island,
                    selection=selection,
                    digest=digest,
                    operators=None if with_model else operators,
                    open_tuner=None,
                    evaluations=turn.allowances[slot],
                    stall=level,
                    leap=level >= StallLevel.LEAP and (turn.generation + slot) % _LEAPS == 0,
                    find_twin=lambda mark: population.find_twin(mark, horizon),
                    objective_of=population.objective_of,
                    library=self._open_library(choice.island, settings) if with_model else None,
                    board=board if with_model else None,
                    parts=self._cast(settings, turn.generation, slot, level),
                )
            )
        return jobs + (self._make_tuning_job(turn, loop) if turn.tuning else [])

    def _make_tuning_job(self, turn: Turn, loop: LoopSettings) -> list[Job]:
        """Gives the job of the tuning lane, whose slot is the one after all others."""
        population = self._population
        horizon = population.generation
        rng = np.random.default_rng([loop.seed, turn.generation, loop.slots, 1])
        session = self._lane.next_session(rng)
        if session is None:
            return []
        return [
            Job(
                generation=turn.generation,
                slot=loop.slots,
                island=session.island,
                selection=Selection(self._load(session.start)),
                digest=None,
                operators=None,
                open_tuner=lambda: self._lane.open_tuner(session.start),
                evaluations=turn.tuning,
                find_twin=lambda mark: population.find_twin(mark, horizon),
                objective_of=population.objective_of,
            )
        ]

    def _open_library(self, island: int, settings: Settings) -> RunLibrary | None:
        """Gives what an agent may read; None where there is no agent."""
        if settings.steps.executor == "chat":
            return None
        population = self._population
        elites = list(population.islands.archives[island].elites)
        sign = population.direction.sign
        return RunLibrary(self._store.folder, population.generation, elites, sign)

    def _cast(
        self, settings: Settings, generation: int, slot: int, level: StallLevel
    ) -> dict[str, Part]:
        """Gives who plays each role in a slot, and how."""
        rng = np.random.default_rng([settings.loop.seed, generation, slot, 3])
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
            known = sketch_program(self._load(elite.key).attempt.program_or_fail)
            self._sketches[elite.program_id] = known
        return known

    def _load_ancestor(self, key: AttemptKey) -> Ancestor:
        summary = self._store.load_lesson(key.generation, key.slot)
        return Ancestor(self._store.load_attempt(key), summary.lesson if summary else "")
