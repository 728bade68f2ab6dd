import numpy as np
import pytest
from matrix_multiplication import evaluate

from evolve.scoring import Infeasible
from tests.direct_program import reply_with

SQUARES = {"rows": 2, "inner": 2, "columns": 2}
# Strassen 1969, Gaussian elimination is not optimal.
STRASSEN = (
    [
        [1, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1],
        [1, 1, 0, 0], [-1, 0, 1, 0], [0, 1, 0, -1],
    ],
    [
        [1, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, -1], [-1, 0, 1, 0],
        [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1],
    ],
    [
        [1, 0, 0, 1], [0, 0, 1, -1], [0, 1, 0, 1], [1, 0, 1, 0],
        [-1, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0],
    ],
)  # fmt: skip


def test_strassens_seven_products_count():
    score = evaluate(reply_with(STRASSEN), **SQUARES)
    assert score.objective == 7.0
    assert score.metrics["additions"] == 18.0


def test_halves_count():
    left, right, out = (np.array(factor, dtype=float) for factor in STRASSEN)
    assert evaluate(reply_with((left / 2, right, out * 2)), **SQUARES).objective == 7.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (1e-9, "left: expected multiples of 1/2"),
        (0.25, "left: expected multiples of 1/2"),
        (1.0, r"coefficients are wrong; the first is that of A\[0\]\[0\] \* B\[0\]\[0\]"),
        (200.0, "at most 64 in size"),
    ],
)
def test_a_wrong_factor_does_not_count(change, message):
    left, right, out = (np.array(factor, dtype=float) for factor in STRASSEN)
    left[0, 0] += change
    with pytest.raises(Infeasible, match=message):
        evaluate(reply_with((left, right, out)), **SQUARES)


@pytest.mark.parametrize(
    "reply",
    [
        (STRASSEN[0], STRASSEN[1], STRASSEN[2][:6]),
        ([[0] * 4] * 99, [[0] * 4] * 99, [[0] * 4] * 99),
        (np.zeros((0, 4)), np.zeros((0, 4)), np.zeros((0, 4))),
    ],
)
def test_numbers_of_products_are_bounded_and_equal(reply):
    with pytest.raises(Infeasible, match=r"^decompose: expected as many rows"):
        evaluate(reply_with(reply), **SQUARES)
