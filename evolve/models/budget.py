"""What calls use and cost, and what a run may spend.

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
import re
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field, replace
from functools import lru_cache

from evolve.errors import BudgetExhaustedError
from evolve.records.chat import Reply, Request
from evolve.records.results import MAX_CALLS, MAX_COST, MAX_EVALUATIONS, MAX_TOKENS, Expense, Totals
from evolve.settings.sections import BudgetSettings, ModelSettings

GENEROUS_TOKENS = 32_000
"""Tokens of a reply, thinking included, that a bound of ours leaves room for where it can."""
PICTURE_TOKENS = 1600
"""About the most that a provider counts for a picture."""
_PIECE = re.compile(r"[A-Za-z]+|[ \t\r\n]+|.", re.DOTALL)
# Longest run of letters, and of spaces, that a tokenizer surely takes as one token.
_LETTERS, _SPACES = 3, 4
_BEYOND_ASCII = 2
_KEPT = 4096
_LARGEST_PROMPT, _UNKNOWN_PROMPT = 60_000, 20_000
_OFFLINE = ("scripted", "cmd", "manual")
# A model that reads more tokens than estimated is given this much room beyond what was seen.
_MARGIN = 1.1
# What a reply is taken to need where none has been seen, and the least that one is asked with.
_FIRST_TOKENS = 4096
_LEAST_TOKENS = 256
# Replies of a role and model that say what the next one needs.
_REPLIES = 32


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs.

    Attributes:
        prompt_usd: US dollars per token read.
        completion_usd: US dollars per token written.
        cached_usd: US dollars per token read from the provider's cache; None for the full price.
    """

    prompt_usd: float
    completion_usd: float
    cached_usd: float | None = None

    def cost_of(self, prompt_tokens: float, completion_tokens: float, cached: int = 0) -> float:
        """Returns the price of a call in US dollars."""
        cached_usd = self.prompt_usd if self.cached_usd is None else self.cached_usd
        return (
            (prompt_tokens - cached) * self.prompt_usd
            + cached * cached_usd
            + completion_tokens * self.completion_usd
        )


FREE = Price(0.0, 0.0)


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


def add_usage(reply: Reply, others: list[Reply]) -> Reply:
    """Returns the reply with the usage of other replies to the same call added."""
    total = sum(map(usage_of, others), usage_of(reply))
    return replace(
        reply,
        prompt_tokens=total.prompt_tokens,
        completion_tokens=total.completion_tokens,
        cached_tokens=total.cached_tokens,
        thinking_tokens=total.thinking_tokens,
        cost_usd=None if total.unpriced_calls else total.cost_usd,
    )


def prompt_cap(settings: ModelSettings, role: str) -> int:
    """Returns the most tokens of a prompt for the models that play a role, by upper estimate.

    That is `models.digest_tokens` where it is set, else what the smallest context window among
    the models allows: half of it, which is about a third as models count, at most 60,000. The
    window of a model that LiteLLM's table lacks, such as one on a server of the user's own, is
    taken to be small.
    """
    if settings.digest_tokens is not None:
        return settings.digest_tokens
    names = [candidate.name for candidate in settings.candidates_for(role)]
    return min((_cap_of(name) for name in names), default=_LARGEST_PROMPT)


@lru_cache(maxsize=_KEPT)
def _cap_of(model: str) -> int:
    from evolve.models.litellm_model import import_litellm

    if model.partition(":")[0] in _OFFLINE:
        return _LARGEST_PROMPT
    known = import_litellm().model_cost
    entry = known.get(model) or known.get(model.partition("/")[2]) or {}
    window = entry.get("max_input_tokens") or entry.get("max_tokens")
    return min(_LARGEST_PROMPT, int(window) // 2) if window else _UNKNOWN_PROMPT


@lru_cache(maxsize=_KEPT)
def estimate_tokens(text: str) -> int:
    """Returns at least the tokens of a text: digits and signs are split one by one at most."""
    total = 0
    for piece in _PIECE.findall(text):
        if not piece.isascii():
            total += _BEYOND_ASCII
        elif piece.isalpha():
            total += -(-len(piece) // _LETTERS)
        elif piece != " ":  # a single space is taken with the word after it
            total += -(-len(piece) // _SPACES)
    return total


def estimate_prompt_tokens(request: Request) -> int:
    """Returns at least the tokens of a request's messages."""
    tokens = sum(estimate_tokens(message.text) for message in request.messages)
    tokens += sum(PICTURE_TOKENS * len(message.pictures) for message in request.messages)
    return tokens + 8 * len(request.messages) + 8


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

    def as_lost(self, generation: int, slot: int, reason: str) -> Expense:
        """Returns the worst case as an expense, for a request that a slot got no answer to."""
        return Expense(
            generation, slot, self.role, self.model, self.prompt_tokens, 0,
            self.completion_tokens, self.cost_usd, reason,
        )  # fmt: skip


@dataclass(eq=False)
class Budget:
    """Hard caps with exact totals; safe to use from many threads.

    Args:
        caps: Those of the settings; lost requests count among the calls.
        shares: Requests that are to be in flight at a time.
        evaluations: Those counted so far.
    """

    caps: BudgetSettings = field(default_factory=BudgetSettings)
    shares: int = 8
    evaluations: int = 0

    def __post_init__(self) -> None:
        self._needed = defaultdict[tuple[str, str], deque[int]](lambda: deque(maxlen=_REPLIES))
        self._lock = threading.Condition()
        self._used = defaultdict[tuple[str, str], Totals](Totals)
        self._pending: set[Reservation] = set()
        self._excess = defaultdict[str, float](lambda: 1.0)
        self._stopped_because = ""

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
        # A model that was seen to read more than estimated is estimated higher from then on.
        read = math.ceil(estimate_prompt_tokens(request) * self._excess[model])
        reservation = Reservation(request.role, model, read, most or GENEROUS_TOKENS, price)
        is_priced = price is not None and price.completion_usd > 0
        caps = self.caps
        is_bounded = caps.max_tokens is not None or (caps.max_cost_usd is not None and is_priced)
        with self._lock:
            if is_bounded:
                bounds = [bound for bound in (request.max_tokens, most) if bound is not None]
                reservation = self._reserve_share(reservation, least, bounds)
            elif limit := max(request.max_tokens or 0, least or 0):
                reservation = _limit(reservation, limit)
            while not is_bounded and self._must_wait(reservation):
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
        share = self._find_affordable(reservation, max(self.shares - len(self._pending), 1))
        generous = max(GENEROUS_TOKENS, 2 * needed)
        return _limit(reservation, max(min([share, generous, *bounds]), needed))

    def _find_affordable(self, reservation: Reservation, sharers: int) -> int:
        """Returns the tokens of a reply that an equal share of what is left pays for."""
        price = reservation.price
        _, tokens, money = (
            math.inf if most is None else (most - used - held) / sharers
            for _, most, used, held in self._measure()
        )
        affordable = min(1e9, tokens - reservation.prompt_tokens)
        if price is not None and price.completion_usd > 0:
            left = money - reservation.prompt_tokens * price.prompt_usd
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
                excess = used.prompt_tokens / reservation.prompt_tokens
                self._excess[reservation.model] *= _MARGIN * excess

    def stop(self, reason: str) -> None:
        """Wakes requests that wait for others; they are not made."""
        with self._lock:
            self._stopped_because = reason
            self._lock.notify_all()

    def restore(self, role: str, model: str, used: Totals) -> None:
        """Counts what an earlier part of the run has used."""
        with self._lock:
            self._used[role, model] += used

    def reserve_evaluation(self) -> None:
        """Counts an evaluation before it is made.

        Raises:
            BudgetExhaustedError: It would pass the cap, and is not counted.
        """
        with self._lock:
            _check_cap(MAX_EVALUATIONS, self.evaluations + 1, self.caps.max_evaluations)
            self.evaluations += 1

    def release_evaluation(self) -> None:
        """Takes back what was counted for an evaluation that was not made."""
        with self._lock:
            self.evaluations -= 1

    @property
    def total(self) -> Totals:
        """Returns what all settled calls used."""
        return sum(self.totals_by_call().values(), Totals())

    def _measure(self) -> tuple[tuple[str, float | None, float, float], ...]:
        """Returns each cap on calls with its name, what is used, and what is set aside."""
        used, held = self.total, self._pending
        tokens, money = (one.tokens for one in held), (one.cost_usd or 0.0 for one in held)
        calls = used.calls + used.lost_requests
        return (
            (MAX_CALLS, self.caps.max_calls, calls, len(held)),
            (MAX_TOKENS, self.caps.max_tokens, used.tokens + used.lost_tokens, sum(tokens)),
            (MAX_COST, self.caps.max_cost_usd, used.cost_usd + used.lost_usd, math.fsum(money)),
        )

    def totals_by_call(self) -> dict[tuple[str, str], Totals]:
        """Returns what settled calls used, by role and model."""
        with self._lock:
            return dict(self._used)

    def _must_wait(self, reservation: Reservation) -> bool:
        """Returns whether it fits only once requests in flight have given back what they leave.

        Raises:
            BudgetExhaustedError: It would not fit then either, or `stop` was called meanwhile.
        """
        is_over = False
        needed = (1, reservation.tokens, reservation.cost_usd or 0.0)
        for (cap, most, used, held), more in zip(self._measure(), needed, strict=True):
            _check_cap(cap, used + more, most)
            is_over = is_over or (most is not None and used + more + held > most)
        if is_over and self._stopped_because:
            raise BudgetExhaustedError(self._stopped_because)
        return is_over


def _limit(reservation: Reservation, tokens: int) -> Reservation:
    return replace(reservation, completion_tokens=tokens, limit=tokens)


def _check_cap(cap: str, needed: float, most: float | None) -> None:
    if most is not None and needed > most:
        reason = f"budget: `{cap}`: {needed:.6g} might be reached, the cap is {most:.6g}"
        raise BudgetExhaustedError(cap, reason)
