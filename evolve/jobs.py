"""What each slot of a generation is given: from the population and the store to jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evolve.lessons import Digest, merge_lessons
from evolve.records import Ancestor, Selection
from evolve.steps.tools import Job

if TYPE_CHECKING:
    from evolve.islands import Choice
    from evolve.population import Population
    from evolve.records import AttemptKey
    from evolve.schedule import Launch
    from evolve.settings import Settings
    from evolve.store import Store

_ANCESTORS = 3
_SIBLINGS = 6
_LESSONS = 8


def make_jobs(
    launch: Launch, population: Population, store: Store, settings: Settings
) -> list[Job]:
    """Gives the jobs of a generation, from the population's state and what led to it.

    The store may hold later generations, when a run is resumed; they are passed over.
    """
    islands, loop = population.islands, settings.loop
    horizon = population.generation
    places = []
    for slot in range(len(launch.allowances)):
        # A stream apart from the slot's own, which its steps draw from.
        rng = np.random.default_rng([loop.seed, launch.generation, slot, 1])
        places.append((islands.island_of(launch.generation, slot, loop.slots), rng))
    jobs = []
    for slot, choice in enumerate(islands.choose(places)):
        selection = _load_selection(choice, store)
        with_model = settings.models.is_configured
        jobs.append(
            Job(
                generation=launch.generation,
                slot=slot,
                island=choice.island,
                selection=selection,
                digest=_make_digest(selection, launch.generation, population, store, settings)
                if with_model
                else None,
                operators=None if with_model else population.operators,
                evaluations=launch.allowances[slot],
                find_twin=lambda mark: population.find_twin(mark, horizon),
            )
        )
    return jobs


def _load_selection(choice: Choice, store: Store) -> Selection:
    return Selection(
        _load_ancestor(choice.parent.key, store),
        tuple(_load_ancestor(elite.key, store) for elite in choice.inspirations),
    )


def _load_ancestor(key: AttemptKey, store: Store) -> Ancestor:
    summary = store.load_lesson(key.generation, key.slot)
    return Ancestor(store.load_attempt(key), summary.lesson if summary else "")


def _make_digest(
    selection: Selection,
    generation: int,
    population: Population,
    store: Store,
    settings: Settings,
) -> Digest:
    ancestors: list[Ancestor] = []
    key = selection.parent.attempt.parent
    while key is not None and len(ancestors) < _ANCESTORS:
        ancestors.append(_load_ancestor(key, store))
        key = ancestors[-1].attempt.parent
    horizon = population.generation
    lessons = store.lessons(horizon, 4 * _LESSONS)
    siblings = store.children(selection.parent.attempt.key, horizon, _SIBLINGS)
    champion = population.champion
    return Digest(
        ancestors=(selection.parent, *ancestors),
        siblings=tuple(store.load_attempt(child) for child in siblings),
        lessons=merge_lessons(lessons, _LESSONS),
        generation=generation,
        generations=settings.loop.generations or generation,
        best_objective=None if champion is None else champion.objective,
    )
