"""Retries, in the one place where they happen."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

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
        self.empty: list[Reply] = []

    def note(self, error: RetryableError) -> None:
        """Raises when no further request is allowed."""
        self.requests += 1
        if isinstance(error, EmptyReplyError):
            self.empty.append(error.reply)
            if len(self.empty) == self.policy.max_empty_replies:
                raise self.give_empty_up(error.reason) from error
        if self.requests == self.policy.max_requests:
            self.give_up(error)

    def give_up(self, error: RetryableError) -> NoReturn:
        if self.empty:
            raise self.give_empty_up(error.reason) from error
        plural = "s" if self.requests > 1 else ""
        within = f" within {self.deadline_seconds:g} s"
        if self.requests == self.policy.max_requests:
            within = ""
        raise ModelUnavailableError(
            f"{self.where}: no answer to {self.requests} request{plural}{within}, the last failed"
            f" with: {error.reason}"
        ) from error

    def give_empty_up(self, reason: str) -> ReplyError:
        return ReplyError(reason, add_usage(self.empty[-1], self.empty[:-1]))


def call_with_retries(
    send: Callable[[float], Reply],
    *,
    where: str,
    deadline_seconds: float,
    policy: RetryPolicy,
    jitter: Callable[[], float],
    wait: Callable[[float], bool],
    find_paused: Callable[[], float] = lambda: 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> Reply:
    """Calls `send` until it answers or the deadline passes.

    Waits grow exponentially and are drawn uniformly from their upper half; a provider's
    `Retry-After` is a lower bound. A wait that would not end before the deadline is not begun.
    Whatever ends the call, empty replies that were paid for are not lost.

    Args:
        send: Makes one request within the given seconds.
        where: Start of error messages.
        deadline_seconds: Wall time for everything.
        policy: How often and how long.
        jitter: Gives numbers in [0, 1).
        wait: Waits so many seconds; true means that it was woken because the model is closed.
        find_paused: Gives the seconds of pauses so far, which move the deadline.
        clock: Gives seconds that never go back.

    Returns:
        The reply, with the usage of the empty ones before it added.

    Raises:
        ModelUnavailableError: No answer within the deadline or the allowed requests.
        ReplyError: The replies stayed empty.
    """
    start = clock()
    series = _Series(where, deadline_seconds, policy)

    def find_left() -> float:
        return start + deadline_seconds + find_paused() - clock()

    while True:
        try:
            return add_usage(send(max(find_left(), 0.001)), series.empty)
        except RetryableError as error:
            series.note(error)
            pause = find_pause(policy, series.requests, jitter(), error.retry_after_seconds)
            if pause >= find_left() or wait(pause):
                series.give_up(error)
        except ReplyError as error:
            if error.reply is not None:
                error.reply = add_usage(error.reply, series.empty)
            elif series.empty:
                raise series.give_empty_up(error.reason) from error
            raise
        except (BudgetExhaustedError, ModelError) as error:
            if series.empty:
                raise series.give_empty_up(str(error)) from error
            raise


def find_pause(
    policy: RetryPolicy, requests: int, draw: float, retry_after_seconds: float | None
) -> float:
    """Gives the seconds to wait after so many requests."""
    doublings = min(requests - 1, 32)  # 2 ** 32 is beyond any longest wait
    longest = min(policy.first_seconds * 2.0**doublings, policy.longest_seconds)
    return max(longest * (0.5 + 0.5 * draw), retry_after_seconds or 0.0)


def add_usage(reply: Reply, others: list[Reply]) -> Reply:
    """Gives the reply with the usage of others, that were paid for as well, added."""
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
        cost_usd=sum(known) if len(known) == len(costs) else None,
    )
