"""Threads that were started and never ran: whoever started them waits for ever."""

from __future__ import annotations

import threading

from evolve.awake import awake_seconds

# A busy machine may take a while to run a new thread for the first time.
_MOST_SECONDS = 15.0


class StartWatch:
    """Notices a thread that had no memory to begin."""

    def __init__(self) -> None:
        self._waiting: dict[threading.Thread, float] = {}

    def check(self) -> None:
        """Looks at all threads of this process.

        Raises:
            MemoryError: One of them has not begun for a long time.
        """
        unborn = [thread for thread in threading.enumerate() if thread.ident is None]
        if not unborn:
            self._waiting = {}
            return
        now = awake_seconds()
        self._waiting = {thread: self._waiting.get(thread, now) for thread in unborn}
        if now - min(self._waiting.values()) > _MOST_SECONDS:
            raise MemoryError
