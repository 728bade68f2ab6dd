from fractions import Fraction

import autocorrelation_first
import autocorrelation_second
import autocorrelation_third
import erdos_min_overlap
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from step_functions import convolve_with_itself

from evolve.scoring import Infeasible
from tests.direct_program import reply_with

EVALUATORS = (autocorrelation_first, autocorrelation_second, autocorrelation_third)


def score(module, heights):
    return module.evaluate(reply_with(heights), steps=len(heights))


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=12))
def test_autoconvolutions_are_those_of_numpy(heights):
    assert convolve_with_itself(heights) == np.convolve(heights, heights).tolist()


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_constant_gives_what_is_known(steps):
    first, second, third = (score(module, [1.5] * steps).objective for module in EVALUATORS)
    assert (first, third) == (2.0, 2.0)
    assert Fraction(second) <= Fraction(2, 3) < Fraction(second) + Fraction(1, 10**15)


def test_two_steps_by_hand():
    # Nodes 1, 6, 9 of the autoconvolution of 1, 3; the integral is 4 quarters.
    assert score(autocorrelation_first, [1, 3]).objective == 4 * 9 / 16
    second = Fraction((1) + (1 + 6 + 36) + (36 + 54 + 81) + 81, 3 * 16 * 9)
    assert score(autocorrelation_second, [1, 3]).objective == pytest.approx(
        float(second), abs=1e-15
    )
    third = score(autocorrelation_third, [3, -1])
    assert third.objective == 4 * 9 / 4
    assert score(autocorrelation_third, [3, -2]).metrics["absolute"] == 4 * 12


@pytest.mark.parametrize("module", EVALUATORS)
def test_heights_near_nothing_change_nothing(module):
    # In doubles their products vanish, and the second ratio would exceed 1.
    plain = score(module, [1.0, 2.0, 0.5])
    for scale in (1e-81, 5e-324 * 2**60):
        heights = [scale * 1.0, scale * 2.0, scale * 0.5]
        assert score(module, heights).objective == plain.objective
    spiked = score(module, [1e-200] * 20 + [1.0] + [5e-324] * 20)
    assert 0.0 < spiked.objective < 100.0
    assert score(autocorrelation_second, [5e-324, 0.0, 5e-324]).objective <= 1.0


@pytest.mark.parametrize("heights", [[1.0, -1e-300], [0.0, 0.0], [-1.0, 2.0]])
def test_heights_below_zero_or_all_zero_do_not_count(heights):
    for module in EVALUATORS[:2]:
        with pytest.raises(Infeasible, match="heights: expected none below 0"):
            score(module, heights)


def test_an_integral_next_to_nothing_does_not_count():
    with pytest.raises(Infeasible, match=r"at most 1e\+300"):
        score(autocorrelation_third, [1.0, -1.0, 5e-324])


def test_signed_heights_need_an_integral():
    with pytest.raises(Infeasible, match="integral other than 0"):
        score(autocorrelation_third, [1.0, -1.0])


def test_half_everywhere_overlaps_by_a_half():
    assert score(erdos_min_overlap, [0.5] * 8).objective == 0.5


def test_a_bump_overlaps_with_what_it_leaves():
    # Shifted by one step, one of the two steps of height 1 meets a step of height 0.
    result = score(erdos_min_overlap, [0, 1, 1, 0])
    assert result.objective == 0.5
    assert result.metrics["sum_defect"] == 0.0
    assert result.measures == {"edge_share": 1.0, "asymmetry": 0.0}


@pytest.mark.parametrize("extra", [2.0**-30, -(2.0**-30)])
def test_a_sum_that_is_off_is_repaired_exactly(extra):
    heights, defect = erdos_min_overlap.repair_sum([Fraction(h) for h in (0.5, 0.25, 0.75 + extra)])
    assert defect == Fraction(extra)
    assert sum(heights) == Fraction(3, 2)
    assert all(0 <= height <= 1 for height in heights)


@pytest.mark.parametrize("heights", [[0.5, 0.5 + 1e-5], [0.0, 0.0], [1.0, 1.0]])
def test_a_sum_that_is_off_by_more_does_not_count(heights):
    with pytest.raises(Infeasible, match="heights: expected the sum"):
        score(erdos_min_overlap, heights)


@pytest.mark.parametrize("heights", [[1.0 + 1e-15, 0.0], [-1e-300, 1.0]])
def test_heights_beyond_their_range_do_not_count(heights):
    with pytest.raises(Infeasible, match="from 0 to 1"):
        score(erdos_min_overlap, heights)
