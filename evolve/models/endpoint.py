"""A model as a run uses it: with retries, limits, pauses, and every request paid for."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from evolve.errors import ModelUnavailableError
from evolve.keys import cut_keys
from evolve.models.budget import usage_of
from evolve.models.gate import Gate
from evolve.models.protocol import (
    GENEROUS_TOKENS,
    ReplyError,
    estimate_prompt_tokens,
    estimate_tokens,
)
from evolve.models.retry import (
    CutOffError,
    EmptyReplyError,
    RetryableError,
    RetryPolicy,
    call_with_retries,
)
from evolve.models.thinking import begins_thinking, split_thinking
from evolve.records.results import Totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from evolve.models.budget import Budget, Reservation
    from evolve.models.incoming import Incoming
    from evolve.models.protocol import Model, Price
    from evolve.records.chat import Reply, Request

_PREFLIGHT_POLICY = RetryPolicy(first_seconds=0.3, max_requests=4, max_empty_replies=1)
_PREFLIGHT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Lost:
    """A request that may have been charged for and brought nothing.

    Attributes:
        role: What it was for.
        model: Who was asked.
        prompt_tokens: Upper estimate of the tokens read.
        completion_tokens: Upper estimate of the tokens written.
        cost_usd: Upper estimate of its price; `None` when the price is unknown.
        reason: What happened to it.
    """

    role: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    reason: str


@dataclass(slots=True)
class _Call:
    request: Request
    deadline_seconds: float
    budget: Budget
    may_wait: bool
    on_lost: Callable[[Lost], None]
    started: float = field(default_factory=time.monotonic)
    paused_seconds: float = 0.0
    is_counted: bool = False
    least_tokens: int | None = None


class Endpoint:
    """One model of a run; safe to use from many threads.

    Args:
        model: Answers single requests.
        name: In ledgers and reports; that of the model by default.
        gate: Says when a request may be made; one of its own by default.
        price: What the model costs; None asks the model.
        request_seconds: Longest wait for one whole answer, before it is asked for again.
        policy: How often and how long to retry.
        jitter: Returns numbers in [0, 1) for the waits between retries.
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str = "",
        gate: Gate | None = None,
        price: Price | None = None,
        request_seconds: float = 900.0,
        policy: RetryPolicy | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self.name = name or model.name
        self._model = model
        self._gate = gate or Gate(f"model {self.name!r}")
        self._price = price
        self._request_seconds = request_seconds
        self._policy = policy or RetryPolicy()
        # Decides only how long to wait, never what a run finds.
        self._jitter = jitter or random.Random(model.name).random  # noqa: S311
        self._closed = threading.Event()
        self._thinks_unopened = False

    def complete(
        self,
        request: Request,
        deadline_seconds: float,
        budget: Budget,
        *,
        may_wait: bool = True,
        on_lost: Callable[[Lost], None] = lambda _: None,
    ) -> Reply:
        """Answers a request within the caps.

        Pauses, at the provider's wish or while it is down, do not count against the deadline.

        Args:
            request: What is asked.
            deadline_seconds: Wall time for the answer, all retries included.
            budget: Pays for every single request.
            may_wait: Whether a model that is down is waited for.
            on_lost: Is told of requests that may have been charged for without an answer.

        Raises:
            BudgetExhaustedError: The call might pass a cap; it was not made.
            ModelError: The model cannot be used.
            ModelUnavailableError: It is down, for longer than it is waited for.
            ReplyError: The answer cannot be used, or none came while others got one.
        """
        if self._model.is_patient:
            deadline_seconds = float("inf")
        call = _Call(request, deadline_seconds, budget, may_wait, on_lost)
        reply = call_with_retries(
            partial(self._send, call),
            where=f"model {self.name!r}",
            deadline_seconds=deadline_seconds,
            policy=self._policy,
            jitter=self._jitter,
            wait=self._closed.wait,
            outlast=partial(self._outlast, call),
            find_paused=partial(getattr, call, "paused_seconds"),
        )
        seconds = time.monotonic() - call.started - call.paused_seconds
        return replace(reply, seconds=seconds, model=self.name)

    def _outlast(self, call: _Call, error: ModelUnavailableError) -> bool:
        """Returns whether to wait for a model that answered nobody within the deadline.

        Raises:
            ReplyError: It answered others.
        """
        if self._closed.is_set():
            return False
        if self._gate.has_answered_since(call.started):
            raise ReplyError(str(error)) from error
        self._gate.trip(str(error))
        call.started, call.paused_seconds = time.monotonic(), 0.0
        return True

    def preflight(self) -> Reply | None:
        """Asks for a few tokens, to find a wrong key, name or address before the run begins.

        Returns:
            What was paid for; None when nothing was.

        Raises:
            ModelError: The model cannot be used; the message has the remedy.
            ModelUnavailableError: Nothing answers at its address.
        """
        request = self._model.prepare()
        if request is None:
            return None
        try:
            reply = call_with_retries(
                lambda seconds: self._model.complete(request, seconds),
                where=f"model {self.name!r}{self._model.address}",
                deadline_seconds=_PREFLIGHT_SECONDS,
                policy=_PREFLIGHT_POLICY,
                jitter=lambda: 0.5,
                wait=self._closed.wait,
            )
        except ModelUnavailableError as error:
            raise ModelUnavailableError(f"{error}; {self._model.remedy}") from error
        except ReplyError as error:
            # A few tokens are often no whole reply; that something answered is enough.
            if error.reply is None:
                return None
            reply = error.reply
        return replace(self._price_reply(reply, request), model=self.name)

    @property
    def incoming(self) -> Incoming:
        """Returns what the model is sending right now."""
        return self._model.incoming

    def find_price(self) -> Price | None:
        """Returns what the model costs, or `None` when that is unknown."""
        return self._price or self._model.find_price()

    def close(self) -> None:
        """Wakes calls that wait, which then raise `ModelUnavailableError`; safe to call twice."""
        self._closed.set()
        self._gate.close()
        self._model.close()

    def _send(self, call: _Call, seconds: float) -> Reply:
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
        timeout_seconds = min(seconds, self._request_seconds)
        request = call.request
        if not self._model.is_patient:
            request = replace(request, max_tokens=reservation.limit)
        used = Totals()
        try:
            with self._gate.passage(reservation.tokens, may_wait=call.may_wait) as waited:
                call.paused_seconds += waited
                reply = self._model.complete(request, timeout_seconds)
            reply = self._price_reply(reply, request)
            used = _count(call, reply)
            return self._check(call, self._take_thinking_off(reply), reservation.limit)
        except ReplyError as error:
            if error.reply is not None and not used.calls:
                error.reply = self._price_reply(error.reply, request)
                used = _count(call, error.reply)
            raise
        except RetryableError as error:
            # The gate holds everybody back for as long as the provider asks.
            error.retry_after_seconds = None
            if error.may_be_charged:
                used = self._lose(call, reservation, error.reason)
            raise
        finally:
            call.budget.settle(reservation, used)

    def _take_thinking_off(self, reply: Reply) -> Reply:
        """Returns the reply with the answers alone."""
        first = split_thinking(reply.text)
        self._thinks_unopened = self._thinks_unopened or first.is_unopened
        text = first.answer
        is_cut = reply.finish_reason == "length"
        if begins_thinking(text) or (is_cut and self._thinks_unopened and not first.thinking):
            # A server that keeps the opening tag to itself tells thinking by its end alone.
            text = ""
        return replace(reply, text=text)

    def _check(self, call: _Call, reply: Reply, limit: int | None) -> Reply:
        """Returns a reply that holds an answer, whole or as long as it can be.

        Raises:
            CutOffError: It was cut off, and may be longer.
            EmptyReplyError: It is empty.
            ReplyError: It holds no answer, and never will.
        """
        if reply.finish_reason == "length":
            written = limit or max(reply.completion_tokens, 1)
            bounds = [call.request.max_tokens, self._model.find_most_tokens()]
            most = min((bound for bound in bounds if bound is not None), default=None)
            least = 2 * written if limit else max(2 * written, GENEROUS_TOKENS)
            if call.least_tokens is None and (most is None or 2 * written <= most):
                call.least_tokens = least if most is None else min(least, most)
                raise CutOffError(reply)
            if not reply.text.strip():
                raise ReplyError(f"cut off after {written} tokens, before the answer began", reply)
        elif not reply.text.strip():
            if reply.finish_reason == "content_filter":
                raise ReplyError("the provider's content filter stopped the reply", reply)
            raise EmptyReplyError(reply)
        return reply

    def _lose(self, call: _Call, reservation: Reservation, reason: str) -> Totals:
        is_priced = self.find_price() is not None
        cost_usd = reservation.cost_usd if is_priced else None
        read, written = reservation.prompt_tokens, reservation.tokens - reservation.prompt_tokens
        call.on_lost(Lost(call.request.role, self.name, read, written, cost_usd, reason))
        return Totals(
            lost_requests=1, lost_tokens=reservation.tokens, lost_usd=reservation.cost_usd
        )

    def _price_reply(self, reply: Reply, request: Request) -> Reply:
        """Returns the reply with usage and cost, as far as they can be known.

        Where a provider tells no usage it is estimated from the texts, on the high side.
        """
        # Nothing that follows from a reply may hold a key that it echoes.
        reply = replace(reply, text=cut_keys(reply.text))
        if not reply.prompt_tokens + reply.completion_tokens:
            written = estimate_tokens(reply.text) + reply.thinking_tokens
            if request.max_tokens is not None:
                written = min(written, request.max_tokens)
            reply = replace(
                reply,
                prompt_tokens=estimate_prompt_tokens(request),
                completion_tokens=written,
            )
        price = self.find_price()
        if price is not None and (self._price is not None or reply.cost_usd is None):
            reply = replace(reply, cost_usd=price.cost_of(reply))
        return reply


def _count(call: _Call, reply: Reply) -> Totals:
    """Returns the usage of a reply; a call counts once, however many replies were paid for."""
    used = usage_of(reply)
    if call.is_counted:
        used = replace(used, calls=0, unpriced_calls=0)
    call.is_counted = True
    return used
