"""Whether the search stalls, and what is done about it.

A stall is seen in the ranks of recent attempts alone, so it does not matter how the objective is
scaled or how near its bound it is: no attempt of a window was a new champion, and the window's
ranks are no higher than those of the window before (Mann & Whitney 1947, On a test of whether one
of two random variables is stochastically larger than the other).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

# One-sided: attempts that rank higher than before by so many standard errors are on their way.
_RISING = 1.0


class StallLevel(IntEnum):
    """How far the search has gone in answering a stall; each level keeps those below it."""

    NONE = 0
    ENTROPY = 1
    OPERATORS = 2
    LEAP = 3
    RESTART = 4


ACTIONS = {
    StallLevel.NONE: "progress again",
    StallLevel.ENTROPY: "entropy target raised",
    StallLevel.OPERATORS: "operators and models drawn evenly",
    StallLevel.LEAP: "some slots leap to a new formulation",
    StallLevel.RESTART: "the weakest island restarts",
}


@dataclass(frozen=True, slots=True)
class StallResponse:
    """What was done about a stall, or that it is over.

    Attributes:
        generation: After which generation.
        evaluations: Evaluations up to it.
        level: The level that was reached; `NONE` when there was progress again.
        island: The island that restarted, if one did.
    """

    generation: int
    evaluations: int
    level: StallLevel
    island: int | None = None

    @property
    def action(self) -> str:
        """Says in words what was done."""
        where = "" if self.island is None else f": island {self.island}"
        return ACTIONS[self.level] + where

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data for reports."""
        return {
            "generation": self.generation,
            "evaluations": self.evaluations,
            "level": int(self.level),
            "action": self.action,
            "island": self.island,
        }


class StallDetector:
    """Watches the ranks of attempts; a fold over them.

    Args:
        window: Evaluated attempts without progress that make a stall; 0 sees none.
        highest: The level after which no further one is reached.
    """

    def __init__(self, window: int, highest: StallLevel) -> None:
        self.window = window
        self.level = StallLevel.NONE
        self.dull = 0
        self.responses: list[StallResponse] = []
        self._highest = highest
        self._recent: deque[float] = deque(maxlen=2 * window)

    def tell(self, utility: float, *, leads: bool) -> None:
        """Takes in an evaluated attempt.

        Args:
            utility: Its objective, with the sign that makes larger better; minus infinity for
                one that failed.
            leads: Whether it is the new champion.
        """
        self._recent.append(utility)
        self.dull = 0 if leads else self.dull + 1

    def decide(self, generation: int, evaluations: int) -> StallResponse | None:
        """Returns what to do after a generation, None when nothing changes."""
        level = self.level
        if not self.dull:
            level = StallLevel.NONE
        elif self.window and self.dull >= self.window and not self._is_rising():
            self.dull = 1
            # After a restart the search is given time before anything stronger comes again.
            is_last = level is StallLevel.RESTART
            level = StallLevel.ENTROPY if is_last else min(StallLevel(level + 1), self._highest)
        if level is self.level:
            return None
        self.level = level
        response = StallResponse(generation, evaluations, level)
        self.responses.append(response)
        return response

    def name_island(self, island: int) -> None:
        """Completes the last response with the island that restarted."""
        last = self.responses[-1]
        self.responses[-1] = StallResponse(last.generation, last.evaluations, last.level, island)

    def dump(self) -> dict[str, Any]:
        """Returns plain data that `restore` takes."""
        return {
            "level": int(self.level),
            "dull": self.dull,
            "recent": [None if math.isinf(value) else value for value in self._recent],
            "responses": [
                [item.generation, item.evaluations, int(item.level), item.island]
                for item in self.responses
            ],
        }

    def restore(self, data: dict[str, Any]) -> None:
        """Takes what `dump` gave."""
        self.level, self.dull = StallLevel(data["level"]), data["dull"]
        self._recent.extend(-math.inf if value is None else value for value in data["recent"])
        self.responses = [
            StallResponse(generation, evaluations, StallLevel(level), island)
            for generation, evaluations, level, island in data["responses"]
        ]

    def _is_rising(self) -> bool:
        """Returns whether the last window ranks higher than the one before."""
        values = list(self._recent)
        before, after = values[: -self.window], values[-self.window :]
        return bool(before) and rank_shift(before, after) > _RISING


def rank_shift(before: list[float], after: list[float]) -> float:
    """Returns by how many standard errors the second sample ranks above the first.

    The normal approximation of the U statistic, with ties; 0 when all values are equal.
    """
    pooled = sorted(before + after)
    ranks: dict[float, float] = {}
    tied, start = 0.0, 0
    while start < len(pooled):
        end = start
        while end < len(pooled) and pooled[end] == pooled[start]:
            end += 1
        ranks[pooled[start]] = (start + end + 1) / 2
        tied += float((end - start) ** 3 - (end - start))
        start = end
    first, second, total = len(before), len(after), len(pooled)
    excess = sum(ranks[value] for value in after) - second * (total + 1) / 2
    variance = first * second / 12 * (total + 1 - tied / (total * (total - 1)))
    return excess / math.sqrt(variance) if variance > 0.0 else 0.0
