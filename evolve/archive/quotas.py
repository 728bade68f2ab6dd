"""Which island each slot of a generation works for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

# A program better than all of its island's; one that only fills or improves a cell counts less.
_REWARD_LEAD = 1.0
_REWARD_TAKEN = 0.1
_DECAY = 0.98
# Attempts that every island is credited with, so that none is judged by one or two.
_PRIOR_USES = 8.0
_PRIOR_REWARD = 0.5


class SlotQuotas:
    """Shares slots among islands: half of them in turns, the others by recent progress.

    Probability matching with decay, as for operators: an island that has just improved gets more
    attempts, and none gets less than half of its even share.

    Args:
        islands: How many there are.
        by_progress: Whether progress counts; else all slots go in turns.
    """

    def __init__(self, islands: int, *, by_progress: bool) -> None:
        self._by_progress = by_progress and islands > 1
        self._uses = np.zeros(islands)
        self._rewards = np.zeros(islands)

    def record(self, island: int, *, leads: bool, taken: bool) -> None:
        """Takes in an attempt.

        Args:
            island: For which it was made.
            leads: Whether it is the island's new best.
            taken: Whether it became an elite.
        """
        reward = _REWARD_LEAD if leads else _REWARD_TAKEN if taken else 0.0
        self._uses[island] = _DECAY * self._uses[island] + 1.0
        self._rewards[island] = _DECAY * self._rewards[island] + reward

    def forget(self, island: int) -> None:
        """Forgets what an island did, so that its chance is that of a new one."""
        self._uses[island] = self._rewards[island] = 0.0

    @property
    def shares(self) -> NDArray[np.float64]:
        """Returns each island's chance of a slot that goes by progress, shape `(islands,)`."""
        qualities = (self._rewards + _PRIOR_REWARD) / (self._uses + _PRIOR_USES)
        shares: NDArray[np.float64] = qualities / qualities.sum()
        return shares

    def assign(self, generation: int, slots: int, rng: Generator) -> list[int]:
        """Returns the island of each slot of a generation."""
        islands = len(self._uses)
        turns = (slots + 1) // 2 if self._by_progress else slots
        assigned = [(generation * turns + slot) % islands for slot in range(turns)]
        if self._by_progress:
            assigned += rng.choice(islands, size=slots - turns, p=self.shares).tolist()
        return assigned
