"""What a run learns before and beyond its attempts: lessons that last, and its machine."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from evolve.evaluation.machine import PROBE, Machine, read_machine
from evolve.files import lock_file, write_inside, write_named
from evolve.problem import Problem, Purpose
from evolve.records import Direction, Evaluation
from evolve.records.plain import from_plain, to_plain
from evolve.steps.lessons import (
    KnownLesson,
    LessonBook,
    format_lessons,
    inherit_lessons,
    read_lesson_file,
)
from evolve.steps.memory import Memory
from evolve.store import Store

LESSONS_FILE = "lessons.json"
LESSONS_FACT, MACHINE_FACT = "inherited_lessons", "machine"
# The fact that names the file that keeps what a run learns.
_MEMORY_FACT = "memory"
_COUNTED = "memory_counts"
# From other problems come so many, those that proved worth most.
_FOREIGN = 8
_OTHER = "memory of "


def read_inherited(facts: Mapping[str, Any]) -> tuple[KnownLesson, ...]:
    """Returns the lessons that a run began with, from its facts."""
    return from_plain(tuple[KnownLesson, ...], facts.get(LESSONS_FACT) or [])


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
    memory.add(store.light_attempts(0, last))
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
            LESSONS_FACT: kept.get("lessons", []),
            _MEMORY_FACT: kept.get("memory", ""),
            MACHINE_FACT: found,
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
    store.set_facts(**{name: facts.get(name) for name in (LESSONS_FACT, MACHINE_FACT)})


def find_machine(problem: Problem, evaluate: Callable[..., Evaluation]) -> Machine | None:
    """Asks the sandbox what programs find in it.

    Args:
        problem: What is solved; of programs in other languages nothing is known.
        evaluate: Evaluates a program for a purpose.
    """
    if not problem.initial.entry.path.endswith(".py") or problem.recipe.build:
        return None
    return read_machine(evaluate(PROBE, Purpose.PROBE))


def recall(path: Path, problem: Problem) -> list[KnownLesson]:
    """Returns what a file knows for a problem: its own lessons, then some of other problems.

    A lesson of another problem is taken when one of its tags is a tag of this problem's lessons,
    or a word of its statement.

    Raises:
        UsageError: The file cannot be read.
    """
    known = read_lesson_file(path) if path.exists() else {}
    own = known.pop(problem.name, [])
    words = set(re.findall(r"[a-z]{3,}", problem.statement.lower()))
    words |= {tag for one in own for tag in one.lesson.tags}
    foreign = [
        replace(one, origin=f"{_OTHER}{name}")
        for name, lessons in known.items()
        for one in lessons
        if words & set(one.lesson.tags)
    ]
    foreign.sort(key=lambda one: -one.worth(0))
    return [replace(one, origin=f"{_OTHER}{problem.name}") for one in own] + foreign[:_FOREIGN]


def remember(store: Store, problem: Problem) -> str:
    """Adds what a run has learnt to its memory file, and returns a line on it; empty for none.

    A lesson has what it was worth in all runs: how often it was drawn, followed, and followed
    to a new best. What a run contradicted is dropped.

    Raises:
        UsageError: The file cannot be read.
        OSError: The file cannot be written.
    """
    facts = store.facts()
    if not facts.get(_MEMORY_FACT):
        return ""
    path = Path(facts[_MEMORY_FACT])
    inherited = {one.id: one for one in read_inherited(facts)}
    counted = {name: tuple(counts) for name, counts in facts.get(_COUNTED, {}).items()} or {
        name: _counts(one) for name, one in inherited.items()
    }
    learnt = read_lessons(store)
    names = {one.id for one in learnt}
    with _locked(path):
        known = read_lesson_file(path) if path.exists() else {}
        gone = [one for name, one in inherited.items() if name not in names]
        for one in gone:
            place = _place_of(one, problem)
            known[place] = _without(known.get(place, []), one)
        for one in learnt:
            place = _place_of(one, problem)
            counts = zip(_counts(one), counted.get(one.id, (0, 0, 0)), strict=True)
            more = [max(0, now - before) for now, before in counts]
            known[place] = _merge(known.get(place, []), one, more)
        write_named(path, format_lessons({name: found for name, found in known.items() if found}))
    store.set_facts(**{_COUNTED: {one.id: _counts(one) for one in learnt}})
    return f"memory: {len(known.get(problem.name, []))} lessons of {problem.name} in {path}"


def _counts(one: KnownLesson) -> tuple[int, int, int]:
    return one.taught, one.followed, one.new_bests


def _place_of(one: KnownLesson, problem: Problem) -> str:
    """Returns the problem under which a lesson is kept."""
    is_kept = one.origin.startswith(_OTHER)
    return one.origin.removeprefix(_OTHER) if is_kept else problem.name


def _merge(kept: list[KnownLesson], one: KnownLesson, more: Sequence[int]) -> list[KnownLesson]:
    """Adds a lesson with its record, or only the record where one says the same."""
    at = LessonBook(kept).find(one.lesson)
    taught, followed, new_bests = more
    origin = "" if one.origin.startswith(_OTHER) else one.origin
    if at is None:
        fresh = replace(one, taught=taught, followed=followed, new_bests=new_bests, origin=origin)
        return [*kept, fresh] if taught else kept
    old = kept[at]
    kept[at] = replace(
        old,
        lesson=one.lesson if taught else old.lesson,
        taught=old.taught + taught,
        followed=old.followed + followed,
        new_bests=old.new_bests + new_bests,
    )
    return kept


def _without(kept: list[KnownLesson], one: KnownLesson) -> list[KnownLesson]:
    at = LessonBook(kept).find(one.lesson)
    return [other for number, other in enumerate(kept) if number != at]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lets one run at a time change a file."""
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        lock_file(descriptor, waits=True)
        yield
    finally:
        os.close(descriptor)
