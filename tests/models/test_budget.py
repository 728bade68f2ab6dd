from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.errors import BudgetExhaustedError, ModelError
from evolve.models.budget import (
    GENEROUS_TOKENS,
    Budget,
    Price,
    Reservation,
    estimate_prompt_tokens,
    usage_of,
)
from evolve.models.endpoint import Endpoint, RetryPolicy
from evolve.models.model import ReplyError, RetryableError
from evolve.models.offline_models import ScriptedModel
from evolve.records.chat import Message, Reply, Request
from evolve.records.results import Totals
from evolve.settings.sections import BudgetSettings

REQUEST = Request("editor", (Message("user", "x" * 300),), max_tokens=100)
PRICE = Price(prompt_usd=0.001, completion_usd=0.01)


@dataclass
class PricedModel(ScriptedModel):
    """Answers with a given usage, or raises."""

    prompt_tokens: int = 100
    completion_tokens: int = 50
    cost_usd: float | None = 0.6
    error: Exception | None = None
    name: str = "priced"
    text: str = "hi"

    def __post_init__(self) -> None:
        super().__init__(name=self.name)

    def complete(self, request: Request, timeout_seconds: float) -> Reply:
        if self.error is not None:
            raise self.error
        return Reply(
            self.text, self.name, self.prompt_tokens, self.completion_tokens, self.cost_usd
        )

    def find_price(self) -> Price | None:
        return PRICE if self.cost_usd is not None else None


def complete(budget: Budget, model: PricedModel) -> Reply:
    policy = RetryPolicy(first_seconds=0.001, longest_seconds=0.002)
    return Endpoint(model, policy=policy).complete(REQUEST, 1.0, budget)


def test_totals_are_kept_by_role_and_model():
    budget = Budget()
    complete(budget, PricedModel())
    complete(budget, PricedModel(name="other", cost_usd=None))
    assert budget.totals_by_call() == {
        ("editor", "priced"): Totals(1, 100, 0, 50, 0.6, 0),
        ("editor", "other"): Totals(1, 100, 0, 50, 0.0, 1),
    }
    assert budget.total == Totals(2, 200, 0, 100, 0.6, 1)
    assert budget.total.tokens == 300


@pytest.mark.parametrize(
    ("text", "tokens"), [("word " * 60, 75), ("0.1234567, " * 30, 300), ("漢字" * 40, 80)]
)
def test_an_estimate_of_prompt_tokens_is_on_the_safe_side(text, tokens):
    request = Request("editor", (Message("user", text),), max_tokens=1)
    assert estimate_prompt_tokens(request) >= tokens


@pytest.mark.parametrize(
    ("caps", "message"),
    [
        ({"max_cost_usd": 1.0}, "`max_cost_usd`: 1.116 might be reached, the cap is 1"),
        ({"max_calls": 0}, "`max_calls`: 1 might"),
        ({"max_tokens": 200}, "`max_tokens`: 216 might"),
    ],
)
def test_a_call_that_might_pass_a_cap_is_not_made(caps, message):
    budget = Budget(BudgetSettings(**caps))
    with pytest.raises(BudgetExhaustedError, match=message):
        complete(budget, PricedModel())
    assert budget.total == Totals()


def test_what_a_call_did_not_use_is_given_back():
    budget = Budget(BudgetSettings(max_cost_usd=2.0))
    worst = budget.reserve(REQUEST, "m", PRICE)
    assert worst.cost_usd == pytest.approx(0.116 + 1.0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.reserve, REQUEST, "m", PRICE)
        budget.settle(worst, usage_of(Reply("", "m", 10, 1, 0.02)))
        budget.settle(waiting.result(), Totals())
    assert budget.total == Totals(1, 10, 0, 1, 0.02, 0)


class TestShares:
    """Where money is capped, replies get limits that leave room for others beside them."""

    OPEN = Request("editor", (Message("user", "x" * 300),))
    CHEAP = Price(prompt_usd=1e-6, completion_usd=10e-6)

    def test_without_a_cap_no_limit_is_sent(self):
        assert Budget().reserve(self.OPEN, "m", self.CHEAP).limit is None
        assert Budget(BudgetSettings(max_cost_usd=2.0)).reserve(self.OPEN, "m", None).limit is None
        assert Budget().reserve(REQUEST, "m", self.CHEAP).limit == 100

    def test_eight_requests_are_in_flight_whatever_the_model_can_write(self):
        budget = Budget(BudgetSettings(max_cost_usd=2.0), shares=8)
        made = [budget.reserve(self.OPEN, "m", self.CHEAP, most=128_000) for _ in range(8)]
        limits = [reservation.limit for reservation in made]
        assert min(limits) >= 20_000
        assert max(limits) - min(limits) <= 200
        assert sum(reservation.cost_usd for reservation in made) <= 2.0

    def test_the_limit_is_generous_not_endless(self):
        limit = Budget(BudgetSettings(max_cost_usd=1e6)).reserve(self.OPEN, "m", self.CHEAP).limit
        assert limit == GENEROUS_TOKENS
        most = (
            Budget(BudgetSettings(max_cost_usd=1e6))
            .reserve(self.OPEN, "m", self.CHEAP, most=9000)
            .limit
        )
        assert most == 9000

    def test_a_share_that_is_too_small_waits_for_others(self):
        budget = Budget(BudgetSettings(max_cost_usd=1.0), shares=8)
        first = budget.reserve(self.OPEN, "m", self.CHEAP)
        budget.settle(first, usage_of(Reply("", "m", 100, 30_000, 0.3)))
        made = [budget.reserve(self.OPEN, "m", self.CHEAP) for _ in range(2)]
        assert [reservation.limit for reservation in made] == [30_000, 30_000]
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(budget.reserve, self.OPEN, "m", self.CHEAP)
            assert wait([waiting], timeout=0.2).not_done
            budget.settle(made[0], usage_of(Reply("", "m", 100, 100, 0.001)))
            assert waiting.result(timeout=5).limit >= 30_000

    def test_what_is_left_is_used_where_nothing_is_known_of_replies(self):
        budget = Budget(BudgetSettings(max_cost_usd=0.02))
        assert 1000 < budget.reserve(self.OPEN, "m", self.CHEAP).limit < 2000

    @given(
        cap=st.floats(0.001, 5.0),
        price=st.floats(1e-7, 1e-4),
        shares=st.integers(1, 16),
        uses=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    )
    def test_no_cap_is_passed_and_the_worst_case_is_set_aside(self, cap, price, shares, uses):
        budget = Budget(BudgetSettings(max_cost_usd=cap), shares=shares)
        price = Price(price / 4, price)
        pending = []
        for share in uses:
            try:
                if len(pending) == shares:
                    raise BudgetExhaustedError("full")
                pending.append((share, self.reserve_at_once(budget, price)))
            except BudgetExhaustedError:
                if not pending:
                    break
                part, made = pending.pop(0)
                written = int(part * made.limit)
                cost = price.cost_of(made.prompt_tokens, written)
                used = Totals(1, made.prompt_tokens, 0, written, cost)
                budget.settle(made, used)
            held = sum(made.cost_usd for _, made in pending)
            assert budget.total.cost_usd + held <= cap * (1 + 1e-9)

    def reserve_at_once(self, budget: Budget, price: Price) -> Reservation:
        """Reserves, or raises where it would wait."""
        budget.stop("no waiting")
        return budget.reserve(self.OPEN, "m", price, most=50_000)


def test_who_waits_for_others_ends_with_the_run_or_with_the_cap():
    budget = Budget(BudgetSettings(max_cost_usd=2.0))
    worst = budget.reserve(REQUEST, "m", PRICE)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.reserve, REQUEST, "m", PRICE)
        budget.settle(worst, usage_of(Reply("", "m", 100, 100, 1.1)))
        with pytest.raises(BudgetExhaustedError, match=r"2\.216 might be reached"):
            waiting.result()
        budget = Budget(BudgetSettings(max_cost_usd=2.0))
        budget.reserve(REQUEST, "m", PRICE)
        waiting = pool.submit(budget.reserve, REQUEST, "m", PRICE)
        budget.stop("interrupted")
        with pytest.raises(BudgetExhaustedError, match="interrupted"):
            waiting.result()


def test_what_may_have_been_charged_counts_with_its_worst_case():
    budget = Budget(BudgetSettings(max_cost_usd=4.0))
    lost = []
    error = RetryableError("broke off", may_be_charged=True)
    endpoint = Endpoint(PricedModel(error=error), policy=RetryPolicy(first_seconds=0.001))
    with pytest.raises(BudgetExhaustedError, match=r"`max_cost_usd`: 4\.464 might be reached"):
        endpoint.complete(REQUEST, 60.0, budget, on_lost=lambda *given: lost.append(given))
    assert budget.total == Totals(lost_requests=3, lost_tokens=648, lost_usd=pytest.approx(3.348))
    assert [(worst.model, reason) for worst, reason in lost] == [("priced", "broke off")] * 3
    assert sum(worst.cost_usd for worst, _ in lost) == pytest.approx(3.348)


def test_what_cannot_have_been_charged_counts_for_nothing():
    budget = Budget(BudgetSettings(max_calls=1))
    with pytest.raises(ModelError, match="wrong key"):
        complete(budget, PricedModel(error=ModelError("wrong key")))
    complete(budget, PricedModel())
    with pytest.raises(BudgetExhaustedError, match="might be reached"):
        complete(budget, PricedModel())


def test_empty_replies_are_reserved_one_by_one():
    """Each of them is paid for, so that three of one call could pass a cap together."""
    empty = PricedModel(completion_tokens=100, cost_usd=1.1, text="")
    budget = Budget(BudgetSettings(max_cost_usd=2.5))
    with pytest.raises(ReplyError, match=r"`max_cost_usd`: 3\.316 might") as caught:
        complete(budget, empty)
    assert caught.value.reply.cost_usd == pytest.approx(2.2)
    assert budget.total == Totals(1, 200, 0, 200, pytest.approx(2.2), 0)


def test_a_model_that_reads_more_than_estimated_is_estimated_higher():
    budget = Budget()
    before = budget.reserve(REQUEST, "priced", None).prompt_tokens
    complete(budget, PricedModel(prompt_tokens=3 * before))
    after = budget.reserve(REQUEST, "priced", None).prompt_tokens
    assert 3 * before < after < 4 * before
    assert budget.reserve(REQUEST, "other", None).prompt_tokens == before


def test_an_unusable_reply_is_paid_for():
    budget = Budget()
    error = ReplyError("empty", Reply("", "priced", 30, 3, 0.1))
    with pytest.raises(ReplyError, match="empty"):
        complete(budget, PricedModel(error=error))
    assert budget.total == Totals(1, 30, 0, 3, 0.1, 0)


def test_no_cap_is_passed_by_many_calls_at_a_time():
    budget = Budget(BudgetSettings(max_cost_usd=20.0, max_calls=10_000))

    def spend(_: int) -> bool:
        try:
            complete(budget, PricedModel())
        except BudgetExhaustedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        made = sum(pool.map(spend, range(200)))
    assert budget.total.cost_usd <= 20.0
    assert budget.total.calls == made
    assert budget.total.cost_usd == pytest.approx(0.6 * made)
    assert made >= 30


def test_evaluations_are_capped_before_they_are_made():
    budget = Budget(BudgetSettings(max_evaluations=1))
    budget.reserve_evaluation()
    with pytest.raises(BudgetExhaustedError, match="`max_evaluations`: 2 might"):
        budget.reserve_evaluation()
    assert budget.evaluations == 1


def test_what_an_earlier_part_of_the_run_used_counts():
    budget = Budget(BudgetSettings(max_calls=5))
    budget.restore("planner", "m", Totals(calls=4, lost_requests=1, cost_usd=1.5))
    with pytest.raises(BudgetExhaustedError, match="might be reached"):
        budget.reserve(REQUEST, "m", None)
    assert budget.total.cost_usd == 1.5
