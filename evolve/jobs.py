"""What each slot of a generation is given: from the population and the store to jobs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from evolve.lessons import Digest, merge_lessons
from evolve.records import Ancestor, Selection
from evolve.steps.tools import Job

if TYPE_CHECKING:
    from evolve.population import Population
    from evolve.records import AttemptKey
    from evolve.schedule import Launch
    from evolve.settings import Settings
    from evolve.store import Store

_ANCESTORS = 3
_SIBLINGS = 6
_LESSONS = 8
_KEPT = 1024
_HORIZONS = "horizons"
_NEWEST = (
    "SELECT MAX(newest) FROM (SELECT MAX(generation) AS newest FROM generations "
    "UNION ALL SELECT MAX(generation) FROM calls "
    "UNION ALL SELECT MAX(generation) FROM evaluations)"
)


class JobMaker:
    """Makes the jobs of generations; keeps what it loads, for parents are chosen again and again.

    Args:
        population: Its state when a generation is launched is what the jobs follow from.
        store: May hold later generations, when a run is resumed; they are passed over.
        settings: The run's settings.
    """

    def __init__(self, population: Population, store: Store, settings: Settings) -> None:
        self._population = population
        self._store = store
        self._settings = settings
        self._horizons: list[list[int]] = store.facts().get(_HORIZONS, [])
        self._load = lru_cache(maxsize=_KEPT)(self._load_ancestor)

    def make_jobs(self, launch: Launch) -> list[Job]:
        """Gives the jobs of a generation, from the population's state."""
        population, loop = self._population, self._settings.loop
        islands, horizon = population.islands, population.generation
        with_model = self._settings.models.is_configured
        places = []
        for slot in range(len(launch.allowances)):
            # A stream apart from the slot's own, which its steps draw from.
            rng = np.random.default_rng([loop.seed, launch.generation, slot, 1])
            places.append((islands.island_of(launch.generation, slot, loop.slots), rng))
        jobs = []
        for slot, choice in enumerate(islands.choose(places, population.pool)):
            selection = Selection(
                self._load(choice.parent.key),
                tuple(self._load(elite.key) for elite in choice.inspirations),
            )
            digest = self._make_digest(selection, launch.generation) if with_model else None
            jobs.append(
                Job(
                    generation=launch.generation,
                    slot=slot,
                    island=choice.island,
                    selection=selection,
                    digest=digest,
                    operators=None if with_model else population.operators,
                    evaluations=launch.allowances[slot],
                    find_twin=lambda mark: population.find_twin(mark, horizon),
                )
            )
        return jobs

    def _load_ancestor(self, key: AttemptKey) -> Ancestor:
        summary = self._store.load_lesson(key.generation, key.slot)
        return Ancestor(self._store.load_attempt(key), summary.lesson if summary else "")

    def _make_digest(self, selection: Selection, generation: int) -> Digest:
        ancestors: list[Ancestor] = []
        key = selection.parent.attempt.parent
        while key is not None and len(ancestors) < _ANCESTORS:
            ancestors.append(self._load(key))
            key = ancestors[-1].attempt.parent
        horizon = self._population.generation
        siblings = self._store.children(selection.parent.attempt.key, horizon, _SIBLINGS)
        return Digest(
            ancestors=(selection.parent, *ancestors),
            siblings=tuple(self._load(child).attempt for child in siblings),
            lessons=merge_lessons(self._store.lessons(horizon, 4 * _LESSONS), _LESSONS),
            generation=generation,
            generations=self._find_horizon(generation),
        )

    def _find_horizon(self, generation: int) -> int:
        """Gives how many generations the run was to have when one was launched."""
        known = [total for first, total in self._horizons if first <= generation]
        return known[-1] if known else self._settings.loop.generations or generation


def note_horizon(store: Store, generations: int) -> None:
    """Writes down how many generations a run is to have from now on.

    Prompts tell it, so it holds from the first generation that nothing was paid for yet: replies
    that are recorded stay the answers to what was asked.

    Raises:
        StoreError: The database cannot be read or written.
    """
    newest = store.query(_NEWEST)[0][0] or 0
    horizons = [item for item in store.facts().get(_HORIZONS, []) if item[0] <= newest]
    if not horizons or horizons[-1][1] != generations:
        store.set_facts(**{_HORIZONS: [*horizons, [newest + 1, generations]]})
