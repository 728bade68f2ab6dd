"""Times and their spread; timing runs take turns, whatever process they are in."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.errors import SandboxError
from evolve.problem import load_problem
from evolve.records import Status
from evolve.scoring.timing import (
    Sample,
    Timing,
    find_own_folder,
    hold_quiet,
    measure_times,
    spread_of,
)
from tests.builders import open_pool
from tests.commands import write_problem

TIMED = """
from evolve.scoring import Score

def evaluate(program):
    timing = program.time("point", repeats=1)
    return Score(timing.seconds.median, measures={"first": timing.values[0][0]})
"""


def test_a_second_timing_run_waits_for_the_first_and_says_so() -> None:
    told: list[str] = []
    waits = threading.Event()

    def tell() -> None:
        told.append("tell")
        waits.set()

    def second() -> None:
        with hold_quiet(tell) as core:
            told.append(f"core {core >= 0}")

    with ThreadPoolExecutor(1) as pool:
        with hold_quiet(lambda: None):
            done = pool.submit(second)
            assert waits.wait(20)
            told.append("first ends")
        done.result()
    assert told == ["tell", "first ends", "tell", "core True"]


def test_a_folder_that_others_may_write_holds_no_lock(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "own").mkdir(0o700)
    (tmp_path / "link").symlink_to("own")
    (tmp_path / "file").write_text("")
    unfit = [tmp_path / name for name in ("open", "link", "file", "none/below")]
    assert find_own_folder([*unfit, tmp_path / "new"]) == tmp_path / "new"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    with pytest.raises(SandboxError, match="only this user can write"):
        find_own_folder(unfit)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_holds_no_lock(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(0o700)
    os.chown(tmp_path / "theirs", 64000, 64000)
    with pytest.raises(SandboxError, match="TMPDIR"):
        find_own_folder([tmp_path / "theirs"])


def test_the_wait_for_others_is_not_the_programs(tmp_path: Path) -> None:
    seconds = 3.0
    problem = load_problem(write_problem(tmp_path / "problem", evaluator=TIMED))
    with (
        closing(open_pool(problem, seconds=seconds)) as evaluators,
        ThreadPoolExecutor(1) as pool,
    ):
        evaluators.start()
        evaluators.wait()
        with hold_quiet(lambda: None):
            done = pool.submit(evaluators.evaluate, problem.initial)
            time.sleep(seconds + 0.5)
        evaluation = done.result()
    assert evaluation.status is Status.OK, evaluation.reason


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
