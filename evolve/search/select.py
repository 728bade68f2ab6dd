"""What each generation is given: from the population and the store to jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from evolve.archive import Elite
from evolve.archive.selection import INSPIRATIONS, ParentSelector, make_lottery
from evolve.models.roster import Part, draw_by_weight
from evolve.operators.changes import operator_chances
from evolve.operators.tuning import MOST_SESSIONS, TuningPlanner
from evolve.problem import Problem
from evolve.records import INITIAL, Attempt, AttemptKey, Plan, Program, Selection
from evolve.records.results import Steering, steering_of
from evolve.search.generation import WHOLE
from evolve.search.knowledge import DigestMaker, RunLibrary
from evolve.search.population import Population
from evolve.search.schedule import Turn
from evolve.settings import Settings, SettingsHistory
from evolve.settings.sections import LoopSettings, SearchSettings, StepSettings
from evolve.source.analysis import share_in_common, sign_source
from evolve.steps.jobs import (
    Confirmation,
    GenerationJob,
    InjectedJob,
    ModelJob,
    OperatorJob,
    Rules,
    Seat,
    SlotJob,
    Tool,
    TuningJob,
)
from evolve.store import Store

_KEPT = 1024
# In a long stall, one slot of these leaps.
_LEAPS = 4


class JobMaker:
    """Makes the jobs of generations; keeps what it loads, for parents are chosen again and again.

    Args:
        problem: What is solved.
        population: Its state when a generation starts is what the jobs follow from.
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
        self._signatures: dict[str, NDArray[np.uint32]] = {}
        self._load = lru_cache(maxsize=_KEPT)(store.load_attempt)
        self._tuning = TuningPlanner(
            population, lambda key: self._load(key).program_or_fail, history.now.loop.seed
        )
        self._digests = DigestMaker(store, history, problem)

    def select(self, turn: Turn, pending: Sequence[Plan] = ()) -> GenerationJob:
        """Returns the job of a generation, from the population's state.

        Args:
            turn: The generation that may start.
            pending: Plans of the generations in flight.
        """
        settings, population = self._history.at(turn.generation), self._population
        with_model = settings.models.is_configured
        steering = steering_of(self._store.steering(), turn.generation)
        slots: list[SlotJob] = []
        if with_model:
            slots += self._make_model_jobs(turn, settings)
        else:
            slots += self._make_operator_jobs(turn, settings, steering.pins)
        if turn.tuning:
            slots += self._make_tuning_jobs(turn, settings.loop, with_model=with_model)
        slots += self._make_injected_jobs(steering, settings)
        job = GenerationJob(
            turn.generation,
            tuple(slots),
            partial(population.find_duplicate, horizon=population.generation),
            population.objective_of,
            Rules(self._confirm(settings.search), population.bars(self._problem.stages)),
        )
        if not with_model:
            return job
        programs = self._choose_programs(turn, settings, steering.pins)
        return replace(
            job,
            digest=self._digests.make(
                population, turn, programs, pending=tuple(pending), steering=steering
            ),
            parts=self._cast(settings, turn.generation, WHOLE),
            # A baseline learns nothing.
            summarizes="summaries" not in settings.search.without and not self._is_baseline,
        )

    def _confirm(self, settings: SearchSettings) -> Confirmation | None:
        """Returns which programs are evaluated again: none where objectives are exact."""
        champion, times = self._population.champion, repeats_of(self._problem, settings)
        if champion is None or not times:
            return None
        return Confirmation(self._problem.direction, champion.objective, times)

    @property
    def _is_baseline(self) -> bool:
        return self._population.islands.strategy.is_baseline

    def _make_operator_jobs(
        self, turn: Turn, settings: Settings, pins: Sequence[AttemptKey]
    ) -> list[OperatorJob]:
        population, loop = self._population, settings.loop
        selector = ParentSelector(
            population.islands,
            entropy=population.entropy,
            pool=population.pool,
            signature_of=self._signature,
            champion=population.champion,
            climbing=population.climbing_share,
        )
        credit = None if "bandit" in settings.search.without else population.operators
        chances = operator_chances(credit)
        assigned = population.islands.assign_slots(turn.generation, len(turn.allowances))
        jobs = []
        for slot, island in enumerate(assigned):
            rng = np.random.default_rng([loop.seed, turn.generation, slot, 1])
            elites = selector.select(island, rng)
            selection = Selection(
                self._load(elites.parent.key),
                tuple(self._load(elite.key) for elite in elites.inspirations),
            )
            leap = self._leaps(turn.generation, slot)
            jobs.append(OperatorJob(slot, elites.island, selection, chances, leap))
        # One slot works on a pinned program; where there is no other, in every second generation.
        if pins and (len(jobs) > 1 or turn.generation % 2):
            pinned = self._load(pins[turn.generation % len(pins)])
            last = jobs[-1]
            selection = replace(last.selection, parent=pinned)
            jobs[-1] = replace(last, island=pinned.island, selection=selection)
        return jobs

    def _make_injected_jobs(self, steering: Steering, settings: Settings) -> list[InjectedJob]:
        """Returns the jobs of the programs that people put in, after all slots of tuning."""
        first = settings.loop.slots + MOST_SESSIONS
        return [
            InjectedJob(
                slot=first + number,
                island=steer.number % settings.search.islands,
                start=self._load(INITIAL),
                program=Program(steer.files),
                origin=steer.text,
            )
            for number, steer in enumerate(steering.injected)
        ]

    def _make_model_jobs(self, turn: Turn, settings: Settings) -> list[ModelJob]:
        # A baseline draws from the same prompt again and again.
        count = 1 if self._is_baseline else len(turn.allowances)
        return [
            ModelJob(
                slot=slot,
                seat=Seat(slot % count, count, leap=self._leaps(turn.generation, slot)),
                island=slot % count % settings.search.islands,
                evaluations=allowance,
                parts=self._cast(settings, turn.generation, slot),
                tools=self._open_tools(settings.steps),
            )
            for slot, allowance in enumerate(turn.allowances)
        ]

    def _choose_programs(
        self, turn: Turn, settings: Settings, pins: Sequence[AttemptKey]
    ) -> list[Attempt]:
        """Returns the programs that the prompts of a generation show."""
        population, count = self._population, 1 + INSPIRATIONS
        rng = np.random.default_rng([settings.loop.seed, turn.generation, WHOLE % 2**32, 1])
        if population.champion is None:
            # No start has an objective yet: there is nothing else to work on.
            return [self._load(key) for key in self._store.keys_of(0)[:count]]
        if self._is_baseline:
            pool = population.pool
            shown = [pool[int(rng.integers(len(pool)))]]
        else:
            page = _Page(population, self._signature, self._tuning.skeleton_of)
            shown = page.fill(count, rng)
        return self._with_pinned([elite.key for elite in shown], pins)

    def _with_pinned(
        self, shown: Sequence[AttemptKey], pins: Sequence[AttemptKey]
    ) -> list[Attempt]:
        """Returns the programs that a prompt shows: pinned ones in the place of the last."""
        champion, others = shown[0], [key for key in shown[1:] if key not in pins]
        chosen = list(dict.fromkeys([champion, *pins]))
        chosen += others[: max(0, len(shown) - len(chosen))]
        return [self._load(key) for key in chosen]

    def _make_tuning_jobs(
        self, turn: Turn, loop: LoopSettings, *, with_model: bool
    ) -> list[TuningJob]:
        """Returns the jobs that tune constants, whose slots are those after all others."""
        first = loop.slots
        if with_model:
            shares = self._tuning.share_out(turn.tuning)
        else:
            rng = np.random.default_rng([loop.seed, turn.generation, first, 1])
            session = self._tuning.next_session(rng)
            shares = [] if session is None else [(session, turn.tuning)]
        return [
            TuningJob(
                slot=first + number,
                island=session.island,
                start=self._load(session.start),
                tuner=self._tuning.open_tuner(session.start),
                evaluations=count,
            )
            for number, (session, count) in enumerate(shares)
        ]

    def _leaps(self, generation: int, slot: int) -> bool:
        return self._population.stalls.leaps and (generation + slot) % _LEAPS == 0

    def _open_tools(self, steps: StepSettings) -> Mapping[str, Tool]:
        """Returns what reads the run for an agent; nothing where there is no agent."""
        if not steps.agent_turns:
            return {}
        population = self._population
        elites = [elite for one in population.islands.archives for elite in one.elites]
        horizon = population.generation
        return RunLibrary(self._store.folder, self._problem, horizon, elites).tools

    def _cast(self, settings: Settings, generation: int, slot: int) -> dict[str, Part]:
        """Returns who plays each role in a slot, and how."""
        rng = np.random.default_rng([settings.loop.seed, generation, slot % 2**32, 3])
        learns = "bandit" not in settings.search.without
        parts = {}
        for role, candidates in settings.models.roster().items():
            if learns:
                stats = self._population.models
                model = stats.choose(role, candidates, rng)
            else:
                model = draw_by_weight(candidates, rng)
            parts[role] = Part(
                model,
                settings.find_for("temperature", role),
                settings.find_for("effort", role) or "",
                settings.models.max_tokens,
            )
        return parts

    def _signature(self, elite: Elite) -> NDArray[np.uint32]:
        known = self._signatures.get(elite.program_id)
        if known is None:
            known = sign_source(self._load(elite.key).program_or_fail)
            self._signatures[elite.program_id] = known
        return known


# Programs with more of their source in common are the same approach.
_ALIKE = 0.6
# An elite is shown only with so much of what the champion gained on the starting program.
_LEAST_GAIN = 0.8


class _Page:
    """The elites that a prompt shows: the champion, then others, all of them strong.

    Of programs that differ in tuned constants only, one is shown.

    Args:
        population: The state that the generation follows from.
        signature_of: Returns the MinHash signature of an elite's source.
        skeleton_of: Returns the source of an attempt without its tuned constants.

    Raises:
        ValueError: The population is empty.
    """

    def __init__(
        self,
        population: Population,
        signature_of: Callable[[Elite], NDArray[np.uint32]],
        skeleton_of: Callable[[AttemptKey], str],
    ) -> None:
        champion, start = population.champion, population.start
        if champion is None or start is None:
            raise ValueError("population: expected a champion, got none")
        self._population = population
        self._signature_of = signature_of
        self._skeleton_of = skeleton_of
        self._chosen = [champion]
        # The starting program is shown only where nothing is better.
        self._skeletons = {skeleton_of(champion.key), skeleton_of(start.key)}
        sign = self._sign = population.direction.sign
        gained = sign * (champion.objective - start.objective)
        self._least = sign * start.objective + _LEAST_GAIN * gained

    def fill(self, count: int, rng: Generator) -> list[Elite]:
        """Returns at most so many elites, the champion first.

        The others are the best of other approaches, one that is drawn as parents are, so that two
        generations do not see the same page, and the best of all the rest.
        """
        chosen, ranked = self._chosen, _rank(self._population)
        for elite in ranked:
            if len(chosen) <= count // 2:
                self._offer(elite, differs=True)
        for elite in _draw(self._population, rng):
            if len(chosen) < count and self._offer(elite):
                break
        for elite in ranked:
            if len(chosen) < count:
                self._offer(elite)
        return chosen[:count]

    def _offer(self, elite: Elite, *, differs: bool = False) -> bool:
        """Chooses an elite that is new and strong; returns whether it was chosen.

        Args:
            elite: The elite.
            differs: Whether it must be another approach than those chosen so far.
        """
        if self._sign * elite.objective < self._least:
            return False
        skeleton = self._skeleton_of(elite.key)
        if skeleton in self._skeletons or (differs and self._is_alike(elite)):
            return False
        self._chosen.append(elite)
        self._skeletons.add(skeleton)
        return True

    def _is_alike(self, elite: Elite) -> bool:
        own = self._signature_of(elite)
        return any(share_in_common(own, self._signature_of(one)) >= _ALIKE for one in self._chosen)


def _rank(population: Population) -> Sequence[Elite]:
    """Returns the elites of all islands, each program once, the best first."""
    sign = population.direction.sign
    elites = {
        elite.program_id: elite
        for archive in population.islands.archives
        for elite in archive.elites
    }
    return sorted(elites.values(), key=lambda elite: (-sign * elite.objective, elite.key))


def _draw(population: Population, rng: Generator) -> Iterator[Elite]:
    """Yields elites as parents are drawn, each from the next island."""
    islands = population.islands
    if islands.strategy.rule == "pareto" and population.pool:
        for place in rng.integers(len(population.pool), size=4):
            yield population.pool[place]
        return
    lotteries = [
        make_lottery(
            archive,
            islands.strategy.rule,
            entropy=population.entropy,
        )
        for archive in islands.archives
        if len(archive)
    ]
    first = int(rng.integers(len(lotteries)))
    for number in range(4 * len(lotteries)):
        island = (first + number) % len(lotteries)
        yield islands.archives[island].elites[lotteries[island].draw(rng)]


def repeats_of(problem: Problem, settings: SearchSettings) -> int:
    """Returns how often a program that would lead is evaluated again."""
    if "confirmation" in settings.without:
        return 0
    return problem.repeats or int(problem.noise > 0.0 or problem.cooperative)
