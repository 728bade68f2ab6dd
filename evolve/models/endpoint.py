"""A model as a run uses it: with retries, limits and pauses, and every request within the caps."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from evolve.errors import BudgetExhaustedError, ModelError, ModelUnavailableError
from evolve.keys import cut_keys
from evolve.models.budget import (
    GENEROUS_TOKENS,
    Budget,
    Price,
    Reservation,
    add_usage,
    estimate_prompt_tokens,
    estimate_tokens,
    usage_of,
)
from evolve.models.gate import Gate
from evolve.models.model import (
    Model,
    RefusedSettingError,
    ReplyError,
    RetryableError,
    begins_thinking,
    split_thinking,
)
from evolve.records.chat import Reply, Request
from evolve.records.results import Totals

_MOST_EMPTY = 3


class RetryPolicy(NamedTuple):
    """How often to ask again.

    Attributes:
        first_seconds: Longest wait before the second request; it doubles from there.
        longest_seconds: Longest wait between two requests, unless the provider asks for more.
        max_requests: Requests in all; `None` for as many as the deadline allows.
    """

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    max_requests: int | None = None

    def find_pause(self, requests: int, draw: float) -> float:
        """Returns the seconds to wait after some requests, drawn from the upper half."""
        doublings = min(requests - 1, 32)  # 2 ** 32 is beyond any longest wait
        longest = min(self.first_seconds * 2.0**doublings, self.longest_seconds)
        return longest * (0.5 + 0.5 * draw)


_PREFLIGHT_POLICY = RetryPolicy(first_seconds=0.3, max_requests=4)


class _UnusableReplyError(RetryableError):
    """A reply came that is empty, or cut off and may be longer; its usage counts all the same."""

    def __init__(self, reason: str, reply: Reply) -> None:
        super().__init__(reason)
        self.reply = reply
        self.is_cut_off = reply.finish_reason == "length"


@dataclass(slots=True)
class _Call:
    """The requests of one call, and what came of them so far."""

    request: Request
    deadline_seconds: float
    policy: RetryPolicy
    budget: Budget
    on_lost: Callable[[Reservation, str], None] = lambda *_: None
    started: float = field(default_factory=time.monotonic)
    paused_seconds: float = 0.0
    requests: int = 0
    unusable: list[Reply] = field(default_factory=list)
    least_tokens: int | None = None

    @property
    def seconds_left(self) -> float:
        """Returns the seconds until the deadline, which pauses move."""
        return self.started + self.deadline_seconds + self.paused_seconds - time.monotonic()

    @property
    def has_ended(self) -> bool:
        """Returns whether no further request is allowed, however much time is left."""
        empty = sum(reply.finish_reason != "length" for reply in self.unusable)
        return self.requests == self.policy.max_requests or empty == _MOST_EMPTY

    def conclude(self, error: Exception) -> Reply:
        """Returns the reply that was cut off, where it holds an answer; there will be no other.

        Raises:
            ReplyError: Replies came that count, and none of them can be used.
            Exception: The error, when no reply came at all.
        """
        if isinstance(error, ReplyError) and error.reply is not None:
            error.reply = add_usage(error.reply, self.unusable)
            raise error
        for reply in self.unusable:
            if reply.finish_reason == "length" and reply.text.strip():
                return add_usage(reply, [other for other in self.unusable if other is not reply])
        if self.unusable:
            reply = add_usage(self.unusable[-1], self.unusable[:-1])
            raise ReplyError(str(error), reply) from error
        raise error


class Endpoint:
    """One model of a run; safe to use from many threads.

    Args:
        model: Answers single requests.
        gate: Decides when a request may be made; one of its own by default.
        price: What the model costs; None asks the model.
        request_seconds: Longest wait for one whole answer, before it is asked for again.
        policy: How often and how long to retry.

    Attributes:
        incoming: What the model is sending right now.
        gate: Decides when a request may be made.
        retried: Requests that were made because an earlier one of their call failed.
    """

    def __init__(
        self,
        model: Model,
        *,
        gate: Gate | None = None,
        price: Price | None = None,
        request_seconds: float = 900.0,
        policy: RetryPolicy | None = None,
    ) -> None:
        self.name = model.name
        self.incoming = model.incoming
        self._model = model
        self.gate = gate or Gate(f"model {self.name!r}")
        self._price = price
        self._request_seconds = request_seconds
        self._policy = policy or RetryPolicy()
        # Decides only how long to wait, never what a run finds.
        self._jitter = random.Random(model.name)  # noqa: S311
        self._closed = threading.Event()
        self._thinks_unopened = False
        self.retried = 0
        self._has_said_loading = False

    def complete(
        self,
        request: Request,
        deadline_seconds: float,
        budget: Budget,
        *,
        on_lost: Callable[[Reservation, str], None] = lambda *_: None,
    ) -> Reply:
        """Answers a request within the caps.

        Pauses, at the provider's wish or while it is down, do not count against the deadline.

        Args:
            request: What is asked.
            deadline_seconds: Wall time for the answer, all retries included.
            budget: Reserves and counts every single request.
            on_lost: Called with requests that may have been charged for without an answer, at
                their worst case, and with what happened to them.

        Raises:
            BudgetExhaustedError: The call might pass a cap; it was not made.
            ModelError: The model cannot be used.
            ModelUnavailableError: It is down, for longer than it is waited for.
            ReplyError: The answer cannot be used, or none came while others got one.
        """
        if self._model.is_patient:
            deadline_seconds = float("inf")
        call = _Call(request, deadline_seconds, self._policy, budget, on_lost)
        reply = self._answer(call)
        return replace(reply, seconds=time.monotonic() - call.started - call.paused_seconds)

    def preflight(self) -> Reply | None:
        """Asks for a few tokens, to find a wrong key, name or address before the run begins.

        Returns:
            The reply with its usage; None when nothing is to be counted.

        Raises:
            ModelError: The model cannot be used; the message has the remedy.
            ModelUnavailableError: Nothing answers at its address.
        """
        request = self._model.prepare()
        if request is None:
            return None
        # A server may be loading the model for minutes before its first answer.
        call = _Call(request, self._request_seconds, _PREFLIGHT_POLICY, Budget())
        try:
            return self._answer(call)
        except ModelUnavailableError as error:
            raise ModelUnavailableError(f"{error}; {self._model.remedy}") from error
        except ReplyError as error:
            # A few tokens are often no whole reply; that something answered is enough.
            return error.reply

    def find_price(self) -> Price | None:
        """Returns what the model costs, or `None` when that is unknown."""
        return self._price or self._model.find_price()

    def close(self) -> None:
        """Wakes calls that wait, which then raise `ModelUnavailableError`; safe to call twice."""
        self._closed.set()
        self.gate.close()
        self._model.close()

    def _answer(self, call: _Call) -> Reply:
        """Sends requests until one is answered or the deadline passes.

        Waits grow exponentially; the gate holds everybody back for as long as the provider asks.
        A wait that would not end before the deadline is not begun. Whatever ends the call, the
        usage of replies that cannot be used is not lost.
        """
        while True:
            try:
                return add_usage(self._send(call), call.unusable)
            except RefusedSettingError:
                continue
            except RetryableError as error:
                if self._may_repeat(call, error):
                    continue
                if isinstance(error, _UnusableReplyError):
                    return call.conclude(error)
                failure = self._describe_silence(call, error)
                if call.unusable or call.has_ended or self._closed.is_set():
                    return call.conclude(failure)
                self._outlast(call, failure)
            except (ReplyError, BudgetExhaustedError, ModelError) as error:
                return call.conclude(error)

    def _may_repeat(self, call: _Call, error: RetryableError) -> bool:
        """Waits before the next request of a call; returns whether there may be one."""
        call.requests += 1
        if isinstance(error, _UnusableReplyError):
            call.unusable.append(error.reply)
            if error.is_cut_off:
                self.retried += 1
                return True
        if error.is_loading:
            self._tell_loading(call)
        if call.has_ended:
            return False
        pause = call.policy.find_pause(call.requests, self._jitter.random())
        may_repeat = pause < call.seconds_left and not self._closed.wait(pause)
        self.retried += may_repeat
        return may_repeat

    def _tell_loading(self, call: _Call) -> None:
        """Lets a call wait for a model that is being loaded, and says so once."""
        call.requests = 1
        call.deadline_seconds = max(call.deadline_seconds, self._request_seconds)
        if not self._has_said_loading:
            self._has_said_loading = True
            self.gate.tell(
                f"model {self.name!r}: its server is loading it; waited for up to"
                f" {call.deadline_seconds:.0f} s"
            )

    def _outlast(self, call: _Call, failure: ModelUnavailableError) -> None:
        """Lets a call begin anew when nobody else got an answer within its deadline either.

        Raises:
            ReplyError: The model answered others.
        """
        if self.gate.has_answered_since(call.started):
            raise ReplyError(str(failure)) from failure
        self.gate.trip(str(failure))
        call.started, call.paused_seconds, call.requests = time.monotonic(), 0.0, 0

    def _describe_silence(self, call: _Call, error: RetryableError) -> ModelUnavailableError:
        plural = "s" if call.requests > 1 else ""
        within = "" if call.has_ended else f" within {call.deadline_seconds:g} s"
        return ModelUnavailableError(
            f"model {self.name!r}{self._model.address}: no answer to {call.requests} request"
            f"{plural}{within}, the last failed with: {error.reason}"
        )

    def _send(self, call: _Call) -> Reply:
        """Makes one request: with its worst case set aside, and through the gate."""
        began = time.monotonic()
        reservation = call.budget.reserve(
            call.request,
            self.name,
            self.find_price(),
            most=self._model.find_most_tokens(),
            least=call.least_tokens,
        )
        call.paused_seconds += time.monotonic() - began
        request = call.request
        if not self._model.is_patient:
            request = replace(request, max_tokens=reservation.limit)
        used = Totals()
        try:
            with self.gate.passage(reservation.tokens) as waited:
                call.paused_seconds += waited
                seconds = min(max(call.seconds_left, 0.001), self._request_seconds)
                reply = self._model.complete(request, seconds)
            reply = self._price_reply(reply, request)
            used = _count(call, reply)
            return self._check(call, self._remove_thinking(reply), reservation.limit)
        except ReplyError as error:
            if error.reply is not None and not used.calls:
                error.reply = self._price_reply(error.reply, request)
                used = _count(call, error.reply)
            raise
        except RetryableError as error:
            if error.may_be_charged:
                call.on_lost(reservation, error.reason)
                tokens, cost_usd = reservation.tokens, reservation.cost_usd or 0.0
                used = Totals(lost_requests=1, lost_tokens=tokens, lost_usd=cost_usd)
            raise
        finally:
            call.budget.settle(reservation, used)

    def _remove_thinking(self, reply: Reply) -> Reply:
        """Returns the reply with the answer alone."""
        text, is_unopened = split_thinking(reply.text)
        self._thinks_unopened = self._thinks_unopened or is_unopened
        is_cut = reply.finish_reason == "length" and text == reply.text
        if begins_thinking(text) or (is_cut and self._thinks_unopened):
            # A server that keeps the opening tag to itself marks thinking by its end alone.
            text = ""
        return replace(reply, text=text)

    def _check(self, call: _Call, reply: Reply, limit: int | None) -> Reply:
        """Returns a reply that holds an answer, whole or as long as it can be.

        Raises:
            RetryableError: It is empty, or was cut off and may be longer.
            ReplyError: It holds no answer, and never will.
        """
        if reply.finish_reason == "length":
            written = limit or max(reply.completion_tokens, 1)
            bounds = [call.request.max_tokens, self._model.find_most_tokens()]
            most = min((bound for bound in bounds if bound is not None), default=None)
            least = 2 * written if limit else max(2 * written, GENEROUS_TOKENS)
            if call.least_tokens is None and (most is None or 2 * written <= most):
                call.least_tokens = least if most is None else min(least, most)
                raise _UnusableReplyError("cut off at its limit", reply)
            if not reply.text.strip():
                raise ReplyError(f"cut off after {written} tokens, before the answer began", reply)
        elif not reply.text.strip():
            if reply.finish_reason == "content_filter":
                raise ReplyError("the provider's content filter stopped the reply", reply)
            reason = f"an empty reply, finish reason {reply.finish_reason!r}"
            raise _UnusableReplyError(reason, reply)
        return reply

    def _price_reply(self, reply: Reply, request: Request) -> Reply:
        """Returns the reply with usage and cost, as far as they can be known.

        Where a provider reports no usage it is estimated from the texts, on the high side.
        """
        # Nothing that follows from a reply may hold a key that it echoes.
        reply = replace(reply, text=cut_keys(reply.text), model=self.name)
        if not reply.prompt_tokens + reply.completion_tokens:
            written = estimate_tokens(reply.text) + reply.thinking_tokens
            if request.max_tokens is not None:
                written = min(written, request.max_tokens)
            read = estimate_prompt_tokens(request)
            reply = replace(reply, prompt_tokens=read, completion_tokens=written)
        price = self.find_price()
        # What a command declares stands.
        if price is not None and reply.cost_usd is None:
            cost_usd = price.cost_of(
                reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens
            )
            reply = replace(reply, cost_usd=cost_usd)
        return reply


def _count(call: _Call, reply: Reply) -> Totals:
    """Returns the usage of a reply; a call counts once, however many replies came."""
    used = usage_of(reply)
    return replace(used, calls=0, unpriced_calls=0) if call.unusable else used
