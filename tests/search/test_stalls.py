import json
from contextlib import closing

import pytest

from evolve.search.schedule import StallWatch
from evolve.store import Store
from tests.commands import run_evolve, run_json
from tests.searches import Searches, archives_of


def levels_of(watch: StallWatch, attempts) -> list[int]:
    levels = []
    for number, is_progress in enumerate(attempts):
        watch.record(is_progress=is_progress)
        watch.end_generation(number, number + 1)
        levels.append(watch.level)
    return levels


def test_a_stall_is_answered_in_steps_and_ends_with_progress():
    watch = StallWatch(2)
    assert levels_of(watch, [False] * 7 + [True]) == [0, 1, 1, 1, 1, 2, 2, 0]
    assert [(event.generation, event.action) for event in watch.events] == [
        (1, "parents are drawn more evenly"),
        (5, "some slots leap to a new formulation"),
        (7, "progress again"),
    ]


def test_a_window_of_nothing_sees_no_stall():
    watch = StallWatch(0)
    assert not any(levels_of(watch, [False] * 50))


@pytest.fixture(scope="module")
def stalled(tmp_path_factory):
    searches = Searches(tmp_path_factory.mktemp("stalled"), search__stall_after=12)
    whole = searches.run("r", 24, evaluate=lambda p: searches.verdict(p, 1.0, first=0.0))
    return searches, whole


def test_a_search_without_progress_leaps_and_replays(stalled):
    searches, whole = stalled
    events = whole.stalls.events
    assert [event.action for event in events] == [
        "parents are drawn more evenly",
        "some slots leap to a new formulation",
    ]
    assert whole.entropy == pytest.approx(0.65)
    assert searches.replay("r") == []


def test_leaps_are_marked_and_change_more_than_one_place(stalled):
    searches, _ = stalled
    with closing(Store.open_to_read(searches.folder / "r")) as store:
        plans = [store.load_attempt(item.key).plan for item in store.light_attempts(1)]
    leaps = [plan for plan in plans if "leap" in plan.tags]
    assert 0 < len(leaps) < len(plans) / 2
    assert all(" then " in plan.change for plan in leaps)


def test_a_stalled_search_does_not_depend_on_the_number_of_threads(stalled):
    searches, whole = stalled
    again = searches.run(
        "again", 24, threads=6, delays=[0.0, 0.002],
        evaluate=lambda p: searches.verdict(p, 1.0, first=0.0),
    )  # fmt: skip
    assert archives_of(again) == archives_of(whole)
    assert again.stalls.events == whole.stalls.events


def test_stalls_can_be_switched_off_and_baselines_have_none(stalled):
    searches, _ = stalled
    for name, changes in [
        ("off", {"search__without": ("stalls",)}),
        ("base", {"search__strategy": "hill-climb"}),
    ]:
        found = searches.run(
            name, 6, evaluate=lambda p: searches.verdict(p, 1.0, first=0.0), **changes
        )
        assert found.stalls.events == []


def test_show_and_log_list_stalls(tmp_path, problem):
    run_evolve("run", problem, "--generations", 8, "--run-dir", "r", "--set",
               "search.stall_after=6", cwd=tmp_path)  # fmt: skip
    stalls = run_json("show", "r", cwd=tmp_path)["stalls"]
    assert stalls["window"] == 6
    out = run_evolve("log", "r", "--json", cwd=tmp_path).stdout
    lines = [json.loads(line) for line in out.splitlines()]
    logged = [line for line in lines if line["kind"] == "stall"]
    assert [line["action"] for line in logged] == [event["action"] for event in stalls["events"]]
    assert logged[0]["action"] == "parents are drawn more evenly"
    assert "evaluations without progress" in run_evolve("show", "r", cwd=tmp_path).stdout
