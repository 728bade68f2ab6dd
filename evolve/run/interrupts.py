"""Signals that ask a run to stop: Ctrl-C, SIGTERM, and a terminal that is closed."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Asked:
    """Handles signals: gives notice of the first where somebody listens, else raises.

    Attributes:
        times: How many came.
    """

    def __init__(self, notify: Callable[[], None] | None = None) -> None:
        self._notify = notify
        self.times = 0

    def __call__(self, number: int, _frame: object) -> None:
        _leave_terminal(number)
        self.times += 1
        if self.times > 1 or self._notify is None:
            raise KeyboardInterrupt
        self._notify()


@contextmanager
def interruptible() -> Iterator[None]:
    """Lets every signal that asks to stop end what is done here as Ctrl-C does."""
    with _handled(_Asked()):
        yield


@contextmanager
def interrupts(notify: Callable[[], None]) -> Iterator[None]:
    """Returns notice of the first such signal; the second ends the command at once."""
    before = signal.getsignal(signal.SIGINT)
    with _handled(_Asked(notify)):
        # Python drops what is raised in some places, as in the middle of an import.
        if isinstance(before, _Asked) and before.times:
            raise KeyboardInterrupt
        yield


@contextmanager
def _handled(handle: _Asked) -> Iterator[None]:
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
