import math

import numpy as np
import pytest
from sums_differences import evaluate

from evolve.scoring import Infeasible
from tests.direct_program import reply_with


def test_conways_set_has_one_sum_more():
    score = evaluate(reply_with([0, 2, 3, 4, 7, 11, 12, 14]))
    assert (score.metrics["sums"], score.metrics["differences"]) == (26.0, 25.0)
    assert score.objective == pytest.approx(math.log(26 / 8) / math.log(25 / 8), abs=1e-15)


def test_a_progression_gives_just_less_than_one():
    score = evaluate(reply_with(np.arange(-3000, 3000, 7)))
    assert 1 - 1e-15 < score.objective < 1.0
    assert score.measures["size"] == 858.0


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ([0, 1, 1], "one of them twice"),
        ([0], "at least 2 numbers"),
        ([], "at least 2 numbers"),
        ([0, 1e-9], r"build\[1\]: expected a whole number, got a float"),
        ([0, 1, 10**9 + 1], r"build\[2\]: expected at most"),
        (list(range(2001)), "expected at most 2000 numbers"),
        (np.array([0.0, 1.0]), "expected whole numbers"),
        (np.array([[0, 1]]), "expected whole numbers"),
    ],
)
def test_what_is_no_set_of_whole_numbers_does_not_count(reply, message):
    with pytest.raises(Infeasible, match=message):
        evaluate(reply_with(reply))


def test_numbers_that_would_overflow_in_an_array_are_counted():
    big = 10**9
    score = evaluate(reply_with([-big, 1, big - 3, big]))
    assert score.metrics["sums"] == 10.0
