from __future__ import annotations

import re
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from python_kernel import LARGEST, check_answer, draw_cases, draw_series, find_medians

from evolve.records import Status
from evolve.scoring import Infeasible
from tests.judge import Judge, open_judge

if TYPE_CHECKING:
    from collections.abc import Iterator

FAST = """
import numpy as np
def rolling_median(values, window):
    windows = np.lib.stride_tricks.sliding_window_view(values, window)
    return np.partition(windows, window // 2, axis=1)[:, window // 2]
"""
VALUES = np.array([5.0, 1.0, 4.0, 2.0])


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    yield from open_judge("python_kernel", count=3000)


def test_medians_are_those_of_the_standard_library() -> None:
    for values, window in draw_cases(np.random.default_rng(1)):
        parts = [values[i : i + window] for i in range(len(values) - window + 1)]
        expected = [statistics.median(part.tolist()) for part in parts]
        assert find_medians(values, window).tolist() == expected


def test_cases_keep_what_the_statement_says() -> None:
    cases = draw_cases(np.random.default_rng(2))
    again = draw_cases(np.random.default_rng(2))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(cases, again, strict=True))
    for values, window in cases:
        assert window % 2 == 1
        assert 1 <= window <= min(501, len(values))
        assert np.isfinite(values).all()
        assert np.abs(values).max() <= LARGEST
    assert draw_series(np.random.default_rng(3), 50).shape == (50,)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "4.0 2.0",
        [4.0],
        [4.0, 2.0, 2.0],
        [4.0, 2.0000000000000004],
        [4.0, float("nan")],
        [4.0, float("inf")],
        [4.0, True],
        [[4.0, 2.0]],
        np.array([4.0, 2.0], dtype=complex),
        {0: 4.0, 1: 2.0},
    ],
)
def test_only_the_exact_medians_count(answer: Any) -> None:
    check_answer([4, 2.0], VALUES, 3, where="here")
    check_answer(np.array([4.0, 2.0]), VALUES, 3, where="here")
    with pytest.raises(Infeasible, match=r"^here"):
        check_answer(answer, VALUES, 3, where="here")


def test_the_starting_program_is_right_and_slower_than_the_baseline(judge: Judge) -> None:
    evaluation = judge()
    assert evaluation.status is Status.OK, evaluation
    assert judge.problem.baseline is not None
    assert evaluation.objective > judge.problem.baseline.value
    assert set(evaluation.measures) == {axis.name for axis in judge.problem.measures}


def test_a_fast_program_scores_far_below_the_baseline(judge: Judge) -> None:
    evaluation = judge(("", FAST))
    assert evaluation.status is Status.OK, evaluation
    assert evaluation.objective < 0.7


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        # Right where it is compared on small cases, quick where it is timed.
        (
            (
                "def rolling_median(values, window):\n"
                "    if len(values) > 1000: return [0.0] * (len(values) - window + 1)\n"
                "    return slow(values, window)\n"
            ),
            "the timed series: .*expected",
        ),
        # An answer from the state that other calls have left.
        (
            (
                "kept = []\ndef rolling_median(values, window):\n    kept.append(1)\n"
                "    return slow(values, window) if len(kept) < 30 else []\n"
            ),
            "case .*expected",
        ),
        ("def rolling_median(values, window):\n    return [min(values)] * 9\n", "case .*expected"),
        (
            (
                "import os\ndef rolling_median(values, window):\n"
                "    if len(values) > 1000: os.fork()\n    return slow(values, window)\n"
            ),
            "Operation not permitted",
        ),
    ],
    ids=["lazy", "state", "wrong", "fork"],
)
def test_programs_that_cheat_get_no_score(judge: Judge, source: str, reason: str) -> None:
    evaluation = judge(("", FAST.replace("rolling_median", "slow") + source))
    assert evaluation.objective is None
    assert evaluation.status in {Status.INFEASIBLE, Status.ERROR}
    assert re.search(reason, evaluation.reason), evaluation.reason
