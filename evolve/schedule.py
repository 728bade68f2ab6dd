"""Which generation may start when, and how many evaluations its slots may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Launch:
    """A generation that may start: most evaluations of each of its slots."""

    generation: int
    allowances: tuple[int, ...]


class Schedule:
    """Decides from committed generations alone, so that timing has no say.

    Generation g starts from the state after g - 1 - lag. The cap on evaluations is shared out
    before a generation starts; where it might not suffice for a whole one, everything in flight is
    waited for first, then the rest is given to as many slots as it lasts for.

    Args:
        generations: The last one to run.
        slots: Slots in a generation.
        lag: Generations that may be in flight beside the oldest.
        per_slot: Most evaluations of a slot.
        max_evaluations: Cap over the whole run, the initial one included.
    """

    def __init__(
        self, *, generations: int, slots: int, lag: int, per_slot: int, max_evaluations: int | None
    ) -> None:
        self._generations = generations
        self._slots = slots
        self._lag = lag
        self._per_slot = per_slot
        self._max_evaluations = max_evaluations
        self._next = 1
        self._reserved: dict[int, int] = {}

    def ready(self, committed: int, evaluations: int) -> list[Launch]:
        """Gives the generations that may start now; each is given once.

        Args:
            committed: The last committed generation.
            evaluations: Evaluations used up to it.
        """
        for generation in [number for number in self._reserved if number <= committed]:
            del self._reserved[generation]
        launches = []
        while self._next <= min(self._generations, committed + 1 + self._lag):
            allowances = self._allowances(evaluations)
            if not allowances:
                break
            launches.append(Launch(self._next, allowances))
            self._reserved[self._next] = sum(allowances)
            self._next += 1
        return launches

    def _allowances(self, evaluations: int) -> tuple[int, ...]:
        full = (self._per_slot,) * self._slots
        if self._max_evaluations is None:
            return full
        left = self._max_evaluations - evaluations - sum(self._reserved.values())
        if left >= sum(full):
            return full
        if self._reserved or left <= 0:
            return ()
        slots = min(self._slots, max(1, left // self._per_slot))
        return (min(self._per_slot, left // slots),) * slots
