"""A run as it is shown while it goes on, and afterwards."""

import dataclasses
from contextlib import closing
from itertools import pairwise

import pytest

from evolve.records import AttemptKey
from evolve.report.live import _Follower
from evolve.report.progress import Cap, Progress, _Leader
from evolve.store import Store
from tests.builders import make_elite
from tests.searches import Searches

# What depends on when one looks, or on which of a generation's evaluations ended first.
MOMENTARY = {
    "curve",
    "improvements",
    "now",
    "seconds",
    "rate",
    "caps",
    "islands",
    "notes",
    "stopping",
    "seconds_to_stop",
}


def what_is_shown(progress: Progress) -> dict:
    shown = dataclasses.asdict(progress.reduce())
    # The reason is one of many that differ in numbers alone.
    shown["rejection"] = shown["rejection"] and shown["rejection"][1]
    return {name: value for name, value in shown.items() if name not in MOMENTARY}


@pytest.fixture
def searches(tmp_path) -> Searches:
    return Searches(tmp_path)


def test_what_is_taken_in_bit_by_bit_is_what_is_read_afterwards(searches):
    views = []

    def observe(store):
        views.append(Progress(store, searches.problem, searches.settings, dict))
        return views[-1]

    searches.run("r", 5)
    population = searches.run("r", 30, observe=observe, tuning__share=0.3)
    with closing(Store.open_to_read(searches.folder / "r")) as store:
        afterwards = Progress(store, searches.problem, searches.settings, dict)
    afterwards.on_commit(population, None)
    assert what_is_shown(views[0]) == what_is_shown(afterwards)
    shown = afterwards.reduce()
    assert shown.champion == population.champion.objective
    assert shown.evaluations >= population.evaluations
    assert sum(shown.outcomes.values()) > shown.evaluations
    assert {"tuning"} < {one.source for one in shown.improvements}
    assert all(one.gain > 0 and one.source and one.plan for one in shown.improvements)
    assert {"tune_constants"} < {one.name for one in shown.payoffs}


def test_whoever_follows_from_outside_takes_in_each_thing_once(searches):
    searches.run("r", 5)
    with closing(Store.open_to_read(searches.folder / "r")) as store:
        follower = _Follower(store, searches.problem, searches.settings)
        for generations in (6, 6, 20):
            searches.run("r", generations)
            follower.advance()
        afterwards = Progress(store, searches.problem, searches.settings, dict)
        afterwards.on_commit(follower.state, None)
        assert what_is_shown(follower.progress) == what_is_shown(afterwards)


def test_the_champion_moves_when_an_evaluation_finishes(searches):
    """And not when its generation is committed."""
    seen = []

    class View(Progress):
        def on_record(self, item):
            super().on_record(item)
            shown = self.reduce()
            seen.append((shown.champion, shown.generation, item.key.generation))

    problem, settings = searches.problem, searches.settings
    searches.run("r", 6, observe=lambda store: View(store, problem, settings, dict))
    champions = [champion for champion, _, _ in seen]
    assert champions == sorted(champions)
    moved = [
        (committed, generation)
        for (before, _, _), (after, committed, generation) in pairwise(seen)
        if after > before
    ]
    assert moved
    assert all(committed < generation for committed, generation in moved)


def test_of_two_within_the_noise_the_committed_champion_is_shown(searches):
    leader = _Leader(dataclasses.replace(searches.problem, noise=1.0))
    for slot, objective in ((0, -9.0), (2, -7.0), (1, -6.5)):
        leader.add(AttemptKey(1, slot, 0), objective, {}, 1)
    assert leader.objective == -7.0
    committed = make_elite(1, -6.5)
    leader.settle(committed, -9.0)
    assert (leader.objective, leader.curve[-1]) == (-6.5, (3.0, -6.5))
    # One that is in flight may be better beyond the noise.
    leader.add(AttemptKey(2, 0, 0), -3.0, {}, 1)
    leader.settle(committed, -9.0)
    assert leader.objective == -3.0


def test_the_archives_are_shown_as_heat_maps(searches):
    population = searches.run("r", 10)
    with closing(Store.open_to_read(searches.folder / "r")) as store:
        progress = Progress(store, searches.problem, searches.settings, dict)
    progress.on_commit(population, None)
    islands = progress.reduce().islands
    assert [one.elites for one in islands] == [len(one) for one in population.islands.archives]
    assert all(len(one.levels) == 1 and len(one.levels[0]) == 8 for one in islands)


def test_all_caps_are_listed_the_nearest_first(searches):
    settings = searches.with_(
        {"budget.max_evaluations": 40, "budget.max_seconds": 1e6, "budget.patience": 7000,
         "budget.max_calls": 5, "budget.max_cost_usd": 2.0, "loop.generations": 100}
    )  # fmt: skip
    seen = []

    class View(Progress):
        def on_commit(self, population, generation):
            super().on_commit(population, generation)
            seen.append(self.reduce().caps)

    searches.run("r", 4, observe=lambda store: View(store, searches.problem, settings, dict))
    first = seen[-1][0]
    assert (first.name, first.most) == ("max_evaluations", 40)
    assert 10 < first.used <= 40
    assert first.seconds_left is not None
    times = [cap.seconds_left for cap in seen[-1] if cap.seconds_left is not None]
    assert times == sorted(times)
    assert {cap.name for cap in seen[-1]} == {
        "generations", "max_seconds", "max_evaluations", "max_calls", "max_cost_usd", "patience",
    }  # fmt: skip


def test_a_cap_that_is_passed_or_nothing_is_full():
    assert Cap("max_calls", 7, 5, None).share == 1.0
    assert Cap("max_cost_usd", 0.0, 0.0, None).share == 1.0
