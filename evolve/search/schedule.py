"""Which generation may start when, and how many evaluations its slots may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from evolve.records.results import Efforts
from evolve.settings import Settings

# With a model the first generations wait for each other: each learns from the one before.
_IN_TURN = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """A generation that may start: most evaluations of each of its slots, and of tuning."""

    generation: int
    allowances: tuple[int, ...]
    tuning: int = 0


class Size(NamedTuple):
    """How large a generation may be, and how many may be in flight.

    Attributes:
        slots: Slots in it.
        per_slot: Most evaluations of a slot.
        max_evaluations: Cap over the whole run, the initial one included.
        tuning: Evaluations that tune constants, on average over generations.
        lag: Generations that may be in flight beside the oldest when it starts.
        in_turn: Generations at the start of the run that start one after the other.
    """

    slots: int
    per_slot: int
    max_evaluations: int | None = None
    tuning: int = 0
    lag: int = 0
    in_turn: int = 0


def size_of(settings: Settings) -> Size:
    """Returns the size of a generation under these settings."""
    with_model = settings.models.is_configured
    per_slot = settings.steps.most_evaluations if with_model else 1
    slots, share = settings.loop.slots, settings.tuning.share or 0.0
    tuning = round(slots * share / (1.0 - share))
    in_turn = _IN_TURN if with_model else 0
    cap = settings.budget.max_evaluations
    return Size(slots, per_slot, cap, tuning, settings.loop.lag, in_turn)


class Schedule:
    """Decides from committed generations alone, so that timing has no say.

    Generation g starts from the state after g - 1 - lag, once the plans of all generations before
    it are known. The cap on evaluations is shared out before a generation starts; where it might
    not suffice for a whole one, everything in flight is waited for first, then the rest is given
    to as many slots as it lasts for.

    Args:
        generations: The last one to run.
        size_at: Returns the size of a generation.
        injected_at: Returns how many programs of the user's a generation evaluates.
    """

    def __init__(
        self,
        *,
        generations: int,
        size_at: Callable[[int], Size],
        injected_at: Callable[[int], int] = lambda _: 0,
    ) -> None:
        self._generations = generations
        self._size_at = size_at
        self._injected_at = injected_at
        self._next = 1
        self._reserved: dict[int, int] = {}
        # The last generation that tunes constants: no other starts before it is committed.
        self._tuned = 0

    def waits_for_plans(self, committed: int, planned: int) -> bool:
        """Returns whether only plans are missing for the next generation to start.

        Then nothing more is to be committed: it is to start from the present state.
        """
        return self._may_start(committed) and planned < self._next - 1

    def next(self, committed: int, evaluations: int) -> Turn | None:
        """Returns the next generation, if it may start from this state; each is returned once.

        Args:
            committed: The last committed generation.
            evaluations: Evaluations used up to it.
        """
        for generation in [number for number in self._reserved if number <= committed]:
            del self._reserved[generation]
        if not self._may_start(committed):
            return None
        injected = self._injected_at(self._next)
        allowances, tuning = self._allowances(committed, evaluations + injected)
        if not allowances:
            return None
        turn = Turn(self._next, allowances, tuning)
        self._reserved[self._next] = sum(allowances) + tuning + injected
        if tuning:
            self._tuned = self._next
        self._next += 1
        return turn

    def _may_start(self, committed: int) -> bool:
        if self._next > self._generations:
            return False
        return self._next <= committed + 1 + self._lag(committed)

    def _lag(self, committed: int) -> int:
        size = self._size_at(self._next)
        return 0 if committed < size.in_turn else size.lag

    def _allowances(self, committed: int, evaluations: int) -> tuple[tuple[int, ...], int]:
        size = self._size_at(self._next)
        full = (size.per_slot,) * size.slots
        # Tuning continues where all of its earlier samples are committed.
        tuning = size.tuning if self._tuned <= committed else 0
        tuning *= 1 + self._lag(committed)
        if size.max_evaluations is None:
            return full, tuning
        left = size.max_evaluations - evaluations - sum(self._reserved.values())
        if left >= sum(full) + tuning:
            return full, tuning
        if self._reserved or left <= 0:
            return (), 0
        # The rest is shared as a whole generation would be; at least one slot runs.
        tuning = min(left - 1, round(left * tuning / (sum(full) + tuning)))
        left -= tuning
        slots = min(size.slots, max(1, left // size.per_slot))
        return (min(size.per_slot, left // slots),) * slots, tuning


# More than this share of a generation's attempts must be evaluated.
_LEAST_SHARE = 0.1
# Attempts of models that answer, if badly: with one slot, three in a row mean little.
_LEAST_ATTEMPTS = 24


class FruitlessWatch:
    """Counts generations of models in a row that evaluate next to nothing.

    Args:
        most: How many end the run; 0 for any number.
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
