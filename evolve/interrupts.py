"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evolve.search import Interrupt

if TYPE_CHECKING:
    import queue
    from collections.abc import Iterator

    from evolve.search import Event


@contextmanager
def interrupts(events: queue.SimpleQueue[Event]) -> Iterator[None]:
    """Turns the first Ctrl-C or SIGTERM into an event; the second ends the command at once."""
    seen: list[int] = []

    def handle(number: int, _frame: object) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        events.put(Interrupt())

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
