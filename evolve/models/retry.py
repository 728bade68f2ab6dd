"""Retries, in the one place where they happen."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evolve.errors import BudgetExhaustedError, ModelError, ModelUnavailableError
from evolve.models.protocol import ReplyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from evolve.records.chat import Reply


class RetryableError(Exception):
    """One request failed in a way that another one may not.

    Args:
        reason: One line that says what happened.
        retry_after_seconds: The provider's wish; `None` when it told none.
        is_outage: Whether it speaks for the model being down.
        may_be_charged: Whether the provider may charge for it all the same.
    """

    def __init__(
        self,
        reason: str,
        *,
        retry_after_seconds: float | None = None,
        is_outage: bool = True,
        may_be_charged: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds
        self.is_outage = is_outage
        self.may_be_charged = may_be_charged


class EmptyReplyError(RetryableError):
    """A reply came without any content; it was paid for all the same.

    Args:
        reply: The reply, for its usage.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"an empty reply, finish reason {reply.finish_reason!r}", is_outage=False)
        self.reply = reply


class CutOffError(Exception):
    """A reply was cut off at its limit; it is asked for again at once, with a higher one.

    Args:
        reply: What came of it.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__("cut off at its limit")
        self.reply = reply


class RefusedSettingError(Exception):
    """The provider refused a setting, which is left out from now on; ask again at once."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long.

    Attributes:
        first_seconds: Longest wait before the second request; it doubles from there.
        longest_seconds: Longest wait between two requests, unless the provider asks for more.
        max_requests: Requests in all; `None` for as many as the deadline allows.
        max_empty_replies: Replies without content before the call is given up.
    """

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    max_requests: int | None = None
    max_empty_replies: int = 3


class _Series:
    """The requests of one call."""

    def __init__(self, where: str, deadline_seconds: float, policy: RetryPolicy) -> None:
        self.where = where
        self.deadline_seconds = deadline_seconds
        self.policy = policy
        self.requests = 0
        self.unusable: list[Reply] = []
        self.empty = 0
        self.cut_off: Reply | None = None

    def note(self, error: RetryableError, draw: float) -> float:
        """Returns the seconds to wait; raises when no further request is allowed."""
        self.requests += 1
        if isinstance(error, EmptyReplyError):
            self.unusable.append(error.reply)
            self.empty += 1
            if self.empty == self.policy.max_empty_replies:
                raise self._describe_unusable(error.reason) from error
        if self.requests == self.policy.max_requests:
            self.give_up(error)
        return find_pause(self.policy, self.requests, draw, error.retry_after_seconds)

    def note_cut_off(self, reply: Reply) -> None:
        """Keeps a reply that was cut off: it counts where no longer one can be had."""
        self.requests += 1
        self.unusable.append(reply)
        self.cut_off = reply

    def give_up(self, error: RetryableError) -> Reply:
        """Returns the reply that was cut off, or raises: there will be no other."""
        if (reply := self._find_cut_off()) is not None:
            return reply
        if self.unusable:
            raise self._describe_unusable(error.reason) from error
        plural = "s" if self.requests > 1 else ""
        within = f" within {self.deadline_seconds:g} s"
        if self.requests == self.policy.max_requests:
            within = ""
        raise ModelUnavailableError(
            f"{self.where}: no answer to {self.requests} request{plural}{within}, the last failed"
            f" with: {error.reason}"
        ) from error

    def end(self, error: Exception) -> Reply:
        """Returns the reply that was cut off, or raises the error with what was paid for."""
        if isinstance(error, ReplyError) and error.reply is not None:
            error.reply = add_usage(error.reply, self.unusable)
            raise error
        if (reply := self._find_cut_off()) is not None:
            return reply
        if self.unusable:
            raise self._describe_unusable(str(error)) from error
        raise error

    def _describe_unusable(self, reason: str) -> ReplyError:
        return ReplyError(reason, add_usage(self.unusable[-1], self.unusable[:-1]))

    def _find_cut_off(self) -> Reply | None:
        """Returns the reply that was cut off, with all usage, where it holds an answer."""
        if self.cut_off is None or not self.cut_off.text.strip():
            return None
        others = [reply for reply in self.unusable if reply is not self.cut_off]
        return add_usage(self.cut_off, others)


def call_with_retries(
    send: Callable[[float], Reply],
    *,
    where: str,
    deadline_seconds: float,
    policy: RetryPolicy,
    jitter: Callable[[], float],
    wait: Callable[[float], bool],
    outlast: Callable[[ModelUnavailableError], bool] = lambda _: False,
    find_paused: Callable[[], float] = lambda: 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> Reply:
    """Calls `send` until it answers or the deadline passes.

    Waits grow exponentially and are drawn uniformly from their upper half; a provider's
    `Retry-After` is a lower bound. A wait that would not end before the deadline is not begun.
    Whatever ends the call, replies that were paid for and cannot be used are not lost.

    Args:
        send: Makes one request within the given seconds.
        where: Start of error messages.
        deadline_seconds: Wall time for everything.
        policy: How often and how long.
        jitter: Returns numbers in [0, 1).
        wait: Waits so many seconds; true means that it was woken because the model is closed.
        outlast: Returns whether to begin again after a deadline without an answer.
        find_paused: Returns the seconds of pauses so far, which move the deadline.
        clock: Returns seconds that never go back.

    Returns:
        The reply, with the usage of the unusable ones before it added.

    Raises:
        ModelUnavailableError: No answer within the deadline or the allowed requests.
        ReplyError: The replies stayed empty, or without an answer before their limit.
    """
    start = clock()
    series = _Series(where, deadline_seconds, policy)

    def find_left() -> float:
        return start + deadline_seconds + find_paused() - clock()

    while True:
        try:
            return add_usage(send(max(find_left(), 0.001)), series.unusable)
        except RefusedSettingError:
            continue
        except CutOffError as error:
            series.note_cut_off(error.reply)
        except RetryableError as error:
            pause = series.note(error, jitter())
            if pause < find_left() and not wait(pause):
                continue
            try:
                return series.give_up(error)
            except ModelUnavailableError as failure:
                if not outlast(failure):
                    raise
            start, series = clock(), _Series(where, deadline_seconds, policy)
        except (ReplyError, BudgetExhaustedError, ModelError) as error:
            return series.end(error)


def find_pause(
    policy: RetryPolicy, requests: int, draw: float, retry_after_seconds: float | None
) -> float:
    """Returns the seconds to wait after so many requests."""
    doublings = min(requests - 1, 32)  # 2 ** 32 is beyond any longest wait
    longest = min(policy.first_seconds * 2.0**doublings, policy.longest_seconds)
    return max(longest * (0.5 + 0.5 * draw), retry_after_seconds or 0.0)


def add_usage(reply: Reply, others: list[Reply]) -> Reply:
    """Returns the reply with the usage of others, that were paid for as well, added."""
    if not others:
        return reply
    costs = [other.cost_usd for other in (reply, *others)]
    known = [cost for cost in costs if cost is not None]
    return replace(
        reply,
        prompt_tokens=reply.prompt_tokens + sum(other.prompt_tokens for other in others),
        completion_tokens=reply.completion_tokens
        + sum(other.completion_tokens for other in others),
        cached_tokens=reply.cached_tokens + sum(other.cached_tokens for other in others),
        thinking_tokens=reply.thinking_tokens + sum(other.thinking_tokens for other in others),
        cost_usd=sum(known) if len(known) == len(costs) else None,
    )
