import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive.merit import Merit, is_progress, outranks

numbers = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("new", "old", "noise", "wins"),
    [
        (Merit(2.0), Merit(1.0), 0.0, True),
        (Merit(1.0), Merit(1.0), 0.0, False),
        (Merit(1.05), Merit(1.0), 0.1, False),
        (Merit(1.2), Merit(1.0), 0.1, True),
        # Better on the mean by one lucky instance.
        (Merit(2.0, (1.0, 1.0, 4.0)), Merit(1.9, (1.1, 1.1, 3.5)), 0.0, False),
        # Better by little, and on every instance.
        (Merit(1.1, (1.1, 2.1, 9.1)), Merit(1.0, (1.0, 2.0, 9.0)), 0.0, True),
        # Fitted to the instances, and worse on those that the objective leaves out.
        (Merit(5.0, (5.0, 5.0, 5.1), (0.9,)), Merit(1.0, (1.0, 1.0, 1.0), (1.0,)), 0.0, False),
        (Merit(5.0, (5.0, 5.0, 5.1), (1.0,)), Merit(1.0, (1.0, 1.0, 1.0), (1.0,)), 0.0, True),
    ],
)
def test_a_champion_is_replaced_beyond_noise(new, old, noise, wins):
    assert outranks(1.0, new, old, noise) is wins
    flip = [
        Merit(-one.objective, [-x for x in one.instances], [-x for x in one.validation])
        for one in (new, old)
    ]
    assert outranks(-1.0, *flip, noise) is wins


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30), st.integers(0, 5))
def test_no_two_programs_outrank_each_other(pairs, kept):
    one, other = (
        Merit(0.0, column[kept:], column[:kept]) for column in map(list, zip(*pairs, strict=True))
    )
    assert not (outranks(1.0, one, other, 0.0) and outranks(1.0, other, one, 0.0))


def test_rounding_is_no_progress():
    assert is_progress(0.1, 1.0)
    assert is_progress(1e-9, 0.0)
    assert not is_progress(1e-7, 1.0)
    assert not is_progress(0.0, 0.0)
