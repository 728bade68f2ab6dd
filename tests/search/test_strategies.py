"""Searches by each strategy, and with parts switched off."""

import json
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evolve.records import INITIAL
from evolve.settings.sections import STRATEGIES
from evolve.store import Store
from tests.commands import run_evolve, run_json, write_script
from tests.searches import Searches, archives_of


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    return Searches(tmp_path_factory.mktemp("searches"))


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_search_by_any_strategy_resumes_and_replays_exactly(searches, name):
    changes = {"search__strategy": name}
    whole = searches.run(f"whole-{name}", 8, threads=4, delays=[0.0, 0.002], **changes)
    searches.run(f"parts-{name}", 3, **changes)
    resumed = searches.run(f"parts-{name}", 8, **changes)
    assert archives_of(whole) == archives_of(resumed)
    assert whole.champion == resumed.champion
    assert searches.replay(f"parts-{name}", **changes) == []


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    delays=st.lists(st.sampled_from([0.0, 0.001, 0.004]), min_size=1, max_size=7),
    threads=st.integers(1, 16),
    lag=st.integers(0, 2),
)
def test_no_order_of_completion_changes_the_archives(searches, delays, threads, lag):
    with tempfile.TemporaryDirectory(dir=searches.folder) as folder:
        name = Path(folder).name
        found = searches.run(f"{name}/a", 5, threads=threads, delays=delays, loop__lag=lag)
        plain = searches.run(f"{name}/b", 5, loop__lag=lag)
    assert archives_of(found) == archives_of(plain)


def parents(searches, name) -> set:
    with closing(Store.open_to_read(searches.folder / name)) as store:
        return {attempt.parent for attempt in store.light_attempts(1)}


def test_best_of_n_starts_from_the_starting_program_every_time(searches):
    searches.run("best-of-n", 6, search__strategy="best-of-n")
    assert parents(searches, "best-of-n") == {INITIAL}


def test_hill_climbing_changes_the_champion_alone(searches):
    champions = []
    searches.run(
        "climb", 6, search__strategy="hill-climb", loop__lag=0, loop__slots=2,
        on_commit=lambda population: champions.append(population.champion.key),
    )  # fmt: skip
    assert parents(searches, "climb") <= set(champions)


def test_random_search_also_changes_programs_that_are_no_elites(searches):
    found = searches.run("random", 8, search__strategy="random", search__archive="single")
    elites = {elite.key for archive in found.islands.archives for elite in archive.elites}
    assert parents(searches, "random") - elites - {INITIAL}


def test_without_cells_each_island_keeps_one_elite(searches):
    found = searches.run("single", 6, search__archive="single")
    assert {len(archive) for archive in found.islands.archives} == {1}
    assert found.islands.archives[0].best.measures != ()


def test_programs_seen_before_are_rejected(tmp_path, problem):
    reply = "Base: 0.0.0\nChange: two\n\n```python\ndef point():\n    return [2.0, 1.0]\n```"
    script = write_script(tmp_path / "s.json", editor=[reply])
    run_evolve("run", problem, "--model", script, "--generations", 2, "--strategy", "best-of-n",
               "--set", "loop.slots=1", "--set", "loop.lag=0", "--run-dir", "r",
               cwd=tmp_path)  # fmt: skip
    rows = run_evolve("log", "r", "--json", cwd=tmp_path).stdout.splitlines()
    reasons = {one["attempt"]: one["reason"] for one in map(json.loads, rows)
               if one["kind"] == "attempt"}  # fmt: skip
    assert reasons["1.0.0"] == ""
    assert reasons["2.0.0"] == "the same program was evaluated before, by attempt 1.0.0"


def test_the_command_names_the_strategy_and_runs_baselines_on_one_island(tmp_path, problem):
    run_evolve("run", problem, "--strategy", "hill-climb", "--generations", 2, "--run-dir", "r",
               cwd=tmp_path)  # fmt: skip
    state = run_json("show", "r", cwd=tmp_path)
    assert (state["strategy"], len(state["islands"])) == ("hill-climb", 1)
    done = run_evolve("run", problem, "--strategy", "annealing", cwd=tmp_path, code=2)
    assert "`search.strategy`: expected one of map-elites, pareto" in done.stderr
