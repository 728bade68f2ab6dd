"""What a run has tried, as a fold over committed slots, and what it has learnt.

Both follow from committed generations alone, so prompts do not depend on timing, and can be rebuilt
from the store at any generation. Lessons are merged and ranked; people read and edit them as
Markdown.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from evolve.archive.credit import is_progress
from evolve.errors import UsageError
from evolve.files import decode_text
from evolve.records import (
    BROKEN_EVALUATOR,
    RESCORE,
    TUNE,
    AttemptKey,
    Direction,
    Lesson,
    Status,
    Summary,
)
from evolve.records.results import EDITORS, LightAttempt, SlotNote
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
# A model whose edits do not apply this often, among so many, is asked for whole programs.
_EDITS_WATCHED = 12
_EDITS_FAILED = 8


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


class TriedChange(NamedTuple):
    """What one slot tried and what came of it.

    Attributes:
        note: The slot.
        gain: On the parent, positive is better; `None` without an objective.
        leads: Whether it was a new best objective of the run.
    """

    note: SlotNote
    gain: float | None
    leads: bool


@dataclass(frozen=True, slots=True)
class TunedProgram:
    """What the tuning of a program's constants brought.

    Attributes:
        key: The attempt whose program was tuned.
        samples: Evaluations so far.
        before: Its objective.
        best: The best objective of the samples; `None` where none has one.
        best_key: The attempt that has it.
    """

    key: AttemptKey
    samples: int
    before: float
    best: float | None = None
    best_key: AttemptKey | None = None


class Memory:
    """Collects committed attempts, in order, and keeps what prompts show of their slots.

    Args:
        direction: Whether a larger or a smaller objective is better.
        inherited: Lessons of another run.
    """

    def __init__(self, direction: Direction, inherited: Iterable[KnownLesson] = ()) -> None:
        self.book = LessonBook(inherited)
        self._direction = direction
        self._objectives: dict[AttemptKey, float | None] = {}
        self._tried: list[TriedChange] = []
        self._tuned: dict[AttemptKey, TunedProgram] = {}
        # With the sign that makes larger better: the best objective, and the first one's base.
        self._best: float | None = None
        self._first = 0.0
        self._edits: defaultdict[str, deque[bool]] = defaultdict(
            lambda: deque(maxlen=_EDITS_WATCHED)
        )
        self._rescored = -1
        self._rewriters: set[str] = set()
        self._last_editor = ""

    @property
    def tried(self) -> tuple[TriedChange, ...]:
        """What every slot tried, in order."""
        return tuple(self._tried)

    @property
    def tuned(self) -> tuple[TunedProgram, ...]:
        """What tuning brought, program by program in the order in which it began."""
        return tuple(self._tuned.values())

    @property
    def prefers_rewrites(self) -> bool:
        """Whether the edits of the last editor kept failing, so that it shall rewrite."""
        return self._last_editor in self._rewriters

    def add(self, attempts: Iterable[LightAttempt]) -> None:
        """Adds the attempts of generations, in order."""
        for _, group in groupby(attempts, key=lambda one: one.key[:2]):
            slot = list(group)
            scored = [one for one in slot if one.objective is not None]
            self._objectives.update((one.key, one.objective) for one in scored)
            made = [one for one in slot if one.plan is not None and one.parent is not None]
            if made:
                self.add_slot(self._note(made))

    def _note(self, slot: Sequence[LightAttempt]) -> SlotNote:
        """Returns what came of a slot whose attempts have plans and parents."""
        sign = self._direction.sign
        scored = [one for one in slot if one.objective is not None]
        best = max(scored, key=lambda one: sign * (one.objective or 0.0)) if scored else slot[-1]
        if best.plan is None or best.parent is None:
            raise ValueError(f"attempt {best.key}: expected a plan and a parent, got none")
        return SlotNote(
            generation=best.key.generation,
            slot=best.key.slot,
            key=best.key,
            parent=best.parent,
            plan=best.plan,
            before=self._objectives.get(best.parent),
            objective=best.objective,
            seconds=best.seconds,
            attempts=len(slot),
            unapplied=sum(one.program_id is None for one in slot),
            status=best.status,
            reason=best.reason,
            editors=tuple(use.model for use in best.uses if use.role in EDITORS),
        )

    def add_slot(self, note: SlotNote) -> None:
        """Adds a slot."""
        if note.plan.operator == RESCORE and note.generation != self._rescored:
            # What another evaluator said does not compare.
            self._rescored = note.generation
            self._tried, self._tuned, self._best = [], {}, None
        sign, objective = self._direction.sign, note.objective
        leads = objective is not None and self._leads(sign * objective, note.before)
        if note.plan.operator == TUNE:
            self._add_samples(note)
            return
        gain = None
        if note.plan.operator != RESCORE and objective is not None and note.before is not None:
            gain = sign * (objective - note.before)
        if note.status is Status.EVALUATOR_FAILED:
            note = note._replace(reason=BROKEN_EVALUATOR)
        self._tried.append(TriedChange(note, gain, leads))
        self._watch_edits(note)
        self.book.follow(note.plan.lessons, note.generation, leads=leads)

    def add_summary(self, generation: int, summary: Summary) -> None:
        """Adds what a generation taught."""
        self.book.drop(summary.outdated)
        for number, lesson in enumerate(summary.lessons):
            self.book.teach(generation, number, lesson)

    def _leads(self, utility: float, before: float | None) -> bool:
        """Returns whether an objective is a new best, by more than rounding."""
        if self._best is None:
            self._first = self._direction.sign * before if before is not None else utility
            self._best = self._first
        if not is_progress(utility - self._best, self._best - self._first):
            return False
        self._best = utility
        return True

    def _add_samples(self, note: SlotNote) -> None:
        before = 0.0 if note.before is None else note.before
        record = self._tuned.get(note.parent) or TunedProgram(note.parent, 0, before)
        record = replace(record, samples=record.samples + note.attempts)
        found = note.objective
        if found is not None and (
            record.best is None or self._direction.is_better(found, record.best)
        ):
            record = replace(record, best=found, best_key=note.key)
        self._tuned[note.parent] = record

    def _watch_edits(self, note: SlotNote) -> None:
        for model in dict.fromkeys(note.editors):
            self._last_editor = model
            watched = self._edits[model]
            watched.extend([False] * note.unapplied)
            watched.extend([True] * (note.attempts - note.unapplied))
            if watched.count(False) >= _EDITS_FAILED:
                self._rewriters.add(model)
