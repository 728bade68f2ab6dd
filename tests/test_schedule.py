from hypothesis import given
from hypothesis import strategies as st

from evolve.search.schedule import Schedule, Size


def simulate(schedule: Schedule, use, limit=10_000) -> tuple[list[int], int]:
    """Commits one generation after the other; `use` gives what each slot really used."""
    committed, used, order = 0, 1, []
    waiting = list(schedule.ready(0, used))
    while waiting and len(order) < limit:
        turn = waiting.pop(0)
        order.append(turn.generation)
        used += sum(use(allowance) for allowance in turn.allowances)
        committed = turn.generation
        waiting += schedule.ready(committed, used)
    return order, used


def test_generations_start_as_far_ahead_as_the_lag_allows():
    schedule = Schedule(generations=9, lag=2, size_at=lambda _: Size(4, 1))
    assert [turn.generation for turn in schedule.ready(0, 1)] == [1, 2, 3]
    assert [turn.generation for turn in schedule.ready(0, 1)] == []
    assert [turn.generation for turn in schedule.ready(1, 5)] == [4]


@given(
    st.integers(1, 9),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(1, 200),
    st.randoms(use_true_random=False),
)
def test_the_cap_on_evaluations_is_reached_but_never_passed(slots, lag, per_slot, cap, random):
    schedule = Schedule(generations=1000, lag=lag, size_at=lambda _: Size(slots, per_slot, cap))
    order, used = simulate(schedule, lambda allowance: random.randint(1, allowance))
    assert used == cap
    assert order == list(range(1, len(order) + 1))


@given(st.integers(1, 40), st.integers(0, 3))
def test_without_a_cap_every_generation_runs_once(generations, lag):
    schedule = Schedule(generations=generations, lag=lag, size_at=lambda _: Size(3, 2))
    order, _ = simulate(schedule, lambda allowance: allowance)
    assert order == list(range(1, generations + 1))
