from fractions import Fraction

import pytest
from polynomials import find_last_sign_change
from uncertainty_inequality import combine, evaluate, hermite

from evolve.scoring import Infeasible
from tests.direct_program import reply_with


def expand(*roots):
    product = [Fraction(1)]
    for root in roots:
        product = [
            low - Fraction(root) * high
            for low, high in zip([Fraction(0), *product], [*product, Fraction(0)], strict=True)
        ]
    return product


def test_hermite_polynomials_are_the_physicists_ones():
    assert hermite(4) == [12, 0, -48, 0, 16]
    assert hermite(8)[0] == 1680


@pytest.mark.parametrize(
    ("roots", "last"),
    [
        ((1, 2, 3), 3),
        ((1, 3, 3), 1),
        ((1, 3, 3, 3), 3),
        ((-5, Fraction(1, 7), 2, 2, 4, 4), Fraction(1, 7)),
        ((-1, -2), None),
        ((2, 2), None),
        ((Fraction(1), Fraction(1) + Fraction(1, 10**30)), Fraction(1) + Fraction(1, 10**30)),
    ],
)
def test_the_last_change_of_sign_is_isolated_exactly(roots, last):
    found = find_last_sign_change(expand(*roots))
    if last is None:
        assert found is None
    else:
        assert found is not None
        assert 0 <= found - last < Fraction(1, 2**119)


def test_the_combination_vanishes_at_zero():
    polynomial = combine([Fraction(1, 3), Fraction(-2)])
    at_zero = [part[0] for part in (hermite(0), hermite(4), hermite(8))]
    last = -(at_zero[0] * Fraction(1, 3) - 2 * at_zero[1]) / at_zero[2]
    assert polynomial[-1] == last * 256


def test_the_published_factors_give_the_published_value():
    # Goncalves, Oliveira e Silva and Steinerberger 2017, as given by AlphaEvolve's results.
    score = evaluate(reply_with([-1.13, 0.04, 1.0 / 3240.0]), count=3)
    assert score.objective == pytest.approx(0.35229556248234001, abs=1e-16)


def test_scaling_changes_nothing():
    values = [
        evaluate(reply_with([s * 1.0, s * -0.03]), count=2).objective for s in (1, -4, 2**-20)
    ]
    assert len(set(values)) == 1


def test_no_factors_do_not_count():
    with pytest.raises(Infeasible, match="one of them to differ from 0"):
        evaluate(reply_with([0.0, 0.0]), count=2)
