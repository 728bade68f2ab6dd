"""Detects runs that go on in vain, apart from those that only find no gain."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evolve.records.results import Efforts

# More than this share of a generation's attempts must be evaluated.
_LEAST_SHARE = 0.1
# Models that answer, if badly, get so many attempts: with one slot, three in a row mean little.
_LEAST_ATTEMPTS = 24


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

    def add(self, efforts: Efforts) -> bool:
        """Adds a committed generation; returns whether the run shall end."""
        if efforts.evaluated > _LEAST_SHARE * efforts.attempts:
            self._generations = self._attempts = self._unusable = 0
            return False
        self._generations += 1
        self._attempts += efforts.attempts
        self._unusable += efforts.unusable
        is_silent = self._unusable == self._attempts
        is_enough = is_silent or self._attempts >= _LEAST_ATTEMPTS
        return bool(self._most) and self._generations >= self._most and is_enough
