"""What planners are told: from the store's committed generations to digests."""

from __future__ import annotations

import json
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

from evolve.evaluation.machine import PROBE, Machine, read_machine
from evolve.files import write_inside
from evolve.problem import Purpose
from evolve.records import Direction
from evolve.source.ledger import build_ledger
from evolve.steps.lessons import Lesson
from evolve.steps.memory import Digest, Memory, Remaining, merge_notes, take_over
from evolve.store.notes import load_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from evolve.problem import Problem
    from evolve.records import Ancestor, AttemptKey, Evaluation, Selection
    from evolve.settings import BudgetSettings
    from evolve.settings.launches import SettingsHistory
    from evolve.source.ledger import LineRecord
    from evolve.store import Store

LESSONS_FILE = "lessons.json"

_LESSONS_FACT, _MACHINE_FACT = "inherited_lessons", "machine"

_ANCESTORS = 3
_SIBLINGS = 12
_CHILDREN = 8
_LINES = 6
_LESSONS = 12
_FAILING = 4
_IDEAS = 16
_COSTS = (
    "SELECT SUM(cost_usd) FROM (SELECT generation, cost_usd FROM calls "
    "UNION ALL SELECT generation, cost_usd FROM expenses) "
    "WHERE generation > ? AND generation <= ? GROUP BY generation ORDER BY generation"
)


class DigestMaker:
    """Makes digests; what it reads of the store is read once.

    Args:
        store: May hold later generations, when a run is resumed; they are passed over.
        history: The settings of each generation.
        direction: Whether a larger or a smaller objective is better.
        load: Gives an attempt with its lesson.
    """

    def __init__(
        self,
        store: Store,
        history: SettingsHistory,
        direction: Direction,
        load: Callable[[AttemptKey], Ancestor],
    ) -> None:
        facts = store.facts()
        self.memory = Memory(direction, map(Lesson.from_dict, facts.get(_LESSONS_FACT) or []))
        self._store = store
        self._direction = direction
        self._history = history
        self._load = load
        machine = facts.get(_MACHINE_FACT)
        self._machine = None if machine is None else Machine.from_dict(machine)
        self._told = -1
        self._cost_usd = 0.0
        self._shared: tuple[int, Digest] | None = None

    def advance(self, horizon: int) -> None:
        """Takes in what was committed up to a generation.

        Raises:
            StoreError: The database cannot be read.
        """
        if horizon <= self._told:
            return
        for note in load_notes(self._store, self._told, horizon):
            self.memory.tell(note)
        for (cost_usd,) in self._store.query(_COSTS, self._told, horizon):
            self._cost_usd += cost_usd or 0.0
        self._told = horizon

    def make(self, selection: Selection, generation: int, evaluations: int) -> Digest:
        """Gives the digest for one selection.

        Args:
            selection: The parent and its inspirations.
            generation: The generation that the digest is for.
            evaluations: How many were used up to the state that it follows from.
        """
        shared = self._share(generation, evaluations)
        ancestors: list[Ancestor] = []
        key = selection.parent.attempt.parent
        while key is not None and len(ancestors) < _ANCESTORS:
            ancestors.append(self._load(key))
            key = ancestors[-1].attempt.parent
        line = (selection.parent, *ancestors)
        return Digest(
            ancestors=line,
            lines=self._find_lines(line),
            siblings=self.memory.siblings(selection.parent.attempt.key, _SIBLINGS),
            lessons=shared.lessons,
            failing=shared.failing,
            ideas=shared.ideas,
            failures=shared.failures,
            calibration=shared.calibration,
            rewrites=shared.rewrites,
            remaining=shared.remaining,
            machine=self._machine.describe() if self._machine else "",
            modules=self._machine.modules if self._machine else frozenset(),
            generation=generation,
            generations=shared.generations,
        )

    def _find_lines(self, line: Sequence[Ancestor]) -> tuple[LineRecord, ...]:
        """Gives lines that changes of a parent, and those that led to it, added for nothing."""
        parent = line[0].attempt
        pairs = [(one.attempt, older.attempt) for one, older in pairwise(line)]
        children = self._store.children(parent.key, self._told, _CHILDREN)
        pairs += [(self._load(key).attempt, parent) for key in children]
        ledger = build_ledger(pairs, self._direction)
        return tuple(ledger.find_tried(parent.program_or_fail)[:_LINES])

    def _share(self, generation: int, evaluations: int) -> Digest:
        """Gives what all slots of a generation are told alike."""
        if self._shared is not None and self._shared[0] == generation:
            return self._shared[1]
        settings = self._history.at(generation)
        memory, told = self.memory, settings.steps.lessons
        digest = Digest(
            lessons=memory.book.rank(generation, _LESSONS) if told else (),
            failing=memory.book.failing(_FAILING) if told else (),
            ideas=memory.ideas(_IDEAS),
            failures=memory.failures(_IDEAS),
            calibration=memory.calibration(),
            rewrites=memory.prefers_rewrites(),
            remaining=self._find_remaining(settings.budget, evaluations),
            generations=settings.loop.generations or generation,
        )
        self._shared = generation, digest
        return digest

    def _find_remaining(self, budget: BudgetSettings, evaluations: int) -> Remaining:
        most, most_usd = budget.max_evaluations, budget.max_cost_usd
        return Remaining(
            None if most is None else max(0, most - evaluations),
            None if most_usd is None else max(0.0, most_usd - self._cost_usd),
        )


def read_lessons(store: Store) -> tuple[Lesson, ...]:
    """Gives all lessons of a run, the most worth telling first, those that keep failing last.

    Raises:
        StoreError: The database cannot be read.
    """
    facts = store.facts()
    inherited = map(Lesson.from_dict, facts.get(_LESSONS_FACT) or [])
    notes = list(load_notes(store, -1, store.last_generation() or 0))
    return merge_notes(Direction(facts.get("direction", "maximize")), notes, inherited)


def write_lessons(folder: Path, source: Store) -> int:
    """Leaves the lessons of one run in the folder of a new one, and gives their number.

    Raises:
        StoreError: The other run cannot be read.
    """
    lessons = take_over(read_lessons(source), source.folder.name)
    text = json.dumps([lesson.as_dict() for lesson in lessons], indent=1)
    write_inside(folder, LESSONS_FILE, text)
    return len(lessons)


def note_experience(store: Store, problem: Problem, evaluate: Callable[..., Evaluation]) -> None:
    """Writes down what prompts tell from the first generation on.

    That is what programs find in the sandbox, and the lessons that `write_lessons` left.

    Args:
        store: Of the new run.
        problem: What is solved.
        evaluate: Evaluates a program for a purpose.

    Raises:
        StoreError: The database cannot be written.
    """
    path = store.folder / LESSONS_FILE
    lessons = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    machine = find_machine(problem, evaluate)
    told = None if machine is None else machine.as_dict()
    store.set_facts(**{_LESSONS_FACT: lessons, _MACHINE_FACT: told})


def copy_experience(store: Store, source: Path) -> None:
    """Writes down what the prompts of another run rest on: lessons, machine, and money spent.

    Args:
        store: Of the new run.
        source: Folder of the other one.

    Raises:
        StoreError: A database cannot be read or written.
    """
    with closing(type(store).open_to_read(source)) as other:
        facts, expenses = other.facts(), other.expenses()
    store.keep(expenses)
    store.set_facts(**{name: facts.get(name) for name in (_LESSONS_FACT, _MACHINE_FACT)})


def find_machine(problem: Problem, evaluate: Callable[..., Evaluation]) -> Machine | None:
    """Asks the sandbox what programs find in it.

    Args:
        problem: What is solved; of programs in other languages nothing is known.
        evaluate: Evaluates a program for a purpose.
    """
    if not problem.initial.entry.path.endswith(".py") or problem.recipe.build:
        return None
    return read_machine(evaluate(PROBE, Purpose.PROBE))
