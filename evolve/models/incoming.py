"""What comes in of answers that are not complete yet."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Incoming:
    """Counts what one model sends while it answers; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers = 0
        self._characters = 0

    @property
    def answers(self) -> int:
        """Returns how many answers are coming in now."""
        return self._answers

    @property
    def characters(self) -> int:
        """Returns how many characters have come in so far, thinking included."""
        return self._characters

    @contextmanager
    def answer(self) -> Iterator[Callable[[int], None]]:
        """Counts an answer from its first part to its end; yields what to call for each part."""
        has_begun = False

        def add(characters: int) -> None:
            nonlocal has_begun
            with self._lock:
                self._answers += not has_begun
                self._characters += characters
            has_begun = True

        try:
            yield add
        finally:
            with self._lock:
                self._answers -= has_begun
