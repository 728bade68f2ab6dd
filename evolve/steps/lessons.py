"""The lessons of a run: what its summaries say, merged where they say the same."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evolve.records import Summary

FAILURES_TO_MARK = 3
"""A lesson that was followed so often without any gain keeps failing."""

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
class Lesson:
    """What one or more slots taught.

    Attributes:
        id: The slot that taught it first, as `generation.slot`.
        text: The lesson, in its first words.
        cause: `idea`, `implementation`, `time` or `noise`, as last named.
        tags: Short words that group lessons.
        next_step: What to try next, as last named.
        taught: Slots that drew it.
        gained: How many of those gained on their parent.
        followed: Later slots whose plan names it.
        paid: How many of those gained on their parent.
        newest: Generation in which it was last taught or followed.
        origin: The run it was taken over from; empty for one of this run.
    """

    id: str
    text: str
    cause: str = "idea"
    tags: tuple[str, ...] = ()
    next_step: str = ""
    taught: int = 1
    gained: int = 0
    followed: int = 0
    paid: int = 0
    newest: int = 0
    origin: str = ""

    @property
    def keeps_failing(self) -> bool:
        """Tells whether it was followed several times and never paid."""
        return self.followed >= FAILURES_TO_MARK and not self.paid

    def worth(self, generation: int) -> float:
        """Gives how much it deserves to be told in a generation."""
        share = (1 + self.gained + self.paid) / (2 + self.taught + self.followed)
        fresh: float = 0.5 ** (max(0, generation - self.newest) / _FADES_AFTER)
        return share + 0.1 * math.log2(1 + self.taught) + 0.5 * fresh

    def as_dict(self) -> dict[str, Any]:
        """Gives plain data that `from_dict` turns back into an equal lesson."""
        return {**asdict(self), "tags": list(self.tags)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Lesson:
        """Gives the lesson that `as_dict` wrote."""
        return cls(**{**data, "tags": tuple(data["tags"])})


class LessonBook:
    """Takes lessons in, one slot after the other, and merges those that say the same.

    Two say the same when they share most of their words; numbers and word endings do not count.

    Args:
        inherited: Lessons of another run.
    """

    def __init__(self, inherited: Iterable[Lesson] = ()) -> None:
        self._lessons: list[Lesson] = []
        self._words: list[frozenset[str]] = []
        self._by_id: dict[str, int] = {}
        # Sets with so many words in common share one of the first few in any fixed order; long
        # words come first, since they are rare.
        self._places: defaultdict[str, list[int]] = defaultdict(list)
        for lesson in inherited:
            self._add(lesson)

    @property
    def lessons(self) -> tuple[Lesson, ...]:
        """Gives all lessons, in the order in which they were first taught."""
        return tuple(self._lessons)

    def teach(self, generation: int, slot: int, summary: Summary, *, gained: bool) -> None:
        """Takes in what a slot taught, if anything."""
        words = _words_of(summary.lesson)
        if not words:
            return
        index = self._find(words)
        if index is None:
            self._add(
                Lesson(
                    id=f"{generation}.{slot}",
                    text=summary.lesson,
                    cause=summary.cause,
                    tags=summary.tags,
                    next_step=summary.next_step,
                    gained=int(gained),
                    newest=generation,
                )
            )
            return
        old = self._lessons[index]
        self._lessons[index] = replace(
            old,
            cause=summary.cause,
            tags=tuple(dict.fromkeys((*old.tags, *summary.tags)))[:6],
            next_step=summary.next_step or old.next_step,
            taught=old.taught + 1,
            gained=old.gained + gained,
            newest=generation,
        )

    def follow(self, ids: Iterable[str], generation: int, *, gained: bool) -> None:
        """Takes note that a slot's plan named lessons; unknown names are passed over."""
        for index in {self._by_id[name] for name in ids if name in self._by_id}:
            old = self._lessons[index]
            self._lessons[index] = replace(
                old, followed=old.followed + 1, paid=old.paid + gained, newest=generation
            )

    def rank(self, generation: int, limit: int) -> tuple[Lesson, ...]:
        """Gives the lessons that most deserve to be told, those that keep failing left out."""
        sound = [lesson for lesson in self._lessons if not lesson.keeps_failing]
        sound.sort(key=lambda lesson: lesson.worth(generation), reverse=True)
        return tuple(sound[:limit])

    def failing(self, limit: int) -> tuple[Lesson, ...]:
        """Gives the lessons that keep failing, the most followed first."""
        bad = [lesson for lesson in self._lessons if lesson.keeps_failing]
        bad.sort(key=lambda lesson: lesson.followed, reverse=True)
        return tuple(bad[:limit])

    def _add(self, lesson: Lesson) -> None:
        words = _words_of(lesson.text)
        index = len(self._lessons)
        self._by_id.setdefault(lesson.id, index)
        for word in _prefix(words):
            self._places[word].append(index)
        self._lessons.append(lesson)
        self._words.append(words)

    def _find(self, words: frozenset[str]) -> int | None:
        """Gives the lesson with the most words in common, if they are most of all words."""
        near = {index for word in _prefix(words) for index in self._places[word]}
        best, best_share = None, _SAME
        for index in sorted(near):
            other = self._words[index]
            share = len(words & other) / len(words | other)
            if share >= best_share and (best is None or share > best_share):
                best, best_share = index, share
        return best


def _prefix(words: frozenset[str]) -> list[str]:
    most = len(words) - math.ceil(_SAME * len(words)) + 1
    return sorted(words, key=lambda word: (-len(word), word))[:most]


def _words_of(text: str) -> frozenset[str]:
    words = (_ENDINGS.sub("", word) for word in _WORD.findall(text.lower()) if word not in _IDLE)
    return frozenset(words)
