"""What a run has learnt: lessons, merged and ranked, and as Markdown that people read and edit."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evolve.errors import UsageError
from evolve.files import decode_text
from evolve.records import Lesson
from evolve.steps.prompt import plain

HEADING = "# Lessons of "
_WORKS, _FAILS = "## What works", "## What does not work"
_NOTE = (
    "`evolve run PROBLEM --lessons FILE` starts with these lessons. Edit, add and delete items; of "
    "an item only the first line is needed."
)
_TEXTS = ("evidence", "scope", "tags", "origin")
_COUNTS = ("taught", "followed", "new bests")
_FIELD = re.compile(r"\s+- ([a-z ]+): (.*)")
_LONGEST = 2000
# Lessons that share this part of their words say the same.
_SAME = 0.6
_FADES_AFTER = 20.0
_WORD = re.compile(r"[^\W\d_]{3,}")
_ENDINGS = re.compile(r"(ings?|ed|es|s)$")
_IDLE = frozenset(
    re.findall(
        r"\w+",
        "and are but can for from has have into its may more not than that the their them then "
        "this was were when which will with",
    )
)


@dataclass(frozen=True, slots=True)
class KnownLesson:
    """A lesson with its record over the run.

    Attributes:
        id: Generation and number of the summary that first taught it, as `generation.number`.
        lesson: As it was last taught.
        taught: Summaries that drew it.
        followed: Later slots whose plan names it.
        new_bests: How many of those led to a new best objective of the run.
        newest: Generation in which it was last taught or followed.
        origin: The run that it was inherited from; empty for one of this run.
    """

    id: str
    lesson: Lesson
    taught: int = 1
    followed: int = 0
    new_bests: int = 0
    newest: int = 0
    origin: str = ""

    def worth(self, generation: int) -> float:
        """Returns how much it deserves a place in the prompts of a generation.

        Warnings are not judged by what following them brought: obeying one gains nothing.
        """
        share = (1 + self.new_bests) / (2 + self.followed) if self.lesson.works else 0.5
        fresh: float = 0.5 ** (max(0, generation - self.newest) / _FADES_AFTER)
        return share + 0.1 * math.log2(1 + self.taught) + 0.5 * fresh

    def as_dict(self) -> dict[str, Any]:
        """Returns the lesson as plain data, for people."""
        data = asdict(self)
        lesson = data.pop("lesson")
        return {"id": data.pop("id"), **lesson, "tags": list(lesson["tags"]), **data}


class LessonBook:
    """Collects the lessons of a run, generation by generation, and merges those that say the same.

    Two say the same when they share most of their words; numbers and word endings do not count.

    Args:
        inherited: Lessons of another run.
    """

    def __init__(self, inherited: Iterable[KnownLesson] = ()) -> None:
        self._lessons: list[KnownLesson] = []
        self._words: list[frozenset[str]] = []
        self._by_id: dict[str, int] = {}
        self._outdated: set[str] = set()
        # Sets with so many words in common share one of the first few in any fixed order; long
        # words come first, since they are rare.
        self._places: defaultdict[str, list[int]] = defaultdict(list)
        for lesson in inherited:
            self._add(lesson)

    @property
    def lessons(self) -> tuple[KnownLesson, ...]:
        """All lessons, in the order in which they were first taught."""
        return tuple(self._lessons)

    def inherit(self, lesson: KnownLesson) -> None:
        """Adds a lesson with its record, unless one that says the same is there."""
        if self.find(lesson.lesson) is None:
            self._add(lesson)

    def teach(self, generation: int, number: int, lesson: Lesson) -> None:
        """Adds a lesson of a generation's summary, or merges it with one that says the same."""
        words = _words_of(lesson.claim)
        if not words:
            return
        index = self._find(words, works=lesson.works)
        if index is None:
            self._add(KnownLesson(f"{generation}.{number}", lesson, newest=generation))
            return
        old = self._lessons[index]
        tags = tuple(dict.fromkeys((*old.lesson.tags, *lesson.tags)))[:6]
        self._lessons[index] = replace(
            old, lesson=replace(lesson, tags=tags), taught=old.taught + 1, newest=generation
        )

    def follow(self, ids: Iterable[str], generation: int, *, leads: bool) -> None:
        """Records that a slot's plan named lessons; unknown ids are ignored."""
        for index in {self._by_id[name] for name in ids if name in self._by_id}:
            old = self._lessons[index]
            self._lessons[index] = replace(
                old, followed=old.followed + 1, new_bests=old.new_bests + leads, newest=generation
            )

    def drop(self, ids: Iterable[str]) -> None:
        """Leaves lessons out of prompts that a later summary contradicts."""
        self._outdated.update(name for name in ids if name in self._by_id)

    def rank(self, generation: int, limit: int) -> tuple[KnownLesson, ...]:
        """Returns the valid lessons that most deserve a place in a prompt, the best first."""
        valid = [item for item in self._lessons if item.id not in self._outdated]
        ranked = sorted(valid, key=lambda item: item.worth(generation), reverse=True)
        return tuple(ranked[:limit])

    def _add(self, lesson: KnownLesson) -> None:
        words = _words_of(lesson.lesson.claim)
        index = len(self._lessons)
        self._by_id.setdefault(lesson.id, index)
        for word in _prefix(words):
            self._places[word].append(index)
        self._lessons.append(lesson)
        self._words.append(words)

    def find(self, lesson: Lesson) -> int | None:
        """Returns the place of the lesson that says the same; None where none does."""
        return self._find(_words_of(lesson.claim), works=lesson.works)

    def _find(self, words: frozenset[str], *, works: bool) -> int | None:
        """Returns the lesson with the most words in common, if they are most of all words."""
        near = {index for word in _prefix(words) for index in self._places[word]}
        best, best_share = None, _SAME
        for index in sorted(near):
            # A warning and a recommendation share most of their words, and are opposites.
            if self._lessons[index].lesson.works is not works:
                continue
            other = self._words[index]
            share = len(words & other) / len(words | other)
            if share >= best_share and (best is None or share > best_share):
                best, best_share = index, share
        return best


def inherit_lessons(lessons: Iterable[KnownLesson], origin: str) -> tuple[KnownLesson, ...]:
    """Returns the lessons of one run as another starts with them."""
    return tuple(
        replace(lesson, id=f"0.{number}", newest=0, origin=lesson.origin or origin)
        for number, lesson in enumerate(lessons)
    )


def _prefix(words: frozenset[str]) -> list[str]:
    most = len(words) - math.ceil(_SAME * len(words)) + 1
    return sorted(words, key=lambda word: (-len(word), word))[:most]


def _words_of(text: str) -> frozenset[str]:
    words = (_ENDINGS.sub("", word) for word in _WORD.findall(text.lower()) if word not in _IDLE)
    return frozenset(words)


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
        **{name: str(getattr(known, name.replace(" ", "_")) or "") for name in _COUNTS},
    }
    yield f"- {plain(lesson.claim)}"
    for name, value in values.items():
        if value:
            yield f"  - {name}: {plain(value)}"


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
    changed: dict[str, Any] = {name.replace(" ", "_"): value}
    if name in _COUNTS:
        if not value.isdecimal():
            raise UsageError(f"{place}: `{name}`: expected a whole number, got {value!r:.100}")
        changed = dict.fromkeys(changed, int(value))
    elif name == "tags":
        changed["tags"] = tuple(filter(None, (tag.strip() for tag in value.split(","))))
    elif name not in _TEXTS:
        listed = ", ".join([*_TEXTS, *_COUNTS])
        raise UsageError(f"{place}: expected one of {listed}, got {name!r}")
    if name in _TEXTS[:3]:
        return replace(known, lesson=replace(known.lesson, **changed))
    return replace(known, **changed)
