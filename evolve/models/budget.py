"""What a run may spend, and what it has spent.

Every single request reserves its worst case before it is made and is settled with what it really
used, so that a cap is never passed, however many are in flight and however often a call is tried
again. Where money or tokens are capped, a reply gets a limit: what the request's share of what is
left pays for, so that many are in flight at a time, but no less than such replies have needed of
late. One that does not fit beside those in flight waits for what they give back, so that a run
does not end with most of its money unspent. A request that may have been charged for without an
answer counts with its worst case. Where a model's price is unknown its money cannot be reserved;
such calls are counted apart and never taken for free.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evolve.errors import BudgetExhaustedError
from evolve.models.protocol import GENEROUS_TOKENS, estimate_prompt_tokens
from evolve.records.endings import MAX_CALLS, MAX_COST, MAX_EVALUATIONS, MAX_TOKENS
from evolve.records.results import Totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.models.incoming import Incoming
    from evolve.models.protocol import Price
    from evolve.records.chat import Reply, Request

# A model that reads more tokens than estimated is given this much room beyond what was seen.
_MARGIN = 1.1
# What a reply is taken to need where none has been seen, and the least that one is asked with.
_FIRST_TOKENS = 4096
_LEAST_TOKENS = 256
# Replies of a role and model that say what the next one needs.
_REPLIES = 32


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """What a call in flight may use at most.

    Attributes:
        role: What the call is for.
        model: Name of the model that is asked.
        prompt_tokens: Upper estimate of the tokens read.
        tokens: Upper estimate of the tokens read and written.
        cost_usd: Upper estimate of its price; 0 when the price is unknown.
        limit: Most tokens of the reply, to be sent with the request; None for no limit.
    """

    role: str
    model: str
    prompt_tokens: int
    tokens: int
    cost_usd: float
    limit: int | None = None


class Budget:
    """Hard caps with exact totals; safe to use from many threads.

    Args:
        max_cost_usd: US dollars for all calls together; `None` for no cap, here and below.
        max_evaluations: Evaluations.
        max_calls: Calls of models, lost requests included.
        max_tokens: Tokens read and written.
        shares: Requests that are to be in flight at a time.

    Attributes:
        incoming: What the models of the run are sending right now.
    """

    def __init__(
        self,
        *,
        max_cost_usd: float | None = None,
        max_evaluations: int | None = None,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        shares: int = 8,
    ) -> None:
        self.max_cost_usd = max_cost_usd
        self.max_evaluations = max_evaluations
        self.max_calls = max_calls
        self.max_tokens = max_tokens
        self.incoming: Sequence[Incoming] = ()
        self._shares = shares
        self._needed: defaultdict[tuple[str, str], deque[int]] = defaultdict(
            lambda: deque(maxlen=_REPLIES)
        )
        self._lock = threading.Condition()
        self._evaluations = 0
        self._used: defaultdict[tuple[str, str], Totals] = defaultdict(Totals)
        self._total = Totals()
        self._pending: set[Reservation] = set()
        self._pending_cost_usd = 0.0
        self._pending_tokens = 0
        self._excess: dict[str, float] = {}
        self._stopped_because = ""

    def estimate_prompt(self, request: Request, model: str) -> int:
        """Returns an upper estimate of the tokens that a request reads.

        A model that was seen to read more than estimated is estimated higher from then on.
        """
        return math.ceil(estimate_prompt_tokens(request) * self._excess.get(model, 1.0))

    def reserve(
        self,
        request: Request,
        model: str,
        price: Price | None,
        *,
        most: int | None = None,
        least: int | None = None,
    ) -> Reservation:
        """Sets the worst case of a request aside, as soon as it fits beside those in flight.

        Args:
            request: What is to be asked.
            model: Name of the model that is asked.
            price: What it costs; None when that is unknown.
            most: The most tokens that a reply of it can have; None when that is unknown.
            least: Tokens that the reply must have room for.

        Raises:
            BudgetExhaustedError: It might pass a cap by itself, or `stop` was called.
        """
        bounds = [bound for bound in (request.max_tokens, most) if bound is not None]
        worth = _Worth(self.estimate_prompt(request, model), price)
        with self._lock:
            if self.max_tokens is None and (self.max_cost_usd is None or not worth.is_priced):
                limit = max(request.max_tokens or 0, least or 0) or None
                written = limit or most or GENEROUS_TOKENS
                reservation = replace(worth.reserve(request.role, model, written), limit=limit)
                while self._must_wait(reservation):
                    self._lock.wait()
            else:
                seen = self._needed[request.role, model]
                needed = least or max(seen, default=_FIRST_TOKENS)
                reservation = self._reserve_share(
                    worth, request.role, model, min([needed, *bounds]), bounds,
                    may_shrink=least is None and not seen,
                )  # fmt: skip
            self._pending.add(reservation)
            self._pending_cost_usd += reservation.cost_usd
            self._pending_tokens += reservation.tokens
        return reservation

    def _reserve_share(
        self,
        worth: _Worth,
        role: str,
        model: str,
        needed: int,
        bounds: list[int],
        *,
        may_shrink: bool,
    ) -> Reservation:
        """Waits until the needed tokens can be paid for; returns them or the larger share."""
        while True:
            reservation = worth.reserve(role, model, needed)
            try:
                if not self._must_wait(reservation):
                    break
            except BudgetExhaustedError:
                # What a reply needs is only guessed: it may do with what is left.
                affordable = self._find_affordable(worth, 1)
                if self._stopped_because or not may_shrink or needed <= _LEAST_TOKENS:
                    raise
                if affordable >= _LEAST_TOKENS:
                    needed = min(affordable, needed)
                    continue
                if not self._pending:
                    raise
            self._lock.wait()
        share = self._find_affordable(worth, max(self._shares - len(self._pending), 1))
        generous = max(GENEROUS_TOKENS, 2 * needed)
        limit = max(min([share, generous, *bounds]), needed)
        return replace(worth.reserve(role, model, limit), limit=limit)

    def _find_affordable(self, worth: _Worth, sharers: int) -> int:
        """Returns the tokens of a reply that an equal share of what is left pays for."""
        affordable = math.inf
        if self.max_tokens is not None:
            used = self._total.tokens + self._total.lost_tokens + self._pending_tokens
            left = (self.max_tokens - used) / sharers
            affordable = left - worth.prompt_tokens
        if self.max_cost_usd is not None and worth.price is not None and worth.is_priced:
            paid = self._total.cost_usd + self._total.lost_usd + self._pending_cost_usd
            left = (self.max_cost_usd - paid) / sharers
            left -= worth.prompt_tokens * worth.price.prompt_usd
            # A little less, so that rounding passes no cap.
            tokens = left / worth.price.completion_usd * (1 - 1e-9)
            affordable = min(affordable, tokens)
        return math.floor(min(affordable, 1e9))

    def settle(self, reservation: Reservation, used: Totals) -> None:
        """Counts what a reserved request used."""
        with self._lock:
            self._pending.remove(reservation)
            self._pending_tokens -= reservation.tokens
            # Adding and subtracting floats leaves dust, which must not sum up over a run.
            self._pending_cost_usd = sum(pending.cost_usd for pending in self._pending)
            self._add(reservation.role, reservation.model, used)
            if used.completion_tokens:
                self._needed[reservation.role, reservation.model].append(used.completion_tokens)
            self._lock.notify_all()
            if used.prompt_tokens > reservation.prompt_tokens:
                before = self._excess.get(reservation.model, 1.0)
                excess = before * used.prompt_tokens / reservation.prompt_tokens
                self._excess[reservation.model] = _MARGIN * excess

    def stop(self, reason: str) -> None:
        """Wakes requests that wait for others; they are not made."""
        with self._lock:
            self._stopped_because = reason
            self._lock.notify_all()

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
                _check_cap(MAX_EVALUATIONS, self._evaluations + count, self.max_evaluations)
            self._evaluations += count

    def release_evaluations(self, count: int = 1) -> None:
        """Takes back what was counted for evaluations that were not made."""
        with self._lock:
            self._evaluations -= count

    @property
    def evaluations(self) -> int:
        """Returns the evaluations counted so far."""
        return self._evaluations

    @property
    def total(self) -> Totals:
        """Returns what all settled calls used."""
        return self._total

    def totals_by_call(self) -> dict[tuple[str, str], Totals]:
        """Returns what settled calls used, by role and model."""
        with self._lock:
            return dict(self._used)

    def _must_wait(self, reservation: Reservation) -> bool:
        """Returns whether it fits only once something in flight has given back what it did not use.

        Raises:
            BudgetExhaustedError: It would not fit then either, or `stop` was called meanwhile.
        """
        needs = self._list_needs(reservation)
        try:
            for cap, alone, pending, most in needs:
                _check_cap(cap, alone + pending, most)
        except BudgetExhaustedError as error:
            if not self._pending:
                raise
            for cap, alone, _, most in needs:
                _check_cap(cap, alone, most)
            if self._stopped_because:
                raise BudgetExhaustedError(self._stopped_because) from error
            return True
        return False

    def _list_needs(self, reservation: Reservation) -> list[tuple[str, float, float, float | None]]:
        """Returns each cap: what would be reached alone, by those in flight, and the most."""
        total = self._total
        calls = total.calls + total.lost_requests + 1
        tokens = total.tokens + total.lost_tokens + reservation.tokens
        cost_usd = total.cost_usd + total.lost_usd + reservation.cost_usd
        return [
            (MAX_CALLS, calls, len(self._pending), self.max_calls),
            (MAX_TOKENS, tokens, self._pending_tokens, self.max_tokens),
            (MAX_COST, cost_usd, self._pending_cost_usd, self.max_cost_usd),
        ]

    def _add(self, role: str, model: str, used: Totals) -> None:
        self._used[role, model] += used
        self._total += used


@dataclass(frozen=True, slots=True)
class _Worth:
    """What a request costs, by the tokens of its reply.

    Attributes:
        prompt_tokens: Upper estimate of the tokens read.
        price: What the model costs; None when that is unknown.
    """

    prompt_tokens: int
    price: Price | None

    @property
    def is_priced(self) -> bool:
        """Returns whether a longer reply is known to cost more."""
        return self.price is not None and self.price.completion_usd > 0

    def reserve(self, role: str, model: str, written: int) -> Reservation:
        """Returns what a reply of so many tokens uses."""
        cost_usd = 0.0
        if self.price is not None:
            cost_usd = self.prompt_tokens * self.price.prompt_usd
            cost_usd += written * self.price.completion_usd
        return Reservation(role, model, self.prompt_tokens, self.prompt_tokens + written, cost_usd)


def usage_of(reply: Reply) -> Totals:
    """Returns what one answered call used."""
    return Totals(
        calls=1,
        prompt_tokens=reply.prompt_tokens,
        cached_tokens=reply.cached_tokens,
        completion_tokens=reply.completion_tokens,
        cost_usd=reply.cost_usd or 0.0,
        unpriced_calls=int(reply.cost_usd is None),
        thinking_tokens=reply.thinking_tokens,
    )


def _check_cap(cap: str, needed: float, most: float | None) -> None:
    if most is not None and needed > most:
        reason = f"budget: `{cap}`: {needed:.6g} might be reached, the cap is {most:.6g}"
        raise BudgetExhaustedError(cap, reason)
