"""What a run tells people: while it goes on, and how it came to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from evolve.models.budget import Budget
    from evolve.records import AttemptKey
    from evolve.search import Observer


class View(Protocol):
    """What a run tells people while it goes on."""

    def tell(self, line: str) -> None:
        """Shows one line."""

    def watch(
        self, *, title: str, generations: int, budget: Budget, initial: float
    ) -> AbstractContextManager[Observer]:
        """Shows progress while the context is open."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run, or this part of it, came to its end.

    Attributes:
        stopped_because: A word of `records.endings`: the end, or the cap that was reached.
        initial: Objective of the starting program.
        best: Objective of the champion.
        improved: Whether the champion is better than the starting program.
        champion: The best program's attempt.
        spent: What all of the run has used so far: evaluations, calls, tokens, money.
        seconds: How long all of the run has taken so far.
        rejections: How many attempts were rejected, by reason.
    """

    stopped_because: str
    initial: float
    best: float
    improved: bool
    champion: AttemptKey
    spent: Mapping[str, Any]
    seconds: float
    rejections: Mapping[str, int]
