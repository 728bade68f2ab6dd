"""Lessons as a text that people read and edit: Markdown, one item a lesson, by problem."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evolve.errors import UsageError
from evolve.files import decode_text
from evolve.records import Lesson
from evolve.steps.memory import KnownLesson
from evolve.steps.prompt import plain

HEADING = "# Lessons of "
_WORKS, _FAILS = "## What works", "## What does not work"
_NOTE = (
    "`evolve run PROBLEM --lessons FILE` starts with these lessons. Edit, add and delete items; of "
    "an item only the first line is needed."
)
_TEXTS = ("evidence", "scope", "tags", "origin")
_COUNTS = ("taught", "followed", "new_bests")
_NAMES = {"new_bests": "new bests"}
_FIELD = re.compile(r"\s+- ([a-z ]+): (.*)")
_LONGEST = 2000


def format_lessons(by_problem: Mapping[str, Sequence[KnownLesson]]) -> str:
    """Returns lessons as Markdown, those of each problem under its name."""
    lines = [_NOTE]
    for problem, lessons in by_problem.items():
        lines += ["", f"{HEADING}{problem}"]
        for heading, works in ((_WORKS, True), (_FAILS, False)):
            found = [one for one in lessons if one.lesson.works is works]
            if found:
                lines += ["", heading, ""]
            for one in found:
                lines += _format(one)
    return "\n".join(lines) + "\n"


def _format(known: KnownLesson) -> Iterable[str]:
    lesson = known.lesson
    values = {
        "evidence": lesson.evidence,
        "scope": lesson.scope,
        "tags": ", ".join(lesson.tags),
        "origin": known.origin,
        **{name: str(getattr(known, name)) for name in _COUNTS if getattr(known, name)},
    }
    yield f"- {plain(lesson.claim)}"
    for name, value in values.items():
        if value:
            yield f"  - {_NAMES.get(name, name)}: {plain(value)}"


def read_lesson_file(path: Path) -> dict[str, list[KnownLesson]]:
    """Returns the lessons of a file by problem.

    Raises:
        UsageError: It cannot be read, or a line of it is not understood.
    """
    try:
        text = decode_text(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    return parse_lessons(text, str(path))


def parse_lessons(text: str, where: str) -> dict[str, list[KnownLesson]]:
    """Returns the lessons of a text as `format_lessons` writes it, and people change it.

    Args:
        text: The text.
        where: What it is called, for messages.

    Raises:
        UsageError: A line is not understood; the message names it.
    """
    found: dict[str, list[KnownLesson]] = {}
    lessons: list[KnownLesson] | None = None
    works: bool | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        place = f"{where}: line {number}"
        if line.startswith(HEADING):
            lessons, works = found.setdefault(line.removeprefix(HEADING).strip(), []), None
        elif line.rstrip() in {_WORKS, _FAILS}:
            works = line.rstrip() == _WORKS
        elif line.startswith("- "):
            if lessons is None or works is None:
                raise UsageError(
                    f"{place}: expected `{HEADING}PROBLEM` and `{_WORKS}` or `{_FAILS}` above an "
                    "item"
                )
            claim = line.removeprefix("- ").strip()[:_LONGEST]
            lessons.append(KnownLesson(f"0.{len(lessons)}", Lesson(claim, works=works)))
        elif (field := _FIELD.fullmatch(line)) is not None and lessons:
            lessons[-1] = _with_field(lessons[-1], field[1], field[2].strip()[:_LONGEST], place)
        elif lessons is not None and line.strip():
            raise UsageError(
                f"{place}: expected an item `- what was learnt`, or `  - evidence: ...` below "
                f"one, got {line!r:.100}"
            )
    if not found and text.strip():
        raise UsageError(f"{where}: expected lessons under `{HEADING}PROBLEM`, found none")
    return found


def _with_field(known: KnownLesson, name: str, value: str, place: str) -> KnownLesson:
    names = {shown: name for name, shown in _NAMES.items()}
    name = names.get(name, name)
    if name == "origin":
        return replace(known, origin=value)
    if name == "tags":
        tags = tuple(filter(None, (tag.strip() for tag in value.split(","))))
        return replace(known, lesson=replace(known.lesson, tags=tags))
    if name in _TEXTS:
        changed: dict[str, Any] = {name: value}
        return replace(known, lesson=replace(known.lesson, **changed))
    if name not in _COUNTS:
        listed = ", ".join([*_TEXTS, *(_NAMES.get(one, one) for one in _COUNTS)])
        raise UsageError(f"{place}: expected one of {listed}, got {name!r}")
    if not value.isdecimal():
        raise UsageError(f"{place}: `{name}`: expected a whole number, got {value!r:.100}")
    counted: dict[str, Any] = {name: int(value)}
    return replace(known, **counted)
