"""The lessons of a run: what its summaries say, merged where they say the same."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from evolve.records import Lesson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
        paid: How many of those led to a new best objective of the run.
        newest: Generation in which it was last taught or followed.
        origin: The run that it was inherited from; empty for one of this run.
    """

    id: str
    lesson: Lesson
    taught: int = 1
    followed: int = 0
    paid: int = 0
    newest: int = 0
    origin: str = ""

    def worth(self, generation: int) -> float:
        """Returns how much it deserves a place in the prompts of a generation.

        Warnings are not judged by what following them brought: obeying one gains nothing.
        """
        share = (1 + self.paid) / (2 + self.followed) if self.lesson.works else 0.5
        fresh: float = 0.5 ** (max(0, generation - self.newest) / _FADES_AFTER)
        return share + 0.1 * math.log2(1 + self.taught) + 0.5 * fresh

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data that `from_dict` turns back into an equal lesson."""
        data = asdict(self)
        lesson = data.pop("lesson")
        return {"id": data.pop("id"), **lesson, "tags": list(lesson["tags"]), **data}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> KnownLesson:
        """Returns the lesson that `as_dict` wrote."""
        names = ("claim", "evidence", "scope", "works")
        lesson = Lesson(**{name: data[name] for name in names}, tags=tuple(data["tags"]))
        rest = {key: value for key, value in data.items() if key not in {*names, "tags"}}
        return cls(**rest, lesson=lesson)


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

    def follow(self, ids: Iterable[str], generation: int, *, paid: bool) -> None:
        """Records that a slot's plan named lessons; unknown ids are ignored."""
        for index in {self._by_id[name] for name in ids if name in self._by_id}:
            old = self._lessons[index]
            self._lessons[index] = replace(
                old, followed=old.followed + 1, paid=old.paid + paid, newest=generation
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
