from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.scoring.executions import Sample, Timing, measure_times, spread_of


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=40))
def test_the_median_lies_in_its_interval_and_that_among_the_values(values: list[float]) -> None:
    spread = spread_of(values)
    assert min(values) <= spread.low <= spread.median <= spread.high <= max(values)
    assert spread == spread_of(values[::-1])


# Confidence of 95 percent, from binomial tables: the ranks that bound the median.
@pytest.mark.parametrize(
    ("count", "low", "high"), [(1, 1, 1), (5, 1, 5), (6, 1, 6), (9, 2, 8), (20, 6, 15)]
)
def test_the_interval_is_that_of_the_tables(count: int, low: int, high: int) -> None:
    spread = spread_of([float(value) for value in range(1, count + 1)])
    assert (spread.low, spread.high) == (low, high)


def test_ratios_are_taken_pair_by_pair() -> None:
    ours = [Sample(None, 1.0, 2.0), Sample(None, 2.0, 30.0), Sample(None, 3.0, 8.0)]
    theirs = [Sample(None, 2.0, 1.0), Sample(None, 4.0, 10.0), Sample(None, 6.0, 2.0)]
    timing = Timing(tuple(ours), tuple(theirs))
    assert timing.ratio == (3.0, 2.0, 4.0)
    assert timing.wall_ratio == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="expected a timing with `reference"):
        _ = Timing(tuple(ours)).ratio


def test_the_first_round_does_not_count_and_turns_change() -> None:
    order: list[str] = []

    def execute(name: str) -> Sample:
        order.append(name)
        return Sample(len(order), 1.0, 1.0)

    timing = measure_times(lambda _: execute("ours"), lambda _: execute("theirs"), 2)
    assert order == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert timing.values == (3, 6)
    with pytest.raises(ValueError, match="at least 1 repeat, got 0"):
        measure_times(lambda _: execute("ours"), None, 0)


def test_both_are_given_the_same_input_which_is_drawn_anew_for_each_round() -> None:
    drawn = iter(range(10))
    given: list[tuple[str, int]] = []

    def execute(name: str, number: int) -> Sample:
        given.append((name, number))
        return Sample(number, 1.0, 1.0)

    timing = measure_times(
        lambda number: execute("ours", number),
        lambda number: execute("theirs", number),
        2,
        lambda: next(drawn),
    )
    assert sorted(given) == [(name, number) for name in ("ours", "theirs") for number in range(3)]
    assert timing.inputs == timing.values == (1, 2)
