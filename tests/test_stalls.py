import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.archive.stalls import StallDetector, StallLevel, rank_shift
from tests.commands import run_evolve, run_json
from tests.searches import Searches, archives_of


def tell_all(detector, utilities, *, generation=1, leads=False) -> list[StallLevel]:
    levels = []
    for number, utility in enumerate(utilities, generation):
        detector.tell(utility, leads=leads)
        response = detector.decide(number, number)
        if response is not None:
            levels.append(response.level)
    return levels


def test_responses_come_in_order_and_begin_again_after_a_restart():
    detector = StallDetector(4, StallLevel.RESTART)
    assert tell_all(detector, [1.0] * 24) == [
        StallLevel.ENTROPY,
        StallLevel.OPERATORS,
        StallLevel.LEAP,
        StallLevel.RESTART,
        StallLevel.ENTROPY,
        StallLevel.OPERATORS,
        StallLevel.LEAP,
    ]


def test_a_new_champion_ends_a_stall():
    detector = StallDetector(3, StallLevel.RESTART)
    tell_all(detector, [1.0] * 8)
    detector.tell(1.1, leads=True)
    response = detector.decide(9, 9)
    assert (response.level, response.action) == (StallLevel.NONE, "progress again")
    assert detector.dull == 0


def test_the_highest_level_is_reached_once():
    detector = StallDetector(2, StallLevel.LEAP)
    assert tell_all(detector, [1.0] * 40)[-1] is StallLevel.LEAP
    assert len(detector.responses) == 3


def test_attempts_that_rise_are_no_stall():
    detector = StallDetector(10, StallLevel.RESTART)
    assert tell_all(detector, [float(number) for number in range(60)]) == [StallLevel.ENTROPY]
    assert tell_all(detector, [60.0] * 60, generation=60) != []


def test_tiny_gains_near_a_bound_are_progress():
    detector = StallDetector(5, StallLevel.RESTART)
    gains = [1.0 - 10.0**-number for number in range(1, 15)]
    assert tell_all(detector, gains, leads=True) == []


def test_a_window_of_nothing_sees_no_stall():
    assert tell_all(StallDetector(0, StallLevel.RESTART), [1.0] * 50) == []


samples = st.lists(st.integers(-50, 50), min_size=2, max_size=20)


@given(samples, samples)
def test_the_shift_depends_on_ranks_alone(before, after):
    def warp(values) -> list[float]:
        return [math.exp(value / 9.0) for value in values]

    plain = rank_shift(list(map(float, before)), list(map(float, after)))
    assert rank_shift(warp(before), warp(after)) == plain
    assert rank_shift(after, before) == pytest.approx(-rank_shift(before, after))


def test_failures_rank_below_everything():
    failed = [-math.inf] * 8
    assert rank_shift(failed, [-1e300] * 8) > 3.0
    assert rank_shift(failed, failed) == 0.0


@given(st.lists(st.floats(-5, 5), max_size=40), st.integers(1, 6))
def test_a_restored_detector_goes_on_like_the_one_that_was_dumped(utilities, window):
    first = StallDetector(window, StallLevel.RESTART)
    tell_all(first, utilities)
    second = StallDetector(window, StallLevel.RESTART)
    second.restore(json.loads(json.dumps(first.dump())))
    assert tell_all(first, [1.0] * 20) == tell_all(second, [1.0] * 20)
    assert first.responses == second.responses


@pytest.fixture(scope="module")
def stalled(tmp_path_factory):
    searches = Searches(tmp_path_factory.mktemp("stalled"), search__stall_after=12)
    whole = searches.run("r", 24, evaluate=lambda p: searches.verdict(p, 1.0, first=0.0))
    return searches, whole


def test_a_search_without_progress_goes_through_all_responses_and_replays(stalled):
    searches, whole = stalled
    assert [response.level for response in whole.stalls.responses][:5] == [1, 2, 3, 4, 1]
    restarted = [item.island for item in whole.stalls.responses if item.island is not None]
    assert restarted
    assert whole.entropy == pytest.approx(0.65)
    assert searches.replay("r") == []


def test_leaps_are_marked_and_change_more_than_one_place(stalled):
    searches, whole = stalled
    from contextlib import closing

    from evolve.store import Store

    with closing(Store.open_to_read(searches.folder / "r")) as store:
        plans = [store.load_attempt(item.key).plan for item in store.light_attempts(1)]
    leaps = [plan for plan in plans if "leap" in plan.tags]
    assert 0 < len(leaps) < len(plans) / 2
    assert all(" then " in plan.change for plan in leaps)
    assert not any("+" in name for name in whole.operators.tallies)


def test_a_stalled_search_does_not_depend_on_the_number_of_threads(stalled):
    searches, whole = stalled
    again = searches.run(
        "again", 24, threads=6, delays=[0.0, 0.002],
        evaluate=lambda p: searches.verdict(p, 1.0, first=0.0),
    )  # fmt: skip
    assert archives_of(again) == archives_of(whole)
    assert again.stalls.responses == whole.stalls.responses


def test_stalls_can_be_switched_off_and_baselines_have_none(stalled):
    searches, _ = stalled
    for name, changes in [
        ("off", {"search__stall_after": 0}),
        ("base", {"search__strategy": "hill-climb"}),
    ]:
        found = searches.run(
            name, 6, evaluate=lambda p: searches.verdict(p, 1.0, first=0.0), **changes
        )
        assert found.stalls.responses == []


def test_show_and_log_tell_what_was_done(tmp_path, problem):
    run_evolve("run", problem, "--generations", 8, "--run-dir", "r", "--set",
               "search.stall_after=6", cwd=tmp_path)  # fmt: skip
    stalls = run_json("show", "r", cwd=tmp_path)["stalls"]
    assert stalls["window"] == 6
    out = run_evolve("log", "r", "--json", cwd=tmp_path).stdout
    lines = [json.loads(line) for line in out.splitlines()]
    logged = [line for line in lines if line["kind"] == "stall"]
    assert [line["level"] for line in logged] == [item["level"] for item in stalls["responses"]]
    assert logged
    assert logged[0]["action"] == "entropy target raised"
    assert "stalls       level" in run_evolve("show", "r", cwd=tmp_path).stdout
