from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from evolve.chat import Message, Reply, Request
from evolve.errors import BudgetExhaustedError, ModelUnavailableError
from evolve.models import Budget, Price, ReplyError, ScriptedModel, Totals, estimate_prompt_tokens

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

    def complete(self, request: Request, deadline_seconds: float) -> Reply:
        if self.error is not None:
            raise self.error
        return Reply("hi", self.name, self.prompt_tokens, self.completion_tokens, self.cost_usd)

    def find_price(self) -> Price | None:
        return PRICE if self.cost_usd is not None else None


def test_totals_are_kept_by_role_and_model():
    budget = Budget()
    budget.complete(PricedModel(), REQUEST, 1.0)
    budget.complete(PricedModel(name="other", cost_usd=None), REQUEST, 1.0)
    assert budget.totals_by_call() == {
        ("editor", "priced"): Totals(1, 0, 100, 50, 0.6, 0),
        ("editor", "other"): Totals(1, 0, 100, 50, 0.0, 1),
    }
    assert budget.total == Totals(2, 0, 200, 100, 0.6, 1)
    assert budget.total.tokens == 300


def test_an_estimate_of_prompt_tokens_is_on_the_safe_side():
    assert estimate_prompt_tokens(REQUEST) >= 100


@pytest.mark.parametrize(
    ("caps", "message"),
    [
        ({"max_cost_usd": 1.0}, "`max_cost_usd`: 1.116 might be reached, the cap is 1"),
        ({"max_calls": 0}, "`max_calls`: 1 might"),
        ({"max_tokens": 200}, "`max_tokens`: 216 might"),
    ],
)
def test_a_call_that_might_pass_a_cap_is_not_made(caps, message):
    budget = Budget(**caps)
    with pytest.raises(BudgetExhaustedError, match=message):
        budget.complete(PricedModel(), REQUEST, 1.0)
    assert budget.total == Totals()


def test_what_a_call_did_not_use_is_given_back():
    budget = Budget(max_cost_usd=2.0)
    worst = budget.reserve(REQUEST, "m", PRICE)
    assert worst.cost_usd == pytest.approx(0.116 + 1.0)
    with pytest.raises(BudgetExhaustedError):
        budget.reserve(REQUEST, "m", PRICE)
    budget.settle(worst, Reply("", "m", 10, 1, 0.02))
    budget.settle(budget.reserve(REQUEST, "m", PRICE), None)
    assert budget.total == Totals(1, 1, 10, 1, 0.02, 0)


def test_failed_calls_count_as_calls():
    budget = Budget(max_calls=1)
    with pytest.raises(ModelUnavailableError):
        budget.complete(PricedModel(error=ModelUnavailableError("down")), REQUEST, 1.0)
    with pytest.raises(BudgetExhaustedError):
        budget.complete(PricedModel(), REQUEST, 1.0)


def test_an_unusable_reply_is_paid_for():
    budget = Budget()
    error = ReplyError("empty", Reply("", "priced", 30, 3, 0.1))
    with pytest.raises(ReplyError):
        budget.complete(PricedModel(error=error), REQUEST, 1.0)
    assert budget.total == Totals(1, 0, 30, 3, 0.1, 0)


def test_no_cap_is_passed_by_many_calls_at_a_time():
    budget = Budget(max_cost_usd=20.0, max_calls=10_000)

    def spend(_: int) -> bool:
        try:
            budget.complete(PricedModel(), REQUEST, 1.0)
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
    budget = Budget(max_evaluations=3)
    budget.reserve_evaluations(2)
    with pytest.raises(BudgetExhaustedError, match="`max_evaluations`: 4 might"):
        budget.reserve_evaluations(2)
    assert budget.evaluations == 2
    Budget().reserve_evaluations(10**6)


def test_what_an_earlier_part_of_the_run_used_counts():
    budget = Budget(max_calls=5)
    budget.restore("planner", "m", Totals(calls=4, failed_calls=1, cost_usd=1.5))
    with pytest.raises(BudgetExhaustedError):
        budget.reserve(REQUEST, "m", None)
    assert budget.total.cost_usd == 1.5
