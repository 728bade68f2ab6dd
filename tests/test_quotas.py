from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive.quotas import SlotQuotas


def assign_all(quotas, slots, generations=40) -> Counter:
    counts = Counter()
    for generation in range(generations):
        counts.update(quotas.assign(generation, slots, np.random.default_rng([generation])))
    return counts


def test_in_turns_all_islands_get_the_same():
    assert SlotQuotas(3, by_progress=False).assign(1, 4, np.random.default_rng(0)) == [1, 2, 0, 1]


@given(st.integers(1, 6), st.integers(1, 20), st.integers(0, 5))
def test_every_island_keeps_half_of_its_even_share(islands, slots, favourite):
    quotas = SlotQuotas(islands, by_progress=True)
    for _ in range(100):
        quotas.record(favourite % islands, leads=True, taken=True)
    counts = assign_all(quotas, slots)
    assert counts.total() == 40 * slots
    assert min(counts[island] for island in range(islands)) >= 40 * slots / islands / 2 - 1


def test_an_island_that_improves_gets_more_until_it_stops():
    quotas = SlotQuotas(4, by_progress=True)
    for _ in range(50):
        for island in range(4):
            quotas.record(island, leads=island == 2, taken=island == 2)
    assert quotas.shares[2] > 3 * quotas.shares[0]
    assert assign_all(quotas, 16)[2] > 1.4 * 160
    for _ in range(300):
        quotas.record(2, leads=False, taken=False)
    assert quotas.shares[2] < 1.5 * quotas.shares[0]


def test_an_island_that_restarted_is_trusted_like_a_new_one():
    quotas = SlotQuotas(2, by_progress=True)
    for _ in range(50):
        quotas.record(0, leads=False, taken=False)
    quotas.forget(0)
    assert quotas.shares.tolist() == pytest.approx([0.5, 0.5])
