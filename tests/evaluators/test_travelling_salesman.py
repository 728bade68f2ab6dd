import numpy as np
import pytest
from instances import HOLDOUT, TRAINING, VALIDATION
from travelling_salesman import draw_cities, evaluate, improve, measure, nearest_neighbours, play
from travelling_salesman_references import REFERENCES

from evolve.scoring import Infeasible
from tests.direct_program import DirectProgram


def distances_of(cities):
    return np.hypot(*(cities[:, None] - cities).transpose(2, 0, 1))


def score(rule, rounds=2):
    return evaluate(DirectProgram(penalize=rule), rounds=rounds)


def test_cities_on_a_circle_are_visited_around_it():
    angles = np.random.default_rng(0).permutation(12) * np.pi / 6
    distances = distances_of(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    tour = improve(np.arange(12), distances)
    assert sorted(tour.tolist()) == list(range(12))
    assert measure(tour, distances) == pytest.approx(24 * np.sin(np.pi / 12))


@pytest.mark.parametrize("seed", range(5))
def test_no_exchange_and_no_move_improves_a_local_optimum(seed):
    distances = distances_of(np.random.default_rng(seed).random((9, 2)))
    tour = improve(nearest_neighbours(distances), distances)
    length = measure(tour, distances)
    for i in range(9):
        for j in range(i + 1, 10):
            turned = np.concatenate([tour[:i], tour[i:j][::-1], tour[j:]])
            assert measure(turned, distances) >= length - 1e-9
        rest = np.delete(tour, i)
        assert all(
            measure(np.insert(rest, k, tour[i]), distances) >= length - 1e-9 for k in range(9)
        )


def test_references_are_shorter_than_local_optima_and_drawn_for_these_cities():
    for split, at_least in ((TRAINING, 6), (VALIDATION, 3), (HOLDOUT, 16)):
        assert len(REFERENCES[split]) >= at_least
    distances = distances_of(draw_cities(HOLDOUT, 3))
    start = nearest_neighbours(distances)
    length = measure(improve(start, distances), distances)
    assert REFERENCES[HOLDOUT][3] < length < measure(start, distances)
    assert length < 1.12 * REFERENCES[HOLDOUT][3]


def test_raising_nothing_leaves_the_first_local_optimum():
    result = score(lambda lengths, _uses: -lengths)
    assert result.objective == result.metrics["first_excess"]
    assert result.measures["moved"] == 0.0


def test_raising_useful_edges_finds_shorter_tours():
    def rule(lengths, uses):
        gain = lengths / (1.0 + uses)
        return 0.3 * (gain >= np.sort(gain)[-10])

    assert score(rule, rounds=5).objective < 0.8 * score(rule, rounds=1).metrics["first_excess"]


def test_uses_count_how_often_an_edge_was_raised():
    game = play(draw_cities(TRAINING, 0), 2)
    lengths, uses = next(game)
    assert lengths.mean() == pytest.approx(1.0)
    assert not uses.any()
    _, uses = game.send(np.full(100, 1e-6))
    assert set(uses.tolist()) <= {0.0, 1.0}
    assert uses.any()


def test_huge_amounts_do_not_lead_in_circles():
    amounts = np.random.default_rng(0).random(100) * 1e6
    assert score(lambda _lengths, _uses: amounts).objective >= 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e7, True, "1"])
def test_amounts_are_checked_strictly(value):
    with pytest.raises(Infeasible, match=r"^penalize"):
        score(lambda lengths, _uses: [value] * len(lengths))
