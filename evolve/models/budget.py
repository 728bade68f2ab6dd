"""What a run may spend, and what it has spent.

A call reserves its worst case before it is made and is settled with what it really used, so that
a cap is never passed, however many calls are in flight. Where a model's price is unknown its money
cannot be reserved; such calls are counted apart and never taken for free.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evolve.errors import BudgetExhaustedError
from evolve.models.protocol import ReplyError, estimate_prompt_tokens

if TYPE_CHECKING:
    from evolve.chat import Reply, Request
    from evolve.models.protocol import Model, Price


@dataclass(frozen=True, slots=True)
class Totals:
    """What calls have used together.

    Attributes:
        calls: Calls that were answered, usably or not.
        failed_calls: Calls without any answer; what the provider charged for them is unknown.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        cost_usd: US dollars of the calls whose price is known.
        unpriced_calls: Answered calls whose price is unknown.
    """

    calls: int = 0
    failed_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    unpriced_calls: int = 0

    @property
    def tokens(self) -> int:
        """Gives the tokens read and written together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.calls + other.calls,
            self.failed_calls + other.failed_calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost_usd + other.cost_usd,
            self.unpriced_calls + other.unpriced_calls,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """What a call in flight may use at most.

    Attributes:
        role: What the call is for.
        model: Name of the model that is asked.
        tokens: Upper estimate of the tokens read and written.
        cost_usd: Upper estimate of its price; 0 when the price is unknown.
    """

    role: str
    model: str
    tokens: int
    cost_usd: float


class Budget:
    """Hard caps with exact totals; safe to use from many threads.

    Args:
        max_cost_usd: US dollars for all calls together; `None` for no cap, here and below.
        max_evaluations: Evaluations.
        max_calls: Calls of models, failed ones included.
        max_tokens: Tokens read and written.
    """

    def __init__(
        self,
        *,
        max_cost_usd: float | None = None,
        max_evaluations: int | None = None,
        max_calls: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.max_cost_usd = max_cost_usd
        self.max_evaluations = max_evaluations
        self.max_calls = max_calls
        self.max_tokens = max_tokens
        self._lock = threading.Lock()
        self._evaluations = 0
        self._used: defaultdict[tuple[str, str], Totals] = defaultdict(Totals)
        self._total = Totals()
        self._pending: set[Reservation] = set()
        self._pending_cost_usd = 0.0
        self._pending_tokens = 0

    def complete(self, model: Model, request: Request, deadline_seconds: float) -> Reply:
        """Answers a request within the caps.

        Raises:
            BudgetExhaustedError: The call might pass a cap; it was not made.
            ModelError: As for `Model.complete`.
            ReplyError: As for `Model.complete`; what it used is counted.
        """
        reservation = self.reserve(request, model.name, model.find_price())
        reply: Reply | None = None
        try:
            reply = model.complete(request, deadline_seconds)
        except ReplyError as error:
            reply = error.reply
            raise
        finally:
            self.settle(reservation, reply)
        return reply

    def reserve(self, request: Request, model: str, price: Price | None) -> Reservation:
        """Sets the worst case of a call aside.

        Raises:
            BudgetExhaustedError: It might pass a cap.
        """
        prompt_tokens = estimate_prompt_tokens(request)
        cost_usd = 0.0
        if price is not None:
            cost_usd = prompt_tokens * price.prompt_usd + request.max_tokens * price.completion_usd
        tokens = prompt_tokens + request.max_tokens
        reservation = Reservation(request.role, model, tokens, cost_usd)
        with self._lock:
            self._check(reservation)
            self._pending.add(reservation)
            self._pending_cost_usd += cost_usd
            self._pending_tokens += tokens
        return reservation

    def settle(self, reservation: Reservation, reply: Reply | None) -> None:
        """Counts what a reserved call used; `None` when it was not answered."""
        with self._lock:
            self._pending.remove(reservation)
            self._pending_tokens -= reservation.tokens
            # Adding and subtracting floats leaves dust, which must not sum up over a run.
            self._pending_cost_usd = sum(pending.cost_usd for pending in self._pending)
            self._add(reservation.role, reservation.model, usage_of(reply))

    def restore(self, role: str, model: str, used: Totals) -> None:
        """Counts what an earlier part of the run has used."""
        with self._lock:
            self._add(role, model, used)

    def restore_evaluations(self, count: int) -> None:
        """Counts the evaluations of an earlier part of the run."""
        with self._lock:
            self._evaluations += count

    def reserve_evaluations(self, count: int = 1) -> None:
        """Counts evaluations before they are made.

        Raises:
            BudgetExhaustedError: They would pass the cap; none is counted.
        """
        with self._lock:
            if self.max_evaluations is not None:
                _check_cap("max_evaluations", self._evaluations + count, self.max_evaluations)
            self._evaluations += count

    @property
    def evaluations(self) -> int:
        """Gives the evaluations counted so far."""
        return self._evaluations

    @property
    def total(self) -> Totals:
        """Gives what all settled calls used."""
        return self._total

    def totals_by_call(self) -> dict[tuple[str, str], Totals]:
        """Gives what settled calls used, by role and model."""
        with self._lock:
            return dict(self._used)

    def _check(self, reservation: Reservation) -> None:
        if self.max_calls is not None:
            calls = self._total.calls + self._total.failed_calls + len(self._pending) + 1
            _check_cap("max_calls", calls, self.max_calls)
        if self.max_tokens is not None:
            tokens = self._total.tokens + self._pending_tokens + reservation.tokens
            _check_cap("max_tokens", tokens, self.max_tokens)
        if self.max_cost_usd is not None:
            cost_usd = self._total.cost_usd + self._pending_cost_usd + reservation.cost_usd
            _check_cap("max_cost_usd", cost_usd, self.max_cost_usd)

    def _add(self, role: str, model: str, used: Totals) -> None:
        self._used[role, model] += used
        self._total += used


def usage_of(reply: Reply | None) -> Totals:
    """Gives what one call used; a call without an answer counts as failed."""
    if reply is None:
        return Totals(failed_calls=1)
    return Totals(
        calls=1,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        cost_usd=reply.cost_usd or 0.0,
        unpriced_calls=int(reply.cost_usd is None),
    )


def _check_cap(cap: str, needed: float, most: float) -> None:
    if needed > most:
        reason = f"budget: `{cap}`: {needed:.6g} might be reached, the cap is {most:.6g}"
        raise BudgetExhaustedError(cap, reason)
