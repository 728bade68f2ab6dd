"""Tells a run that goes on in vain from one that only finds no gain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.records import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evolve.records import Attempt
    from evolve.records.results import SlotResult

# More than this share of a generation's attempts must be evaluated.
_LEAST_SHARE = 0.1
# Models that answer, if badly, get so many attempts: with one slot, three in a row mean little.
_LEAST_ATTEMPTS = 24
UNUSABLE = "cannot be used"
"""What the reason of an attempt says when a model answered with nothing at all."""


class FruitlessWatch:
    """Counts generations of models in a row that evaluate next to nothing.

    Args:
        most: So many end the run; 0 never does.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._generations = 0
        self._attempts = 0
        self._unusable = 0

    def add(self, slots: Iterable[SlotResult]) -> bool:
        """Adds a generation that was committed; returns whether the run shall end.

        Model-free attempts count for nothing: tuning goes on beside a model that does not answer.
        """
        attempts = [
            told.attempt
            for slot in slots
            for told in slot.attempts
            if told.attempt.plan is None or not told.attempt.plan.operator
        ]
        evaluated = sum(attempt.evaluation.status is not Status.REJECTED for attempt in attempts)
        if evaluated > _LEAST_SHARE * len(attempts):
            self._generations = self._attempts = self._unusable = 0
            return False
        self._generations += 1
        self._attempts += len(attempts)
        self._unusable += sum(map(_is_unusable, attempts))
        is_silent = self._unusable == self._attempts
        is_enough = is_silent or self._attempts >= _LEAST_ATTEMPTS
        return bool(self._most) and self._generations >= self._most and is_enough


def _is_unusable(attempt: Attempt) -> bool:
    return UNUSABLE in attempt.evaluation.reason
