"""Whether it pays to change the champion again and again, alone."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evolve.records import AttemptKey

_DECAY = 0.995
# What either kind of parent is credited with beforehand: new champions, and attempts.
_PRIOR_LEADS, _PRIOR_ATTEMPTS = 0.5, 20.0
# Slots that climb at most, and how sure it must be that climbing is better before many do.
_MOST = 0.9
_CAUTION = 3
# A champion without a better child after so many times the usual wait has no more to give.
_PATIENCE = 1.5
# Parents are chosen from the state of a few generations before; so long a former champion counts.
_FORMER = 3


class Climbs:
    """Compares how often children of the champion are new champions with how often others are.

    A fold over attempts. Both rates have a beta distribution, with recent attempts counting more;
    the more surely the champion's is the higher one, the more slots climb. Without evidence none
    do, and none once the champion has had fruitless children for longer than is usual: whatever
    deceives a climber, or stops it at a local optimum, ends the climb.

    Args:
        is_on: Whether slots may climb.
    """

    def __init__(self, *, is_on: bool = True) -> None:
        self._is_on = is_on
        self._attempts = [0.0, 0.0]
        self._leads = [0.0, 0.0]
        self._fruitless = 0
        self._champion: AttemptKey | None = None
        self._former: deque[AttemptKey] = deque(maxlen=_FORMER)

    def record(self, parent: AttemptKey, *, leads: bool) -> None:
        """Takes in an evaluated attempt.

        Args:
            parent: The attempt it was made from.
            leads: Whether it is the new champion.
        """
        kind = int(parent in self._former)
        for counts in (self._attempts, self._leads):
            counts[0] *= _DECAY
            counts[1] *= _DECAY
        self._attempts[kind] += 1.0
        self._leads[kind] += leads
        if leads:
            self._fruitless = 0
        elif parent == self._champion:
            self._fruitless += 1

    def end_generation(self, champion: AttemptKey) -> None:
        """Takes note of the champion after a generation."""
        self._champion = champion
        self._former.append(champion)

    @property
    def share(self) -> float:
        """Returns the share of slots that change the champion alone, from 0 to 0.9."""
        other, own = zip(self._attempts, self._leads, strict=True)
        rate, variance = _describe(*own)
        if not self._is_on or self._fruitless * rate > _PATIENCE:
            return 0.0
        other_rate, other_variance = _describe(*other)
        errors = (rate - other_rate) / math.sqrt(variance + other_variance)
        return _MOST * max(0.0, math.erf(errors / math.sqrt(2.0))) ** _CAUTION


def _describe(attempts: float, leads: float) -> tuple[float, float]:
    """Returns mean and variance of a rate."""
    total = attempts + _PRIOR_ATTEMPTS
    rate = (leads + _PRIOR_LEADS) / total
    return rate, rate * (1.0 - rate) / (total + 1.0)
