from hypothesis import given
from hypothesis import strategies as st

from evolve.archive.islands import Islands
from evolve.problem import Measure
from evolve.records import Direction
from evolve.settings.sections import SearchSettings
from tests.builders import make_elite

AXES = (Measure("x", 0.0, 10.0, 10),)


def make_islands(count: int, **changes) -> Islands:
    settings = SearchSettings(islands=count, **changes)
    return Islands(AXES, Direction.MAXIMIZE, settings)


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99), st.floats(0, 10)), min_size=1),
)
def test_migration_copies_the_best_and_takes_no_elite_away(count, offers):
    islands = make_islands(count)
    islands.seed(make_elite(0, -1.0, 5.0))
    for number, (island, objective, x) in enumerate(offers, 1):
        islands.add(island % count, make_elite(number, objective, x, island=island % count))
    before = [{e.program_id for e in archive.elites} for archive in islands.archives]
    best = [archive.best for archive in islands.archives]
    islands.migrate()
    for island, archive in enumerate(islands.archives):
        assert {e.program_id for e in archive.elites} <= before[island] | before[island - 1]
        assert archive.best is not None
        assert archive.best.objective >= max(best[island].objective, best[island - 1].objective)


def test_migrants_keep_their_origin():
    islands = make_islands(3)
    islands.seed(make_elite(0, 0.0, 1.0))
    islands.add(1, make_elite(7, 9.0, 2.0, island=1))
    islands.migrate()
    assert [elite.origin for elite in islands.archives[2].elites] == [0, 1]


def test_no_migrant_travels_twice_at_a_time():
    islands = make_islands(3)
    islands.seed(make_elite(0, 0.0, 1.0))
    islands.add(0, make_elite(7, 9.0, 2.0))
    islands.migrate()
    held = [any(e.program_id == "p7" for e in archive.elites) for archive in islands.archives]
    assert held == [True, True, False]


def test_a_lone_island_sends_nobody_away():
    islands = make_islands(1)
    islands.seed(make_elite(0, 0.0, 1.0))
    assert islands.migrate() == 0


def test_the_weakest_island_begins_again_with_the_start_and_the_best_across_the_ring():
    islands = make_islands(4)
    start = make_elite(0, 0.0, 1.0)
    islands.seed(start)
    for island in range(4):
        islands.add(island, make_elite(island + 1, 5.0 - island, 2.0 + island, island=island))
    islands.archives[3].out_of_range = 7
    assert islands.restart_weakest(start) == 3
    assert {elite.program_id for elite in islands.archives[3].elites} == {"p0", "p2"}
    assert islands.archives[3].out_of_range == 7
    assert make_islands(1).restart_weakest(start) is None


@given(
    st.integers(2, 5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99), st.floats(0, 10)), min_size=1),
)
def test_a_restart_never_loses_the_best(count, offers):
    islands = make_islands(count)
    start = make_elite(0, -1.0, 5.0)
    islands.seed(start)
    for number, (island, objective, x) in enumerate(offers, 1):
        islands.add(island % count, make_elite(number, objective, x, island=island % count))
    best = max(archive.best.objective for archive in islands.archives)
    islands.restart_weakest(start)
    assert max(archive.best.objective for archive in islands.archives) == best
