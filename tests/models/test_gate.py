import threading

import pytest

from evolve.errors import ModelUnavailableError
from evolve.models.gate import Gate
from evolve.models.model import RetryableError


class Clock:
    """A clock that moves as fast as a gate waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


def make_gate(**options: float) -> tuple[Gate, Clock, list[str]]:
    clock, told = Clock(), []
    gate = Gate("model 'm'", tell=told.append, clock=clock, longest_nap_seconds=0.0, **options)
    return gate, clock, told


def request(gate: Gate, failure: RetryableError | None = None, tokens: int = 10) -> float:
    with gate.passage(tokens) as waited:
        if failure is not None:
            raise failure
    return waited


def fail(gate: Gate, times: int = 1, **options: object) -> None:
    for _ in range(times):
        with pytest.raises(RetryableError, match="no power"):
            request(gate, RetryableError("no power", **options))


@pytest.mark.parametrize(
    ("limits", "tokens"),
    [({"requests_per_minute": 3}, 1), ({"tokens_per_minute": 35}, 10)],
)
def test_requests_beyond_the_rate_wait_for_the_minute_to_pass(limits, tokens):
    gate, clock, _ = make_gate(**limits)
    start = clock.now
    assert sum(request(gate, tokens=tokens) for _ in range(3)) < 10
    assert clock.now < start + 30
    request(gate, tokens=tokens)
    assert clock.now > start + 59


def test_a_request_larger_than_the_rate_passes_alone():
    gate, _, _ = make_gate(tokens_per_minute=35)
    assert request(gate, tokens=1000) < 5


def test_no_more_requests_at_a_time_than_allowed():
    gate = Gate("model 'm'", concurrency=2)
    lock, peak, now = threading.Lock(), 0, 0

    def work() -> None:
        nonlocal peak, now
        for _ in range(20):
            with gate.passage(1):
                with lock:
                    now += 1
                    peak = max(peak, now)
                with lock:
                    now -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= peak <= 2


def test_five_failures_in_a_row_pause_all_requests_and_say_so():
    gate, clock, told = make_gate()
    fail(gate, 4)
    assert told == []
    fail(gate)
    assert told == [
        "model 'm': down (no power); paused, asked again in 5 s, given up in 900 s",
    ]
    before = clock.now
    request(gate)
    assert clock.now >= before + 4
    assert "answers again after" in told[1]
    assert request(gate) < 2


def test_an_answer_in_between_starts_the_count_anew():
    gate, _, told = make_gate()
    for _ in range(5):
        fail(gate, 4)
        request(gate)
    assert told == []


def test_pauses_double_and_end_in_an_outage():
    gate, _, told = make_gate(outage_seconds=100.0)
    fail(gate, 5)
    with pytest.raises(
        ModelUnavailableError, match=r"model 'm': down for 100 s, .* with: no power"
    ):
        fail(gate, 100)
    assert ["asked again in 10 s" in line for line in told[:3]] == [False, True, False]


def test_busy_answers_do_not_count_as_failures_but_hold_everybody():
    gate, clock, told = make_gate()
    fail(gate, 20, is_outage=False)
    assert told == []
    fail(gate, is_outage=False, retry_after_seconds=30.0)
    assert told == ["model 'm': rate limited; retrying in 30 s"]
    before = clock.now
    request(gate)
    assert clock.now >= before + 29


def test_a_closed_gate_lets_nobody_pass():
    gate, _, _ = make_gate()
    gate.close()
    with pytest.raises(ModelUnavailableError, match="closed"):
        request(gate)
