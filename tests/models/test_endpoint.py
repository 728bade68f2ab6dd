"""Calls of an endpoint: what is asked again, for how long, and what is counted."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.errors import ModelUnavailableError
from evolve.models.budget import Budget, Price
from evolve.models.endpoint import Endpoint, RetryPolicy
from evolve.models.gate import Gate
from evolve.models.model import Model, ReplyError, RetryableError
from evolve.records.chat import Message, Reply, Request

REQUEST = Request("editor", (Message("user", "u"),), max_tokens=50)
REPLY = Reply("text", "m", prompt_tokens=10, completion_tokens=5, cost_usd=0.5)
EMPTY = Reply("", "m", prompt_tokens=10, completion_tokens=1, cost_usd=0.25)
FAST = RetryPolicy(first_seconds=0.001, longest_seconds=0.002)


class Played(Model):
    """Answers with what it is given, in turn; the last one for ever."""

    def __init__(self, *outcomes: Reply | Exception) -> None:
        super().__init__("m")
        self.outcomes = list(outcomes)
        self.times: list[float] = []
        self.requests: list[Request] = []

    def complete(self, request: Request, timeout_seconds: float) -> Reply:
        assert timeout_seconds > 0
        self.times.append(time.monotonic())
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def prepare(self) -> Request:
        return REQUEST


def call(
    model: Played,
    deadline: float = 20.0,
    policy: RetryPolicy = FAST,
    outage_seconds: float = 0.05,
    budget: Budget | None = None,
) -> Reply:
    gate = Gate("model 'm'", outage_seconds=outage_seconds)
    endpoint = Endpoint(model, policy=policy, gate=gate)
    return endpoint.complete(REQUEST, deadline, budget or Budget())


def test_waits_double_up_to_the_longest():
    busy = [RetryableError("busy", is_outage=False) for _ in range(4)]
    model = Played(*busy, REPLY)
    assert call(model, policy=RetryPolicy(0.05, 0.15)).text == "text"
    pauses = [after - before for before, after in zip(model.times, model.times[1:], strict=False)]
    for pause, longest in zip(pauses, (0.05, 0.1, 0.15, 0.15), strict=True):
        assert longest / 2 <= pause < longest + 0.05


def test_no_wait_is_begun_that_would_pass_the_deadline():
    model = Played(RetryableError("busy"))
    start = time.monotonic()
    with pytest.raises(ModelUnavailableError, match=r"down for 0 s.*busy"):
        call(model, deadline=0.2, policy=RetryPolicy(9.0), outage_seconds=0.0)
    assert time.monotonic() - start < 1
    assert len(model.times) == 1


def test_a_call_without_an_answer_is_given_up_where_others_got_one():
    model = Played(REPLY, RetryableError("busy", is_outage=False))
    endpoint = Endpoint(model, policy=FAST)
    endpoint.complete(REQUEST, 20.0, Budget())
    busy = RetryableError("busy", is_outage=False)
    model.outcomes = [busy]
    with pytest.raises(ReplyError, match=r"no answer to \d+ requests within 0.1 s, .*busy"):
        endpoint.complete(REQUEST, 0.1, Budget())


def test_requests_can_be_capped():
    model = Played(RetryableError("busy"))
    with pytest.raises(ModelUnavailableError, match="no answer to 2 requests, the last failed"):
        call(model, policy=RetryPolicy(0.001, 0.002, max_requests=2))
    assert len(model.times) == 2


def test_other_errors_pass_through():
    with pytest.raises(ZeroDivisionError, match="theirs"):
        call(Played(ZeroDivisionError("theirs")))


def test_a_preflight_gives_up_after_four_requests():
    model = Played(RetryableError("busy"))
    with pytest.raises(ModelUnavailableError, match="no answer to 4 requests, the last failed"):
        Endpoint(model).preflight()


def test_a_preflight_waits_as_long_as_the_provider_asks():
    model = Played(RetryableError("busy", retry_after_seconds=1.0), REPLY)
    assert Endpoint(model).preflight() == REPLY
    assert model.times[1] - model.times[0] >= 1.0


def test_empty_replies_are_given_up_after_three_and_counted():
    budget = Budget()
    with pytest.raises(ReplyError, match="an empty reply, finish reason 'stop'") as caught:
        call(Played(EMPTY), budget=budget)
    assert caught.value.reply.prompt_tokens == budget.total.prompt_tokens == 30
    assert caught.value.reply.cost_usd == budget.total.cost_usd == 0.75
    assert budget.total.calls == 1


def test_usage_of_empty_replies_is_added_to_the_good_one():
    reply = call(Played(EMPTY, EMPTY, REPLY))
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("text", 30, 7)
    assert reply.cost_usd == 1.0


def test_a_cost_that_is_declared_stands_over_a_price():
    endpoint = Endpoint(Played(REPLY), policy=FAST, gate=Gate("model 'm'"), price=Price(9.0, 9.0))
    assert endpoint.complete(REQUEST, 20.0, Budget()).cost_usd == 0.5


def test_one_unknown_price_makes_the_sum_unknown():
    assert call(Played(Reply("", "m", prompt_tokens=1), REPLY)).cost_usd is None


def test_a_deadline_after_an_empty_reply_still_counts_it():
    busy = RetryableError("busy", is_outage=False)
    with pytest.raises(ReplyError, match="busy") as caught:
        call(Played(EMPTY, busy), deadline=0.1)
    assert caught.value.reply.completion_tokens == 1


def test_a_reply_that_is_cut_off_counts_where_no_longer_one_comes():
    cut = Reply("half", "m", 10, 50, 0.1, finish_reason="length")
    open_request = Request("editor", REQUEST.messages)
    model = Played(cut, RetryableError("busy", is_outage=False))
    reply = Endpoint(model, policy=FAST).complete(open_request, 0.1, Budget())
    assert (reply.text, reply.completion_tokens) == ("half", 50)
    assert model.requests[1].max_tokens >= 100


@given(requests=st.integers(1, 10_000), draw=st.floats(0, 1, exclude_max=True))
def test_a_pause_lies_in_the_upper_half(requests, draw):
    longest = min(0.5 * 2.0 ** min(requests - 1, 32), 30.0)
    assert longest / 2 <= RetryPolicy().find_pause(requests, draw) <= longest
