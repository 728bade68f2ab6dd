"""Lessons that outlast a run: a file that runs start from and add to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from evolve.files import lock_file, write_named
from evolve.problem import Problem
from evolve.search.digests import MEMORY_FACT, read_inherited, read_lessons
from evolve.steps.lessons import KnownLesson, LessonBook, format_lessons, read_lesson_file
from evolve.store import Store

_COUNTED = "memory_counts"
# From other problems come so many, those that proved worth most.
_FOREIGN = 8
_OTHER = "memory of "


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
    if not facts.get(MEMORY_FACT):
        return ""
    path = Path(facts[MEMORY_FACT])
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
