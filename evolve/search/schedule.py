"""Which generation may start when, and how many evaluations its slots may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from evolve.settings import Settings


@dataclass(frozen=True, slots=True)
class Turn:
    """A generation that may start: most evaluations of each of its slots, and of tuning."""

    generation: int
    allowances: tuple[int, ...]
    tuning: int = 0


class Size(NamedTuple):
    """How large a generation may be.

    Attributes:
        slots: Slots in it.
        per_slot: Most evaluations of a slot.
        max_evaluations: Cap over the whole run, the initial one included.
        tuning: Evaluations of the tuning lane, on average over generations.
    """

    slots: int
    per_slot: int
    max_evaluations: int | None = None
    tuning: int = 0


def size_of(settings: Settings) -> Size:
    """Gives the size of a generation under these settings."""
    per_slot = settings.steps.most_evaluations if settings.models.is_configured else 1
    slots, share = settings.loop.slots, settings.tuning.share or 0.0
    tuning = round(slots * share / (1.0 - share))
    return Size(slots, per_slot, settings.budget.max_evaluations, tuning)


class Schedule:
    """Decides from committed generations alone, so that timing has no say.

    Generation g starts from the state after g - 1 - lag. The cap on evaluations is shared out
    before a generation starts; where it might not suffice for a whole one, everything in flight is
    waited for first, then the rest is given to as many slots as it lasts for.

    Args:
        generations: The last one to run.
        lag: Generations that may be in flight beside the oldest.
        size_at: Gives the size of a generation.
    """

    def __init__(self, *, generations: int, lag: int, size_at: Callable[[int], Size]) -> None:
        self._generations = generations
        self._lag = lag
        self._size_at = size_at
        self._next = 1
        self._reserved: dict[int, int] = {}

    def ready(self, committed: int, evaluations: int) -> list[Turn]:
        """Gives the generations that may start now; each is given once.

        Args:
            committed: The last committed generation.
            evaluations: Evaluations used up to it.
        """
        for generation in [number for number in self._reserved if number <= committed]:
            del self._reserved[generation]
        turns = []
        while self._next <= min(self._generations, committed + 1 + self._lag):
            allowances, tuning = self._allowances(evaluations)
            if not allowances:
                break
            turns.append(Turn(self._next, allowances, tuning))
            self._reserved[self._next] = sum(allowances) + tuning
            self._next += 1
        return turns

    def _allowances(self, evaluations: int) -> tuple[tuple[int, ...], int]:
        size = self._size_at(self._next)
        full = (size.per_slot,) * size.slots
        # The tuning lane works where all of its earlier samples are committed.
        tuning = size.tuning * (self._lag + 1) if self._next % (self._lag + 1) == 0 else 0
        if size.max_evaluations is None:
            return full, tuning
        left = size.max_evaluations - evaluations - sum(self._reserved.values())
        if left >= sum(full) + tuning:
            return full, tuning
        if self._reserved or left <= 0:
            return (), 0
        slots = min(size.slots, max(1, left // size.per_slot))
        return (min(size.per_slot, left // slots),) * slots, 0
