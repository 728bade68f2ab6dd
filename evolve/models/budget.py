"""What a run may spend, and what it has spent.

Every single request reserves its worst case before it is made and is settled with what it really
used, so that a cap is never passed, whatever is in flight and however often a call is retried.
Where money or tokens are capped, a reply gets a limit: what the request's share of what is left
pays for, so that many are in flight at a time, but no less than such replies have needed of late.
A request that does not fit beside those in flight waits for what they give back, so that a run
does not end with most of its money unspent. A request that may have been charged for without an
answer counts with its worst case. Where a model's price is unknown its money cannot be reserved;
such calls are counted apart and never taken for free.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, replace

from evolve.errors import BudgetExhaustedError
from evolve.models.usage import GENEROUS_TOKENS, Price, estimate_prompt_tokens
from evolve.records.chat import Request
from evolve.records.results import MAX_CALLS, MAX_COST, MAX_EVALUATIONS, MAX_TOKENS, Totals

# A model that reads more tokens than estimated is given this much room beyond what was seen.
_MARGIN = 1.1
# What a reply is taken to need where none has been seen, and the least that one is asked with.
_FIRST_TOKENS = 4096
_LEAST_TOKENS = 256
# Replies of a role and model that say what the next one needs.
_REPLIES = 32


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """What a request may use at most.

    Attributes:
        role: What it is for.
        model: Name of the model that is asked.
        prompt_tokens: Upper estimate of the tokens read.
        completion_tokens: Upper estimate of the tokens written.
        price: What the model costs; None when that is unknown.
        limit: Most tokens of the reply, to be sent with the request; None for no limit.
    """

    role: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    price: Price | None
    limit: int | None = None

    @property
    def tokens(self) -> int:
        """Returns the tokens read and written together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost_usd(self) -> float | None:
        """Returns the most that it costs; None when the price is unknown."""
        if self.price is None:
            return None
        return self.price.cost_of(self.prompt_tokens, self.completion_tokens)


class Budget:
    """Hard caps with exact totals; safe to use from many threads.

    Args:
        max_cost_usd: US dollars for all calls together; `None` for no cap, here and below.
        max_evaluations: Evaluations.
        max_calls: Calls of models, lost requests included.
        max_tokens: Tokens read and written.
        shares: Requests that are to be in flight at a time.
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
        self._shares = shares
        self._needed: defaultdict[tuple[str, str], deque[int]] = defaultdict(
            lambda: deque(maxlen=_REPLIES)
        )
        self._lock = threading.Condition()
        self._evaluations = 0
        self._used: defaultdict[tuple[str, str], Totals] = defaultdict(Totals)
        self._pending: set[Reservation] = set()
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
        read = self.estimate_prompt(request, model)
        reservation = Reservation(request.role, model, read, most or GENEROUS_TOKENS, price)
        is_priced = price is not None and price.completion_usd > 0
        with self._lock:
            if self.max_tokens is not None or (self.max_cost_usd is not None and is_priced):
                bounds = [bound for bound in (request.max_tokens, most) if bound is not None]
                reservation = self._reserve_share(reservation, least, bounds)
            else:
                if limit := max(request.max_tokens or 0, least or 0):
                    reservation = _limit(reservation, limit)
                while self._must_wait(reservation):
                    self._lock.wait()
            self._pending.add(reservation)
        return reservation

    def _reserve_share(
        self, reservation: Reservation, least: int | None, bounds: list[int]
    ) -> Reservation:
        """Waits until the tokens needed can be paid for; returns them or the larger share."""
        seen = self._needed[reservation.role, reservation.model]
        needed = min([least or max(seen, default=_FIRST_TOKENS), *bounds])
        while True:
            try:
                if not self._must_wait(_limit(reservation, needed)):
                    break
            except BudgetExhaustedError:
                # What a first reply needs is only guessed: it may make do with what is left.
                if self._stopped_because or least or seen or needed <= _LEAST_TOKENS:
                    raise
                affordable = self._find_affordable(reservation, 1)
                if affordable >= _LEAST_TOKENS:
                    needed = min(affordable, needed)
                    continue
                if not self._pending:
                    raise
            self._lock.wait()
        share = self._find_affordable(reservation, max(self._shares - len(self._pending), 1))
        generous = max(GENEROUS_TOKENS, 2 * needed)
        return _limit(reservation, max(min([share, generous, *bounds]), needed))

    def _find_affordable(self, reservation: Reservation, sharers: int) -> int:
        """Returns the tokens of a reply that an equal share of what is left pays for."""
        affordable, total, price = 1e9, self.total, reservation.price
        if self.max_tokens is not None:
            used = total.tokens + total.lost_tokens + self._pending_tokens
            affordable = (self.max_tokens - used) / sharers - reservation.prompt_tokens
        if self.max_cost_usd is not None and price is not None and price.completion_usd > 0:
            spent = total.cost_usd + total.lost_usd + self._pending_usd
            left = (self.max_cost_usd - spent) / sharers
            left -= reservation.prompt_tokens * price.prompt_usd
            # A little less, so that rounding passes no cap.
            affordable = min(affordable, left / price.completion_usd * (1 - 1e-9))
        return math.floor(affordable)

    def settle(self, reservation: Reservation, used: Totals) -> None:
        """Counts what a reserved request used."""
        with self._lock:
            self._pending.remove(reservation)
            self._used[reservation.role, reservation.model] += used
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
            self._used[role, model] += used

    def restore_evaluations(self, count: int) -> None:
        """Counts the evaluations of an earlier part of the run."""
        with self._lock:
            self._evaluations += count

    def reserve_evaluation(self) -> None:
        """Counts an evaluation before it is made.

        Raises:
            BudgetExhaustedError: It would pass the cap, and is not counted.
        """
        with self._lock:
            if self.max_evaluations is not None:
                _check_cap(MAX_EVALUATIONS, self._evaluations + 1, self.max_evaluations)
            self._evaluations += 1

    def release_evaluation(self) -> None:
        """Takes back what was counted for an evaluation that was not made."""
        with self._lock:
            self._evaluations -= 1

    @property
    def evaluations(self) -> int:
        """Returns the evaluations counted so far."""
        return self._evaluations

    @property
    def total(self) -> Totals:
        """Returns what all settled calls used."""
        return sum(self.totals_by_call().values(), Totals())

    def totals_by_call(self) -> dict[tuple[str, str], Totals]:
        """Returns what settled calls used, by role and model."""
        with self._lock:
            return dict(self._used)

    @property
    def _pending_tokens(self) -> int:
        return sum(reservation.tokens for reservation in self._pending)

    @property
    def _pending_usd(self) -> float:
        return math.fsum(reservation.cost_usd or 0.0 for reservation in self._pending)

    def _must_wait(self, reservation: Reservation) -> bool:
        """Returns whether it fits only once requests in flight have given back what they leave.

        Raises:
            BudgetExhaustedError: It would not fit then either, or `stop` was called meanwhile.
        """
        total, cost_usd = self.total, reservation.cost_usd or 0.0
        needs = [
            (MAX_CALLS, self.max_calls, total.calls + total.lost_requests + 1, len(self._pending)),
            (
                MAX_TOKENS,
                self.max_tokens,
                total.tokens + total.lost_tokens + reservation.tokens,
                self._pending_tokens,
            ),
            (
                MAX_COST,
                self.max_cost_usd,
                total.cost_usd + total.lost_usd + cost_usd,
                self._pending_usd,
            ),
        ]
        for cap, most, alone, _ in needs:
            _check_cap(cap, alone, most)
        is_over = any(most is not None and alone + held > most for _, most, alone, held in needs)
        if is_over and self._stopped_because:
            raise BudgetExhaustedError(self._stopped_because)
        return is_over


def _limit(reservation: Reservation, tokens: int) -> Reservation:
    return replace(reservation, completion_tokens=tokens, limit=tokens)


def _check_cap(cap: str, needed: float, most: float | None) -> None:
    if most is not None and needed > most:
        reason = f"budget: `{cap}`: {needed:.6g} might be reached, the cap is {most:.6g}"
        raise BudgetExhaustedError(cap, reason)
