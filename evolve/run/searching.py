"""The search itself, put together from what was opened and what the database holds."""

from __future__ import annotations

import queue
from functools import partial
from typing import TYPE_CHECKING

from evolve.errors import StoreError
from evolve.journal import Journal
from evolve.operators.lane import MOST_SESSIONS
from evolve.population import Population
from evolve.population.frozen import expect_frozen
from evolve.records import INITIAL
from evolve.run.champion import BestWriter
from evolve.run.interrupts import interrupts
from evolve.run.outcome import Outcome
from evolve.run.wiring import WORKERS, open_recording, restore_budget
from evolve.search import Interrupt, Search, record
from evolve.search.schedule import Schedule, size_of
from evolve.settings.defaults import MOST_LAG
from evolve.settings.launches import SettingsHistory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evolve.evaluation.pool import Evaluators
    from evolve.models.endpoint import Endpoint
    from evolve.problem import Problem
    from evolve.run.outcome import View
    from evolve.search import Event
    from evolve.settings import Settings
    from evolve.store import Store


def search(
    store: Store,
    problem: Problem,
    settings: Settings,
    *,
    evaluators: Evaluators,
    endpoints: Mapping[str, Endpoint],
    view: View,
) -> Outcome:
    """Goes on from the last checkpoint until something ends the run.

    Args:
        store: The run's database; its generation 0 is committed.
        problem: Of the run.
        settings: As of now; those of earlier generations are in the database.
        evaluators: Proven.
        endpoints: The models of the run, by name.
        view: Is told what happens.

    Raises:
        MachineError: A model, the sandbox, the evaluator or the disk failed.
    """
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    budget = restore_budget(store, settings)
    budget.incoming = [endpoint.incoming for endpoint in endpoints.values()]
    journal = Journal(
        endpoints=endpoints,
        evaluate=evaluators.evaluate,
        budget=budget,
        keep=partial(record, events),
        workers=settings.loop.workers or WORKERS,
        deadline_seconds=settings.models.deadline_seconds,
        fallbacks=settings.models.fallbacks,
        tell=view.tell,
        recording=open_recording(settings),
        cut_evaluations=evaluators.cut,
    )
    last = store.last_generation() or 0
    journal.recall(*store.finished_after(last))
    journal.share(store.finished_after(last - MOST_LAG - 1, last)[1])
    expect_frozen(store, problem, settings.search)
    population = Population(problem, settings.search)
    generations = settings.loop.generations or last
    history = SettingsHistory(settings, store.launches())
    initial = _objective_of_initial(store)
    slots_in_flight = (settings.loop.slots + MOST_SESSIONS) * (settings.loop.lag + 1)
    with (
        view.watch(
            title=store.folder.name, generations=generations, budget=budget, initial=initial
        ) as observer,
        interrupts(lambda: events.put(Interrupt())),
    ):
        reason = Search(
            problem=problem,
            history=history,
            store=store,
            population=population,
            schedule=Schedule(
                generations=generations,
                size_at=lambda number: size_of(history.at(number)),
            ),
            journal=journal,
            events=events,
            observer=BestWriter(store, observer),
            threads=min(slots_in_flight, 2 * (settings.loop.workers or WORKERS) + 16),
        ).run()
    key, best = INITIAL, initial
    if population.champion is not None:
        key, best = population.champion.key, population.champion.objective
    improved = problem.direction.is_better(best, initial)
    return Outcome(
        reason, initial, best, improved, key, store.spent(), store.seconds(), store.rejections()
    )


def _objective_of_initial(store: Store) -> float:
    objective = store.load_attempt(INITIAL).objective
    if objective is None:
        raise StoreError(f"{store.folder}: the starting program has no objective")
    return objective
