import itertools

import numpy as np
import pytest
from cap_set import build_cap_set, evaluate, list_vectors

from evolve.scoring import Infeasible
from tests.direct_program import DirectProgram


def is_cap_set(cap):
    return all(
        any((a + b + c) % 3 for a, b, c in zip(*lines, strict=True))
        for lines in itertools.combinations(cap.tolist(), 3)
    )


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_equal_priorities_give_all_vectors_without_a_two(n):
    score = evaluate(DirectProgram(priority=lambda _vector, _n: 0), dimensions=n)
    assert score.objective == 2.0**n


@pytest.mark.parametrize("seed", range(4))
def test_any_priorities_give_a_cap_set_that_cannot_grow(seed):
    vectors = list_vectors(3)
    chosen = build_cap_set(vectors, np.random.default_rng(seed).random(27))
    assert is_cap_set(vectors[chosen])
    assert 8 <= len(chosen) <= 9
    for other in set(range(27)) - set(chosen):
        assert not is_cap_set(vectors[[*chosen, other]])


def test_a_cap_set_that_is_asked_for_is_built():
    # One of the largest in three dimensions, found by random priorities.
    wanted = ["000", "010", "021", "101", "111", "122", "200", "210", "221"]

    def priority(vector, n):
        return float("".join(map(str, vector)) in wanted)

    score = evaluate(DirectProgram(priority=priority), dimensions=3)
    assert score.objective == 9.0


@pytest.mark.parametrize("value", [None, "1", float("nan"), float("inf"), True, [1.0]])
def test_priorities_are_checked_strictly(value):
    with pytest.raises(Infeasible, match=r"^priority\[0\]"):
        evaluate(DirectProgram(priority=lambda _vector, _n: value), dimensions=2)
