"""A clock that stands still while this process does.

A machine that sleeps, or SIGSTOP, must not let a deadline pass: nobody had the time to meet it.
"""

from __future__ import annotations

import threading
import time

_BEAT_SECONDS = 0.5
# A process that was not looked at for so long did not run.
_ASLEEP_SECONDS = 2.0


class AwakeClock:
    """Gives the seconds of the monotonic clock, but for those in which the process was stopped.

    A thread of its own looks at the clock all the time from the first call on: a gap is noticed
    by whoever looks first after it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looked: float | None = None
        self._asleep = 0.0

    def __call__(self) -> float:
        """Gives seconds that never go back, from an arbitrary start."""
        with self._lock:
            if self._looked is None:
                # First: without it, a clock that is seldom asked would take itself for asleep.
                threading.Thread(target=self._beat, daemon=True).start()
            return self._look()

    def _look(self) -> float:
        now = time.monotonic()
        if self._looked is not None and now - self._looked > _ASLEEP_SECONDS:
            self._asleep += now - self._looked - _BEAT_SECONDS
        self._looked = now
        return now - self._asleep

    def _beat(self) -> None:
        while True:
            time.sleep(_BEAT_SECONDS)
            with self._lock:
                self._look()


awake_seconds = AwakeClock()
