"""What a run may spend, and what it has spent.

Every single request reserves its worst case before it is made and is settled with what it really
used, so that a cap is never passed, however many are in flight and however often a call is tried
again. One that does not fit beside those in flight waits for what they give back, so that a run
does not end with most of its money unspent. A request that may have been charged for without an
answer counts with its worst case. Where a model's price is unknown its money cannot be reserved;
such calls are counted apart and never taken for free.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evolve.errors import BudgetExhaustedError
from evolve.models.protocol import GENEROUS_TOKENS, estimate_prompt_tokens
from evolve.records.endings import MAX_CALLS, MAX_COST, MAX_EVALUATIONS, MAX_TOKENS
from evolve.records.results import Totals

if TYPE_CHECKING:
    from evolve.models.protocol import Price
    from evolve.records.chat import Reply, Request

# A model that reads more tokens than estimated is given this much room beyond what was seen.
_MARGIN = 1.1


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """What a call in flight may use at most.

    Attributes:
        role: What the call is for.
        model: Name of the model that is asked.
        prompt_tokens: Upper estimate of the tokens read.
        tokens: Upper estimate of the tokens read and written.
        cost_usd: Upper estimate of its price; 0 when the price is unknown.
    """

    role: str
    model: str
    prompt_tokens: int
    tokens: int
    cost_usd: float


class Budget:
    """Hard caps with exact totals; safe to use from many threads.

    Args:
        max_cost_usd: US dollars for all calls together; `None` for no cap, here and below.
        max_evaluations: Evaluations.
        max_calls: Calls of models, lost requests included.
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
        self._lock = threading.Condition()
        self._evaluations = 0
        self._used: defaultdict[tuple[str, str], Totals] = defaultdict(Totals)
        self._total = Totals()
        self._pending: set[Reservation] = set()
        self._pending_cost_usd = 0.0
        self._pending_tokens = 0
        self._excess: dict[str, float] = {}
        self._stopped_because = ""

    def estimate_tokens(self, request: Request, model: str) -> tuple[int, int]:
        """Gives upper estimates of the tokens that a request reads and writes.

        A model that was seen to read more than estimated is estimated higher from then on.
        """
        prompt = estimate_prompt_tokens(request) * self._excess.get(model, 1.0)
        return math.ceil(prompt), (request.max_tokens or GENEROUS_TOKENS) * request.samples

    def reserve(self, request: Request, model: str, price: Price | None) -> Reservation:
        """Sets the worst case of a request aside, as soon as it fits beside those in flight.

        Raises:
            BudgetExhaustedError: It might pass a cap by itself, or `stop` was called.
        """
        prompt, completion = self.estimate_tokens(request, model)
        cost_usd = 0.0
        if price is not None:
            cost_usd = prompt * price.prompt_usd + completion * price.completion_usd
        reservation = Reservation(request.role, model, prompt, prompt + completion, cost_usd)
        with self._lock:
            while self._must_wait(reservation):
                self._lock.wait()
            self._pending.add(reservation)
            self._pending_cost_usd += cost_usd
            self._pending_tokens += reservation.tokens
        return reservation

    def settle(self, reservation: Reservation, used: Totals) -> None:
        """Counts what a reserved request used."""
        with self._lock:
            self._pending.remove(reservation)
            self._pending_tokens -= reservation.tokens
            # Adding and subtracting floats leaves dust, which must not sum up over a run.
            self._pending_cost_usd = sum(pending.cost_usd for pending in self._pending)
            self._add(reservation.role, reservation.model, used)
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
        """Gives back what was counted for evaluations that were not made."""
        with self._lock:
            self._evaluations -= count

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

    def _must_wait(self, reservation: Reservation) -> bool:
        """Tells whether it fits only once something in flight has given back what it did not use.

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
        """Gives each cap: what would be reached alone, by those in flight, and the most."""
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


def usage_of(reply: Reply) -> Totals:
    """Gives what one answered call used."""
    return Totals(
        calls=1,
        prompt_tokens=reply.prompt_tokens,
        cached_tokens=reply.cached_tokens,
        completion_tokens=reply.completion_tokens,
        cost_usd=reply.cost_usd or 0.0,
        unpriced_calls=int(reply.cost_usd is None),
    )


def _check_cap(cap: str, needed: float, most: float | None) -> None:
    if most is not None and needed > most:
        reason = f"budget: `{cap}`: {needed:.6g} might be reached, the cap is {most:.6g}"
        raise BudgetExhaustedError(cap, reason)
