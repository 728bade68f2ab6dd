"""Which generation may start when, how many evaluations it has, and what follows from a stall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evolve.records import Status
from evolve.records.results import UNUSABLE, LightAttempt
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


@dataclass(frozen=True, slots=True)
class StallEvent:
    """A stall that began, continued, or ended.

    Attributes:
        generation: After which generation.
        evaluations: Evaluations up to it.
        action: What is done now, in words.
    """

    generation: int
    evaluations: int
    action: str


# What is done at each level of a stall.
_ACTIONS = (
    "progress again",
    "parents are drawn more evenly",
    "some slots leap to a new formulation",
)
# In windows: when slots begin to leap.
_LEAPS_AFTER = 3


class StallWatch:
    """Sees where many evaluations in a row brought no progress; a fold over evaluations.

    Args:
        window: Evaluations without progress that make a stall; 0 sees none.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.fruitless = 0
        self.level = 0
        self.events: list[StallEvent] = []

    @property
    def leaps(self) -> bool:
        """Returns whether the stall is so long that some slots leap."""
        return self.level == len(_ACTIONS) - 1

    def record(self, *, is_progress: bool) -> None:
        """Adds an evaluated attempt."""
        self.fruitless = 0 if is_progress else self.fruitless + 1

    def end_generation(self, generation: int, evaluations: int) -> None:
        """Decides what is done from now on; an event where that is something else."""
        windows = self.fruitless // self.window if self.window else 0
        level = (windows >= 1) + (windows >= _LEAPS_AFTER)
        if level != self.level:
            self.level = level
            self.events.append(StallEvent(generation, evaluations, _ACTIONS[level]))

    def describe(self) -> str:
        """Returns in words how long there was no progress, and what is done about it."""
        if not self.window:
            return "not watched"
        waited = f"{self.fruitless} of {self.window} evaluations without progress"
        return f"level {self.level}: {_ACTIONS[self.level]}; {waited}" if self.level else waited


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

    def add(self, attempts: Sequence[LightAttempt]) -> bool:
        """Adds the attempts of a committed generation; returns whether the run shall end."""
        asked = [one for one in attempts if not one.operator]
        evaluated = sum(one.status is not Status.REJECTED for one in asked)
        if evaluated > _LEAST_SHARE * len(asked):
            self._generations = self._attempts = self._unusable = 0
            return False
        self._generations += 1
        self._attempts += len(asked)
        self._unusable += sum(UNUSABLE in one.reason for one in asked)
        is_silent = self._unusable == self._attempts
        is_enough = is_silent or self._attempts >= _LEAST_ATTEMPTS
        return bool(self._most) and self._generations >= self._most and is_enough
