import itertools

from hypothesis import given
from hypothesis import strategies as st

from evolve.search.schedule import Schedule, Size, Turn


def start_all(schedule: Schedule, committed: int, evaluations: int) -> list[Turn]:
    return list(iter(lambda: schedule.next(committed, evaluations), None))


def simulate(schedule: Schedule, use, limit=10_000) -> tuple[list[Turn], int]:
    """Commits one generation after the other; `use` gives what each slot really used."""
    used, order = 1, []
    waiting = start_all(schedule, 0, used)
    while waiting and len(order) < limit:
        turn = waiting.pop(0)
        order.append(turn)
        used += sum(use(allowance) for allowance in turn.allowances) + turn.tuning
        waiting += start_all(schedule, turn.generation, used)
    return order, used


def numbers_of(turns: list[Turn]) -> list[int]:
    return [turn.generation for turn in turns]


def test_generations_start_as_far_ahead_as_the_lag_allows():
    schedule = Schedule(generations=9, size_at=lambda _: Size(4, 1, lag=2))
    assert numbers_of(start_all(schedule, 0, 1)) == [1, 2, 3]
    assert numbers_of(start_all(schedule, 0, 1)) == []
    assert numbers_of(start_all(schedule, 1, 5)) == [4]


def test_the_first_generations_start_one_after_the_other_with_a_model():
    schedule = Schedule(generations=9, size_at=lambda _: Size(4, 1, lag=1, in_turn=3))
    started = [numbers_of(start_all(schedule, committed, 1)) for committed in range(5)]
    assert started == [[1], [2], [3], [4, 5], [6]]


def test_a_generation_waits_for_the_plans_of_those_before_it():
    schedule = Schedule(generations=9, size_at=lambda _: Size(4, 1, lag=1))
    assert schedule.next(0, 1).generation == 1
    assert schedule.waits_for_plans(0, planned=0)
    assert not schedule.waits_for_plans(0, planned=1)
    assert schedule.next(0, 1).generation == 2
    assert not schedule.waits_for_plans(0, planned=1)


@given(
    st.builds(
        Size,
        slots=st.integers(1, 9),
        per_slot=st.integers(1, 3),
        max_evaluations=st.integers(1, 200),
        tuning=st.integers(0, 30),
        lag=st.integers(0, 3),
    ),
    st.randoms(use_true_random=False),
)
def test_the_cap_on_evaluations_is_reached_but_never_passed(size, random):
    schedule = Schedule(generations=1000, size_at=lambda _: size)
    order, used = simulate(schedule, lambda allowance: random.randint(1, allowance))
    assert used == size.max_evaluations
    assert numbers_of(order) == list(range(1, len(order) + 1))


@given(st.integers(1, 40), st.integers(0, 3), st.integers(0, 5))
def test_without_a_cap_every_generation_runs_once(generations, lag, in_turn):
    size = Size(3, 2, lag=lag, in_turn=in_turn)
    schedule = Schedule(generations=generations, size_at=lambda _: size)
    order, _ = simulate(schedule, lambda allowance: allowance)
    assert numbers_of(order) == list(range(1, generations + 1))


@given(st.integers(0, 3), st.integers(0, 4), st.integers(1, 20))
def test_no_two_generations_in_flight_tune(lag, in_turn, tuning):
    size = Size(2, 1, None, tuning, lag, in_turn)
    schedule = Schedule(generations=40, size_at=lambda _: size)
    in_flight: list[Turn] = start_all(schedule, 0, 1)
    for committed in itertools.count(1):
        assert sum(turn.tuning > 0 for turn in in_flight) <= 1
        in_flight = [turn for turn in in_flight if turn.generation > committed]
        in_flight += start_all(schedule, committed, 1)
        if not in_flight:
            break
    assert committed == 40


def test_a_share_of_tuning_that_a_cap_cannot_hold_is_scaled_down_with_the_slots():
    # `tuning.share=0.99` with 100 evaluations: 792 samples for 8 slots.
    schedule = Schedule(generations=30, size_at=lambda _: Size(8, 1, 100, 792))
    turn = schedule.next(0, 1)
    assert turn.tuning > 80
    assert len(turn.allowances) >= 1
    assert turn.tuning + sum(turn.allowances) <= 99
