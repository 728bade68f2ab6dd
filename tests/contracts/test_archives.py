"""What every kind of archive keeps to, and every rule that selects parents from one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive import Archive
from evolve.archive.archives import KINDS, FrontArchive
from evolve.archive.selection import RULES, make_lottery
from evolve.problem import Measure
from evolve.records import AttemptKey, Direction
from tests.builders import make_elite

AXES = (Measure("x", 0.0, 1.0, 4), Measure("y", 1.0, 1000.0, 3, "log"))
ARCHIVES = {
    **{
        f"{kind}, {direction.value}": lambda kind=kind, direction=direction: Archive(
            KINDS[kind](AXES), direction
        )
        for kind in KINDS
        for direction in Direction
    },
    "front": lambda: FrontArchive(KINDS["grid"](AXES), Direction.MAXIMIZE, [Direction.MINIMIZE]),
}
every_archive = pytest.mark.parametrize("make", ARCHIVES.values(), ids=ARCHIVES)
# The measures of some lie outside of their range.
offers = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.floats(-1, 2), st.floats(0, 2000)),
    max_size=30,
)


def make_elites(offered):
    return [
        make_elite(number, float(objective), x, y, others=(float(other),))
        for number, (objective, other, x, y) in enumerate(offered)
    ]


@every_archive
@given(offered=offers)
def test_an_elite_is_taken_as_announced_and_is_in_its_cell_then(make, offered):
    archive = make()
    for elite in make_elites(offered):
        cell = archive.space.cell_of(elite.measures)
        announced = archive.would_take(cell, elite.objective, elite.others)
        assert bool(archive.add(elite)) == announced
        assert (elite in archive.elites) == announced
        # What holds its place is at least as good.
        assert announced or not archive.would_take(cell, elite.objective, elite.others)


@every_archive
@given(offered=offers)
def test_its_columns_are_those_of_its_elites(make, offered):
    archive = make()
    for elite in make_elites(offered):
        archive.add(elite)
    elites = list(archive.elites)
    assert len(archive) == len(elites) == len(archive.cells) == len(archive.children)
    assert [archive.space.cell_of(elite.measures) for elite in elites] == list(archive.cells)
    assert archive.objectives.tolist() == [elite.objective for elite in elites]
    assert archive.coverage == len(set(archive.cells)) / archive.space.size


@every_archive
@given(offered=offers)
def test_the_best_of_all_that_was_offered_is_kept(make, offered):
    archive, elites = make(), make_elites(offered)
    for elite in elites:
        archive.add(elite)
    sign = archive.direction.sign
    best = max((sign * elite.objective for elite in elites), default=None)
    assert (None if archive.best is None else sign * archive.best.objective) == best


@every_archive
@given(offered=offers)
def test_ranks_begin_with_the_best_and_leave_nobody_out(make, offered):
    archive = make()
    for elite in make_elites(offered):
        archive.add(elite)
    order, ranks = archive.ranked()
    assert sorted(order) == list(range(len(archive)))
    assert (np.diff(ranks) >= 0).all()
    if len(archive):
        assert ranks[0] == 0
        assert archive.elites[order[0]].objective == archive.best.objective


@every_archive
def test_children_count_for_the_parent_also_when_it_becomes_an_elite_later(make):
    archive = make()
    worse, better = sorted((1, 2), reverse=archive.direction is Direction.MINIMIZE)
    first, second = make_elites([(worse, 1, 0.1, 2.0), (better, 0, 0.1, 2.0)])
    archive.add(first)
    for key in (first.key, second.key, second.key):
        archive.record_child(key)
    assert archive.children.tolist() == [1]
    assert archive.add(second)
    assert archive.children[archive.elites.index(second)] == 2
    archive.record_child(AttemptKey(9, 9, 9))
    assert archive.children[archive.elites.index(second)] == 2


every_rule = pytest.mark.parametrize("rule", RULES)


@every_archive
@every_rule
def test_nobody_is_selected_from_an_empty_archive(make, rule):
    with pytest.raises(ValueError, match="expected at least one elite to choose from, got none"):
        make_lottery(make(), rule, entropy=0.3)


@every_archive
@every_rule
@given(offered=offers, entropy=st.floats(0, 1), seed=st.integers(0, 9))
def test_chances_are_a_distribution_that_never_favours_the_worse(
    make, rule, offered, entropy, seed
):
    archive = make()
    for elite in make_elites([*offered, (1, 1, 0.5, 5.0)]):
        archive.add(elite)
    lottery = make_lottery(archive, rule, entropy=entropy)
    chances = lottery.probabilities
    assert chances.shape == (len(archive),)
    assert chances.sum() == pytest.approx(1.0)
    order, _ = archive.ranked()
    # Nobody has children here, so that rank alone decides.
    assert (np.diff(chances[order]) <= 1e-12).all()
    assert chances[lottery.draw(np.random.default_rng(seed))] > 0
