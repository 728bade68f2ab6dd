"""Who may ask a model when: limits on requests and tokens, pauses, a circuit breaker."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass

from evolve.errors import ModelUnavailableError
from evolve.models.model import RetryableError

_WINDOW_SECONDS = 60.0
_FAILURES_TO_OPEN = 5
_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 60.0


@dataclass(eq=False)
class Gate:
    """Lets requests to one model pass when they may; safe to use from many threads.

    Five failures in a row of any requests, or a call that got no answer while nobody else got one
    either, open the circuit: then one request at a time asks whether the model is back, after
    pauses that double from 5 to 60 seconds, and all others wait.

    Args:
        where: Start of messages: the model's name and address.
        concurrency: Most requests at a time.
        requests_per_minute: Most requests begun in any 60 seconds.
        tokens_per_minute: Most tokens, by upper estimate, of requests begun in any 60 seconds.
        outage_seconds: Longest wait for a model that is down, or that limits the rate.
        tell: Called at pauses and their ends, from any thread.
        clock: Returns seconds that never go back.
        longest_nap_seconds: Who waits looks again at least so often.

    Attributes:
        in_flight: How many requests are being answered.
    """

    where: str
    _: KW_ONLY
    concurrency: float = math.inf
    requests_per_minute: float = math.inf
    tokens_per_minute: float = math.inf
    outage_seconds: float = 900.0
    tell: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    longest_nap_seconds: float = 0.5

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self.in_flight = 0
        self._begun: deque[tuple[float, int]] = deque()
        self._failures = 0
        self._last_reason = ""
        self._last_answer = self._not_before = float("-inf")
        self._down_since: float | None = None
        self._pause = 0.0
        self._is_closed = False

    @contextmanager
    def passage(self, tokens: int) -> Iterator[float]:
        """Waits until a request may be made, and returns the seconds that took.

        Inside, the request is made; how it ends is taken note of.

        Args:
            tokens: Upper estimate of what the request uses.

        Raises:
            ModelUnavailableError: The model is down, asks for a longer pause than is waited for,
                or was closed.
        """
        start = self.clock()
        with self._changed:
            while (nap := self._find_nap(tokens)) > 0.0:
                self._changed.wait(min(nap, self.longest_nap_seconds))
            now = self.clock()
            self.in_flight += 1
            self._begun.append((now, tokens))
        failure: RetryableError | None = None
        try:
            yield now - start
        except RetryableError as error:
            failure = error
            raise
        finally:
            with self._changed:
                self.in_flight -= 1
                self._take_note(failure)
                self._changed.notify_all()

    def trip(self, reason: str) -> None:
        """Opens the circuit, for a call got no answer within its deadline."""
        with self._changed:
            self._last_reason = reason
            if self._down_since is None:
                self._prolong()

    def has_answered_since(self, moment: float) -> bool:
        """Returns whether any request was answered after a moment of the clock."""
        return self._last_answer >= moment

    def close(self) -> None:
        """Wakes who waits; nobody passes any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _take_note(self, failure: RetryableError | None) -> None:
        if failure is not None:
            self._last_reason = failure.reason
        if failure is None or not failure.is_outage:
            self._note_answer()
        else:
            self._failures += 1
            if self._down_since is not None or self._failures >= _FAILURES_TO_OPEN:
                self._prolong()
        seconds = failure.retry_after_seconds if failure is not None else None
        if seconds:
            self._not_before = max(self._not_before, self.clock() + seconds)
            if seconds >= _FIRST_PAUSE_SECONDS:
                self.tell(f"{self.where}: rate limited; retrying in {seconds:.0f} s")

    def _check_open(self) -> None:
        if self._is_closed:
            raise ModelUnavailableError(f"{self.where}: closed")
        now = self.clock()
        if self._down_since is not None:
            down = now - self._down_since
            if down >= self.outage_seconds:
                raise ModelUnavailableError(
                    f"{self.where}: down for {down:.0f} s, the last request failed with: "
                    f"{self._last_reason}"
                )
        wish = self._not_before - now
        if wish > self.outage_seconds:
            raise ModelUnavailableError(
                f"{self.where}: rate limited for {wish:.0f} s: {self._last_reason}"
            )

    def _find_nap(self, tokens: int) -> float:
        """Returns the seconds until the request may pass as far as is known now; 0 to pass."""
        self._check_open()
        now = self.clock()
        if self.in_flight >= (self.concurrency if self._down_since is None else 1):
            return math.inf
        if self._not_before > now:
            return self._not_before - now
        while self._begun and self._begun[0][0] <= now - _WINDOW_SECONDS:
            self._begun.popleft()
        used = sum(part for _, part in self._begun)
        has_room = used + tokens <= self.tokens_per_minute or not self._begun
        if has_room and len(self._begun) < max(self.requests_per_minute, 1.0):
            return 0.0
        return self._begun[0][0] + _WINDOW_SECONDS - now

    def _note_answer(self) -> None:
        self._failures = 0
        self._last_answer = self.clock()
        if self._down_since is not None:
            down = self._last_answer - self._down_since
            self._down_since, self._pause = None, 0.0
            self.tell(f"{self.where}: answers again after {down:.0f} s")

    def _prolong(self) -> None:
        """Opens the circuit, or keeps it open for a longer pause."""
        now = self.clock()
        if self._down_since is None:
            self._down_since = now
        self._pause = min(max(2.0 * self._pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        left = max(self._down_since + self.outage_seconds - now, 0.0)
        self._pause = min(self._pause, max(left, 0.01))
        self._not_before = max(self._not_before, now + self._pause)
        if left:
            self.tell(
                f"{self.where}: down ({self._last_reason}); paused, asked again in "
                f"{self._pause:.0f} s, given up in {left:.0f} s"
            )
