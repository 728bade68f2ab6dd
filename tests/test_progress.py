import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive.progress import is_progress, outranks

numbers = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("new", "old", "noise", "wins"),
    [
        ((2.0, ()), (1.0, ()), 0.0, True),
        ((1.0, ()), (1.0, ()), 0.0, False),
        ((1.05, ()), (1.0, ()), 0.1, False),
        ((1.2, ()), (1.0, ()), 0.1, True),
        # Better on the mean by one lucky instance.
        ((2.0, (1.0, 1.0, 4.0)), (1.9, (1.1, 1.1, 3.5)), 0.0, False),
        # Better by little, and on every instance.
        ((1.1, (1.1, 2.1, 9.1)), (1.0, (1.0, 2.0, 9.0)), 0.0, True),
        # The objective leaves validation instances out, on which it is worse.
        ((2.0, (2.0, 2.0, -5.0)), (1.0, (1.0, 1.0, 1.0)), 0.0, False),
    ],
)
def test_a_champion_is_replaced_beyond_noise(new, old, noise, wins):
    assert outranks(1.0, new, old, noise) is wins
    flipped = [
        (-objective, tuple(-one for one in instances)) for objective, instances in (new, old)
    ]
    assert outranks(-1.0, *flipped, noise) is wins


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30))
def test_no_two_programs_outrank_each_other(pairs):
    one, other = (tuple(column) for column in zip(*pairs, strict=True))
    ranked = [outranks(1.0, (0.0, a), (0.0, b), 0.0) for a, b in ((one, other), (other, one))]
    assert not all(ranked)


def test_rounding_is_no_progress():
    assert is_progress(0.1, 1.0)
    assert is_progress(1e-9, 0.0)
    assert not is_progress(1e-7, 1.0)
    assert not is_progress(0.0, 0.0)
