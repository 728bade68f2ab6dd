"""What was learnt so far, as the planner is told it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evolve.records import Ancestor, Attempt, Summary


@dataclass(frozen=True, slots=True)
class Digest:
    """What a planner is told beside the parent and its inspirations.

    Everything in it follows from committed generations, so that prompts do not depend on timing.

    Attributes:
        ancestors: The parent's own line, nearest first; at most three.
        siblings: Earlier attempts at the same parent, newest first.
        lessons: The newest lessons of the run, without repetition.
        generation: Number of this generation.
        generations: How many the run may have.
    """

    ancestors: tuple[Ancestor, ...] = ()
    siblings: tuple[Attempt, ...] = ()
    lessons: tuple[Summary, ...] = ()
    generation: int = 1
    generations: int = 1


def merge_lessons(lessons: list[Summary], limit: int) -> tuple[Summary, ...]:
    """Gives the first `limit` lessons that say something different, in their order."""
    distinct: dict[str, Summary] = {}
    for summary in lessons:
        distinct.setdefault(" ".join(summary.lesson.lower().split()), summary)
    return tuple(distinct.values())[:limit]
