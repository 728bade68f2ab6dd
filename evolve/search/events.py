"""What generations, the journal and the user report to the loop, from any thread."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from dataclasses import dataclass, field

from evolve.errors import BudgetExhaustedError
from evolve.records import Plan
from evolve.records.results import INTERRUPTED, Call, Evaluated, Expense, SlotResult
from evolve.search.generation import GenerationResult


class Interrupt:
    """Asks the loop to stop."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A finished call or evaluation, whose slot waits until it is durable."""

    item: Call | Evaluated | Expense
    durable: Future[None] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class Planned:
    """The plans of all slots of a generation are known."""

    generation: int
    plans: tuple[Plan, ...]


@dataclass(frozen=True, slots=True)
class SlotEnded:
    """A slot has ended."""

    generation: int
    result: SlotResult


Event = Recorded | Planned | SlotEnded | GenerationResult | Interrupt | BaseException


class Inbox:
    """Events on their way to the loop. It has no lock, for a signal's handler puts some in."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._is_closed = False

    def put(self, event: Event) -> None:
        """Adds an event; once the loop has ended, nothing comes of it."""
        self._events.put(event)
        if self._is_closed:
            self.close()

    def record(self, item: Call | Evaluated | Expense) -> None:
        """Hands over a finished call or evaluation, and returns when it is durable.

        Nothing that follows from it is asked for before, so a kill loses only what is under way.

        Raises:
            BudgetExhaustedError: The loop has ended, so it never will be.
        """
        recorded = Recorded(item)
        self.put(recorded)
        recorded.durable.result()

    def wait(self, seconds: float) -> list[Event]:
        """Returns all events there are, after at least one or so long."""
        events: list[Event] = []
        try:
            events.append(self._events.get(timeout=seconds))
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            return events

    def close(self) -> None:
        """Lets nobody wait any longer for what is not taken out any more."""
        self._is_closed = True
        for event in self.wait(0.0):
            if isinstance(event, Recorded):
                event.durable.set_exception(BudgetExhaustedError(INTERRUPTED))
