from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.errors import ModelUnavailableError
from evolve.models.protocol import ReplyError
from evolve.models.retry import (
    EmptyReplyError,
    RetryableError,
    RetryPolicy,
    call_with_retries,
    find_pause,
)
from evolve.records.chat import Reply


@dataclass
class Clock:
    """A clock that only waiting and sending move."""

    now: float = 100.0
    pauses: list[float] = field(default_factory=list)
    is_closed: bool = False

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.now += seconds
        return self.is_closed


def call(outcomes: list[object], clock: Clock, *, deadline: float = 60.0, **policy: object):
    left = iter(outcomes)

    def send(seconds: float) -> Reply:
        assert 0 < seconds <= deadline
        clock.now += 1.0
        outcome = next(left, outcomes[-1])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return call_with_retries(
        send,
        where="model 'm'",
        deadline_seconds=deadline,
        policy=RetryPolicy(**policy),
        jitter=lambda: 1.0,
        wait=clock.wait,
        clock=clock,
    )


REPLY = Reply("text", "m", prompt_tokens=10, completion_tokens=5, cost_usd=0.5)
EMPTY = EmptyReplyError(Reply("", "m", prompt_tokens=10, completion_tokens=1, cost_usd=0.25))


def test_an_answer_at_once_needs_no_wait():
    clock = Clock()
    assert call([REPLY], clock) == REPLY
    assert clock.pauses == []


def test_waits_double_up_to_the_longest():
    clock = Clock()
    outcomes = [*(RetryableError("busy") for _ in range(5)), REPLY]
    assert call(outcomes, clock, longest_seconds=3.0) == REPLY
    assert clock.pauses == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_wish_of_the_provider_is_a_lower_bound():
    clock = Clock()
    call([RetryableError("busy", retry_after_seconds=7.0), REPLY], clock)
    assert clock.pauses == [7.0]


def test_no_wait_is_begun_that_would_pass_the_deadline():
    clock = Clock()
    with pytest.raises(ModelUnavailableError, match=r"1 request within 5 s.*busy"):
        call([RetryableError("busy", retry_after_seconds=9.0)], clock, deadline=5.0)
    assert clock.pauses == []


def test_the_deadline_holds_for_all_requests_together():
    clock = Clock()
    with pytest.raises(ModelUnavailableError, match="requests within 30 s"):
        call([RetryableError("busy")], clock, deadline=30.0)
    assert clock.now <= 131.0


def test_requests_can_be_capped():
    with pytest.raises(ModelUnavailableError, match="no answer to 2 requests, the last failed"):
        call([RetryableError("busy")], Clock(), max_requests=2)


def test_other_errors_pass_through():
    with pytest.raises(ZeroDivisionError):
        call([ZeroDivisionError()], Clock())


def test_a_closed_model_gives_up_at_once():
    clock = Clock(is_closed=True)
    with pytest.raises(ModelUnavailableError):
        call([RetryableError("busy")], clock)
    assert len(clock.pauses) == 1


def test_empty_replies_are_given_up_after_three_and_counted():
    with pytest.raises(ReplyError, match="an empty reply, finish reason 'stop'") as caught:
        call([EMPTY], Clock())
    assert caught.value.reply.prompt_tokens == 30
    assert caught.value.reply.cost_usd == 0.75


def test_usage_of_empty_replies_is_added_to_the_good_one():
    reply = call([EMPTY, EMPTY, REPLY], Clock())
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("text", 30, 7)
    assert reply.cost_usd == 1.0


def test_one_unknown_price_makes_the_sum_unknown():
    free = EmptyReplyError(Reply("", "m", prompt_tokens=1))
    assert call([free, REPLY], Clock()).cost_usd is None


def test_a_deadline_after_an_empty_reply_still_counts_it():
    outcomes = [EMPTY, RetryableError("busy", retry_after_seconds=99.0)]
    with pytest.raises(ReplyError, match="busy") as caught:
        call(outcomes, Clock(), deadline=20.0)
    assert caught.value.reply.completion_tokens == 1


@given(
    requests=st.integers(1, 10_000),
    draw=st.floats(0, 1, exclude_max=True),
    wish=st.none() | st.floats(0, 1000),
)
def test_a_pause_lies_in_the_upper_half_or_follows_the_wish(requests, draw, wish):
    policy = RetryPolicy()
    longest = min(0.5 * 2.0 ** min(requests - 1, 32), 30.0)
    pause = find_pause(policy, requests, draw, wish)
    assert pause >= longest / 2
    assert pause <= max(longest, wish or 0.0)
    assert pause >= (wish or 0.0)
