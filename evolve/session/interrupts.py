"""Signals that ask a run to stop: Ctrl-C, SIGTERM, and a terminal that is closed."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from evolve.search import Interrupt

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable, Iterator

    from evolve.search import Event

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Lets every signal that asks to stop end what is done here as Ctrl-C does."""

    def handle(number: int, _frame: object) -> NoReturn:
        _leave_terminal(number)
        raise KeyboardInterrupt

    with _handled(handle):
        yield


@contextmanager
def interrupts(events: queue.SimpleQueue[Event]) -> Iterator[None]:
    """Turns the first such signal into an event; the second ends the command at once."""
    seen: list[int] = []

    def handle(number: int, _frame: object) -> None:
        _leave_terminal(number)
        if seen:
            raise KeyboardInterrupt
        seen.append(number)
        events.put(Interrupt())

    with _handled(handle):
        yield


@contextmanager
def _handled(handle: Callable[[int, object], None]) -> Iterator[None]:
    # Under `nohup` a closed terminal is to be passed over. Ctrl-C is heard even where it is
    # ignored, as behind the `&` of a script: `kill -INT` is how such a script asks to stop.
    previous = {
        number: signal.signal(number, handle)
        for number in _SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _leave_terminal(number: int) -> None:
    """Sends what is still to be told nowhere: to write to a closed terminal is an error."""
    if number == signal.SIGHUP:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
