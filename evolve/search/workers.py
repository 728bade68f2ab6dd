"""Threads on which slots run."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Workers(Protocol):
    """Runs functions and returns their results later."""

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Starts a function as soon as there is room for it; functions begin in order."""


class Threads:
    """Daemon threads: a model or an evaluator that hangs does not keep a run from ending.

    Args:
        count: How many functions run at a time.
    """

    def __init__(self, count: int) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        for _ in range(count):
            threading.Thread(target=self._work, daemon=True).start()

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Starts a function as soon as there is a thread for it; functions begin in order."""
        future: Future[T] = Future()
        self._waiting.put(lambda: complete(future, function))
        return future

    def _work(self) -> None:
        while True:
            self._waiting.get()()


class Inline:
    """Runs each function at once, on the caller's thread."""

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Runs a function."""
        future: Future[T] = Future()
        complete(future, function)
        return future


def complete(future: Future[T], function: Callable[[], T]) -> None:
    """Sets a future to what a function returns or raises."""
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
        future.set_exception(error)
    else:
        future.set_result(result)
