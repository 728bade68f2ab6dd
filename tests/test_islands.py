import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive import Elite
from evolve.islands import Islands
from evolve.measures import Measure
from evolve.records import AttemptKey, Direction
from evolve.settings import SearchSettings

AXES = (Measure("x", 0.0, 10.0, 10),)


def make_elite(number: int, objective: float, x: float, island: int = 0) -> Elite:
    return Elite(AttemptKey(number, 0, 0), f"p{number}", objective, (x,), island, 0, None)


def make_islands(count: int, *, migrants: int = 2, inspirations: int = 2) -> Islands:
    settings = SearchSettings(islands=count, migrants=migrants, inspirations=inspirations)
    return Islands(AXES, Direction.MAXIMIZE, settings)


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 99), st.floats(0, 10)), min_size=1),
)
def test_migration_copies_the_best_and_takes_no_elite_away(count, offers):
    islands = make_islands(count)
    islands.seed(make_elite(0, -1.0, 5.0))
    for number, (island, objective, x) in enumerate(offers, 1):
        islands.add(island % count, make_elite(number, objective, x, island % count))
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
    islands = make_islands(3, migrants=1)
    islands.seed(make_elite(0, 0.0, 1.0))
    islands.add(0, make_elite(7, 9.0, 2.0))
    islands.migrate()
    held = [any(e.program_id == "p7" for e in archive.elites) for archive in islands.archives]
    assert held == [True, True, False]


def test_inspirations_differ_from_the_parent_and_from_each_other():
    islands = make_islands(2, inspirations=3)
    for number in range(8):
        islands.add(number % 2, make_elite(number, float(number), float(number), number % 2))
    slots = [(number % 2, np.random.default_rng([1, number])) for number in range(40)]
    for choice in islands.choose(slots, []):
        shown = [choice.parent.program_id, *(e.program_id for e in choice.inspirations)]
        assert len(set(shown)) == len(shown) == 4


def test_a_lone_elite_is_chosen_without_inspirations():
    islands = make_islands(2)
    islands.seed(make_elite(0, 1.0, 1.0))
    (choice,) = islands.choose([(1, np.random.default_rng(0))], [])
    assert (choice.parent.program_id, choice.inspirations) == ("p0", ())


def test_islands_take_turns():
    islands = make_islands(3)
    assert [islands.island_of(1, slot, 4) for slot in range(4)] == [1, 2, 0, 1]
