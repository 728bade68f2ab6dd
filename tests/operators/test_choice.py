from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.operators import OPERATORS, OperatorStats, Tally, choose_operator

NAMES = tuple(OPERATORS)


def record_many(stats: OperatorStats, name: str, *, uses: int, improved: bool) -> OperatorStats:
    for _ in range(uses):
        stats = stats.record(name, improved=improved, accepted=improved)
    return stats


def test_without_experience_all_operators_are_alike() -> None:
    chances = OperatorStats().probabilities()
    assert tuple(chances) == NAMES
    assert list(chances.values()) == pytest.approx([1.0 / len(NAMES)] * len(NAMES))


def test_what_pays_is_chosen_more_often_and_nothing_is_forgotten() -> None:
    stats = record_many(OperatorStats(), NAMES[0], uses=50, improved=True)
    for name in NAMES[1:]:
        stats = record_many(stats, name, uses=50, improved=False)
    rng = np.random.default_rng(0)
    counts = Counter(choose_operator(stats, rng) for _ in range(2000))
    assert counts[NAMES[0]] > 1000
    assert set(counts) == set(NAMES)


def test_better_than_the_parent_counts_more_than_a_new_cell() -> None:
    improved = OperatorStats().record("a", improved=True, accepted=True).tallies["a"]
    accepted = OperatorStats().record("a", improved=False, accepted=True).tallies["a"]
    failed = OperatorStats().record("a", improved=False, accepted=False).tallies["a"]
    assert improved.quality > accepted.quality > failed.quality


def test_old_rewards_fade() -> None:
    early = record_many(OperatorStats(), "a", uses=5, improved=True)
    late = record_many(early, "a", uses=200, improved=False)
    assert late.tallies["a"].quality < 0.05
    assert (late.tallies["a"].uses, late.tallies["a"].improvements) == (205, 5)


def test_recording_leaves_the_former_statistics_alone() -> None:
    before = OperatorStats()
    before.record("a", improved=True, accepted=True)
    assert before.tallies == {}
    assert before.record("a", improved=True, accepted=True).tallies["a"] == Tally(1, 1, 1.0, 1.0)


def test_names_of_former_versions_do_no_harm() -> None:
    stats = OperatorStats().record("forgotten", improved=True, accepted=True)
    assert choose_operator(stats, np.random.default_rng(0)) in OPERATORS


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.booleans(), st.booleans()), max_size=60))
def test_chances_add_up_and_keep_a_floor(uses: list[tuple[str, bool, bool]]) -> None:
    stats = OperatorStats()
    for name, improved, accepted in uses:
        stats = stats.record(name, improved=improved, accepted=accepted)
    chances = stats.probabilities()
    assert sum(chances.values()) == pytest.approx(1.0)
    assert min(chances.values()) > 0.2 / len(NAMES)
