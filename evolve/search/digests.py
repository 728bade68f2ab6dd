"""What prompts show: from the store's committed generations to digests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from evolve.evaluation.machine import PROBE, Machine, read_machine
from evolve.files import write_inside
from evolve.population import Population
from evolve.problem import Problem, Purpose
from evolve.records import Attempt, Direction, Evaluation, Plan
from evolve.records.plain import from_plain, to_plain
from evolve.records.steering import UNSTEERED, Steering
from evolve.search.schedule import Turn, size_of
from evolve.settings import SettingsHistory
from evolve.steps.jobs import Digest, RunStatus
from evolve.steps.lessons import KnownLesson, LessonBook, inherit_lessons
from evolve.steps.memory import Memory
from evolve.store import Store

LESSONS_FILE = "lessons.json"
MEMORY_FACT = "memory"
"""The fact that names the file that keeps what a run learns."""

_LESSONS_FACT, _MACHINE_FACT = "inherited_lessons", "machine"
_LESSONS = 16


class DigestMaker:
    """Makes digests; what it reads of the store is read once.

    Args:
        store: May hold later generations, when a run is resumed; they are ignored.
        history: The settings of each generation.
        direction: Whether a larger or a smaller objective is better.
    """

    def __init__(self, store: Store, history: SettingsHistory, direction: Direction) -> None:
        facts = store.facts()
        self._memory = Memory(direction, read_inherited(facts))
        self._store = store
        self._history = history
        machine = facts.get(_MACHINE_FACT)
        self._machine = None if machine is None else from_plain(Machine, machine)
        self._read = -1
        self._cost_usd = 0.0

    def make(
        self,
        population: Population,
        turn: Turn,
        programs: Sequence[Attempt],
        *,
        pending: tuple[Plan, ...] = (),
        steering: Steering = UNSTEERED,
    ) -> Digest:
        """Returns the digest of a generation.

        Args:
            population: The state that the generation follows from.
            turn: The generation.
            programs: Those that are shown in full, the best first.
            pending: Plans of the generations in flight.
            steering: What people ask of it.

        Raises:
            StoreError: The database cannot be read.
        """
        self.advance(population.generation)
        settings = self._history.at(turn.generation)
        memory = self._memory
        is_baseline = population.islands.strategy.is_baseline
        hides = is_baseline or "lessons" in settings.search.without
        return Digest(
            status=self._describe_status(population, turn, programs[0]),
            programs=tuple(programs),
            # A baseline knows nothing of what came before.
            tried=() if is_baseline else memory.tried,
            tuned=() if is_baseline else memory.tuned,
            lessons=() if hides else memory.book.rank(turn.generation, _LESSONS),
            pending=() if is_baseline else pending,
            tuning=0 if is_baseline else size_of(settings).tuning,
            rewrites=memory.prefers_rewrites,
            hints=steering.hints,
            pins=steering.pins,
            machine=self._machine.describe() if self._machine else "",
            modules=frozenset(self._machine.modules) if self._machine else frozenset(),
        )

    def advance(self, horizon: int) -> None:
        """Reads what was committed up to a generation.

        Raises:
            StoreError: The database cannot be read.
        """
        if horizon <= self._read:
            return
        for note in self._store.slot_notes(self._read, horizon):
            self._memory.add_slot(note)
        for one in self._store.generations(self._read, horizon):
            if one.summary is not None:
                self._memory.add_summary(one.number, one.summary)
        self._cost_usd += self._store.cost_usd(self._read, horizon)
        self._read = horizon

    def _describe_status(self, population: Population, turn: Turn, champion: Attempt) -> RunStatus:
        budget, loop = (settings := self._history.at(turn.generation)).budget, settings.loop
        most, most_usd = budget.max_evaluations, budget.max_cost_usd
        used = population.evaluations
        best = [one.best for one in population.islands.archives]
        return RunStatus(
            generation=turn.generation,
            generations=loop.generations or turn.generation,
            evaluations=used,
            start=population.initial,
            champion=champion.key,
            objective=champion.objective,
            evaluations_left=None if most is None else max(0, most - used),
            cost_usd_left=None if most_usd is None else max(0.0, most_usd - self._cost_usd),
            islands=tuple(elite.objective for elite in best if elite is not None),
            references=tuple(population.references.items()),
        )


def read_inherited(facts: Mapping[str, Any]) -> tuple[KnownLesson, ...]:
    """Returns the lessons that a run began with, from its facts."""
    return from_plain(tuple[KnownLesson, ...], facts.get(_LESSONS_FACT) or [])


def read_lessons(store: Store) -> tuple[KnownLesson, ...]:
    """Returns all lessons of a run, the most useful first.

    Raises:
        StoreError: The database cannot be read.
    """
    facts = store.facts()
    inherited = read_inherited(facts)
    memory = Memory(Direction(facts.get("direction", "maximize")), inherited)
    last = store.last_generation() or 0
    summaries = [(one.number, one.summary) for one in store.generations(-1, last) if one.summary]
    if not inherited and not summaries:
        return ()
    for note in store.slot_notes(-1, last):
        memory.add_slot(note)
    for generation, summary in summaries:
        memory.add_summary(generation, summary)
    return memory.book.rank(last, len(memory.book.lessons))


def write_lessons(folder: Path, lessons: Sequence[KnownLesson], memory: Path | None) -> None:
    """Leaves lessons in the folder of a new run.

    Args:
        folder: Of the run.
        lessons: With their origins; of those that say the same the first is taken.
        memory: The file that keeps what the run learns; None for none.

    Raises:
        OSError: The folder cannot be written.
    """
    book = LessonBook()
    for one in inherit_lessons(lessons, ""):
        book.inherit(one)
    kept = {"lessons": to_plain(book.lessons), "memory": str(memory.resolve()) if memory else ""}
    write_inside(folder, LESSONS_FILE, json.dumps(kept, indent=1))


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
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    machine = find_machine(problem, evaluate)
    found = None if machine is None else to_plain(machine)
    store.set_facts(
        **{
            _LESSONS_FACT: kept.get("lessons", []),
            MEMORY_FACT: kept.get("memory", ""),
            _MACHINE_FACT: found,
        }
    )


def copy_experience(store: Store, source: Path) -> None:
    """Writes down what the prompts of another run rest on: lessons, machine, money spent, steering.

    Args:
        store: Of the new run.
        source: Folder of the other one.

    Raises:
        StoreError: A database cannot be read or written.
    """
    with closing(type(store).open_to_read(source)) as other:
        facts, expenses, asked = other.facts(), other.expenses(), other.steering()
    store.keep(expenses)
    store.keep_steering([one for one in asked if one.generation is not None])
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
