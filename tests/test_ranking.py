import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive.ranking import Ranking, dense_ranks

values = st.integers(-3, 3).map(float)
steps = st.lists(st.lists(st.tuples(st.integers(0, 60), values), max_size=6), max_size=8)


@given(st.lists(values, min_size=1, max_size=60), steps, st.sampled_from([1.0, -1.0]))
def test_the_order_is_that_of_a_stable_sort_whatever_changed_before(start, changes, sign):
    objectives = np.array(start)
    ranking = Ranking(sign)
    ranking.forget()
    for step in changes:
        for at, value in step:
            if at >= len(objectives):
                objectives = np.append(objectives, value)
            position = min(at, len(objectives) - 1)
            objectives[position] = value
            ranking.change(position)
        expected = np.argsort(-sign * objectives, kind="stable")
        assert ranking.order(objectives).tolist() == expected.tolist()


def test_equal_values_share_a_rank():
    assert dense_ranks(np.array([5.0, 3.0, 3.0, 1.0])).tolist() == [0, 1, 1, 2]
    assert dense_ranks(np.array([])).tolist() == []
