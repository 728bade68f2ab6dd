"""Whole searches inside the test's own process: real store, loop and operators.

Programs are not run: an evaluator reads the numbers in their source, so that a search takes
milliseconds.
"""

import ast
import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from evolve.models.budget import Budget
from evolve.problem import load_problem
from evolve.records import INITIAL, Attempt, Evaluation, Program, Status
from evolve.records.results import Evaluated, Generation, as_slot
from evolve.runs.proving import Replay
from evolve.search.loop import Inbox, Observer, Search
from evolve.search.population import Population
from evolve.settings import Settings, SettingsHistory, change_settings
from evolve.source.analysis import built_in_measures
from evolve.steps.journal import Journal
from evolve.store import Store
from tests.commands import write_problem


class Watcher(Observer):
    """Sees every commit and nothing else."""

    def __init__(self, on_commit: Callable[[Population], None] | None = None) -> None:
        self._on_commit = on_commit

    def on_commit(self, population, generation) -> None:
        if self._on_commit is not None:
            self._on_commit(population)


class Searches:
    """Searches over one problem, each in a folder of its own."""

    def __init__(self, folder: Path, toml: str | None = None, **changes: object) -> None:
        self.folder = folder
        write_problem(folder / "valley", **({} if toml is None else {"toml": toml}))
        self.problem = load_problem(folder / "valley")
        self.settings = change_settings(Settings(), {"loop.slots": 8}, where="test")
        self.settings = self.with_(changes)

    def with_(self, changes) -> Settings:
        named = {name.replace("__", "."): value for name, value in changes.items()}
        return change_settings(self.settings, named, where="test")

    def run(
        self,
        name: str,
        generations: int,
        *,
        threads: int = 1,
        delays: Sequence[float] = (0.0,),
        evaluate: Callable[[Program], Evaluation] | None = None,
        on_commit: Callable[[Population], None] | None = None,
        observe: Callable[[Store], Observer] | None = None,
        **changes: object,
    ) -> Population:
        """Starts or resumes a search; evaluations take turns with the delays, in seconds."""
        settings = self.with_(changes)
        settings = dataclasses.replace(
            settings, loop=dataclasses.replace(settings.loop, generations=generations)
        )
        evaluate = evaluate or self.evaluate
        # Threads share it, as they cannot share a generator.
        waits = itertools.cycle(delays)

        def slowly(program: Program) -> Evaluation:
            time.sleep(next(waits))
            return evaluate(program)

        (self.folder / name).mkdir(exist_ok=True)
        with closing(Store.create(self.folder / name)) as store:
            if store.last_generation() is None:
                self._start(store, evaluate(self.problem.initial))
            events = Inbox()
            journal = Journal(
                endpoints={}, evaluator=slowly, budget=Budget(), keep=events.record,
                workers=8, deadline_seconds=60.0,
            )  # fmt: skip
            history = SettingsHistory(settings, store.invocations())
            search = Search(
                self.problem, history, store, journal=journal, events=events,
                observers=[Watcher(on_commit), *([observe(store)] if observe else [])],
                threads=threads,
            )  # fmt: skip
            search.run()
        return search.population

    def replay(self, name: str, **changes: object) -> list[str]:
        """Returns the differences between a search and its record."""
        with closing(Store.open_to_read(self.folder / name)) as store:
            compared = list(Replay(store, self.problem, self.with_(changes)).compare())
        return [difference for _, differences in compared for difference in differences]

    def evaluate(self, program: Program) -> Evaluation:
        """Returns a verdict that depends on the first two numbers in the source alone."""
        first, second = (*_numbers(program), 0.0, 0.0)[:2]
        objective = -((first - 3.0) ** 2) - (second + 2.0) ** 2
        return self.verdict(program, objective, first=first)

    def verdict(self, program: Program, objective: float, **measures: float) -> Evaluation:
        """Returns a verdict with the measures that the problem declares."""
        known = built_in_measures(program, self.problem.initial) | measures
        declared = {axis.name: known[axis.name] for axis in self.problem.measures}
        return Evaluation(Status.OK, objective=objective, measures=declared)

    def _start(self, store: Store, evaluation: Evaluation) -> None:
        store.keep([Evaluated(INITIAL, self.problem.initial, evaluation)])
        start = Attempt(INITIAL, 0, None, 0, None, self.problem.initial, evaluation)
        store.commit(Generation(0, (as_slot(start),), 0.0))


def archives_of(population: Population) -> list[object]:
    """Returns all that must be equal when two searches are."""
    return [
        (list(archive.cells), list(archive.elites), archive.out_of_range)
        for archive in population.islands.archives
    ]  # fmt: skip


def _numbers(program: Program) -> list[float]:
    nodes = ast.walk(ast.parse(program.entry.text))
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return [max(-1e6, min(float(value), 1e6)) for value in values if type(value) in {int, float}]
