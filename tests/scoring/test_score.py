from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from evolve.scoring import Infeasible, Score, as_floats


def test_a_score_keeps_plain_numbers() -> None:
    score = Score(np.float32(0.5), metrics={"a": 1}, measures={"b": Fraction(1, 4)})  # type: ignore[arg-type, dict-item]
    assert (score.objective, score.metrics, score.measures) == (0.5, {"a": 1.0}, {"b": 0.25})
    assert type(score.objective) is float
    assert score.artifacts == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match="objective: expected a finite number, got"):
        Score(value)
    with pytest.raises(ValueError, match="metrics `share`: expected a finite number"):
        Score(1.0, metrics={"share": value})


@pytest.mark.parametrize("value", [True, "1", None, 1j, [1.0]])
def test_a_score_is_a_number(value: Any) -> None:
    with pytest.raises(TypeError, match="objective: expected a number"):
        Score(value)


def test_a_score_refuses_the_objective_as_a_measure() -> None:
    with pytest.raises(ValueError, match="got a measure called `objective`"):
        Score(1.0, measures={"objective": 1.0})


def test_names_and_artifacts_of_a_score_are_texts() -> None:
    with pytest.raises(TypeError, match="artifacts `log`: expected a text, got 3"):
        Score(1.0, artifacts={"log": 3})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="a name in metrics: expected a text, got 3"):
        Score(1.0, metrics={3: 1.0})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2.0], (3.0, 4)],
        np.array([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]], dtype=np.float32),
        [np.array([1.0, 2.0]), [np.float64(3.0), np.int32(4)]],
    ],
)
def test_lists_and_arrays_of_numbers_become_doubles(value: object) -> None:
    array = as_floats(value, (2, 2), where="f")
    assert array.dtype == np.float64
    assert array.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_sizes_may_be_left_open() -> None:
    assert as_floats([[1.0, 2.0]], (None, None), where="f").shape == (1, 2)
    assert as_floats([], (None, 3), where="f").shape == (0, 3)
    assert as_floats(3, (), where="f").shape == ()
    with pytest.raises(Infeasible, match=r"f\[1\]: expected 1 numbers, got 2 entries"):
        as_floats([[1.0], [1.0, 2.0]], (None, None), where="f")


def test_the_result_does_not_share_memory_with_the_value() -> None:
    value = np.zeros(2)
    as_floats(value, (2,), where="f")[0] = 1.0
    assert value[0] == 0.0


class LyingFloat(float):
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"^f: expected 2 by 2 numbers, got NoneType None$"),
        ("ab", r"^f: expected 2 by 2 numbers, got str 'ab'$"),
        ({0: 1}, r"^f: expected 2 by 2 numbers, got a dict$"),
        ([[1, 2]], r"^f: expected 2 by 2 numbers, got 1 entries$"),
        ([[1, 2], [3]], r"^f\[1\]: expected 2 numbers, got 1 entries$"),
        ([[1, 2], [3, [4]]], r"^f\[1\]\[1\]: expected a number, got a list$"),
        ([[1, 2], [3, True]], r"^f\[1\]\[1\]: expected a number, got bool True$"),
        ([[1, 2], [3, np.True_]], r"^f\[1\]\[1\]: expected a number, got"),
        ([[1, 2], [3, "4"]], r"^f\[1\]\[1\]: expected a number, got str '4'$"),
        ([[1, 2], [3, 4j]], r"^f\[1\]\[1\]: expected a number, got a complex$"),
        ([[1, 2], [3, LyingFloat(4)]], r"^f\[1\]\[1\]: expected a number, got"),
        ([[1, 2], [3, math.nan]], r"^f\[1\]\[1\]: expected a finite number of at most 1e\+09"),
        ([[-math.inf, 2], [3, 4]], r"^f\[0\]\[0\]: expected a finite number .* got -inf$"),
        ([[1, 2], [3, 1e10]], r"^f\[1\]\[1\]: expected a finite number .* got 10000000000.0$"),
        ([[1, 2], [3, 10**400]], r"^f\[1\]\[1\]: expected a number that fits a double"),
        (np.zeros(4), r"^f: expected 2 by 2 numbers, got an array of shape \(4,\)$"),
        (np.zeros((2, 2), bool), r"^f: expected numbers, got an array of type bool$"),
        (np.zeros((2, 2), complex), r"^f: expected numbers, got an array of type complex128$"),
        (np.zeros((2, 2), object), r"^f: expected numbers, got an array of type object$"),
        (np.full((2, 2), "1"), r"^f: expected numbers, got an array of type <U1$"),
        (np.full((2, 2), np.nan), r"^f\[0\]\[0\]: expected a finite number"),
    ],
)
def test_anything_else_is_infeasible_and_says_where(value: object, message: str) -> None:
    with pytest.raises(Infeasible, match=message):
        as_floats(value, (2, 2), where="f")


def test_instances_have_names_that_are_not_those_of_validation():
    with pytest.raises(TypeError, match="Score: expected instances by name, a dict, got"):
        Score(1.0, instances=[1.0, 2.0])
    with pytest.raises(ValueError, match="do not begin with 'validation '"):
        Score(1.0, instances={"validation a": 1.0}, validation={"a": 2.0})
