import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.errors import UsageError
from evolve.report.figures import draw_comparison
from evolve.search.curves import Trace, bootstrap, compare
from tests.commands import run_evolve, run_json


def make_trace(run, best, *, problem="valley", **settings) -> Trace:
    counts = np.arange(len(best)) * 10.0
    return Trace(
        run, problem, "maximize",
        {"search.strategy": "map-elites", "search.islands": 4, "loop.seed": run, **settings},
        {"evaluations": counts + 1, "calls": counts * 0, "tokens": counts * 0,
         "money": counts * 0, "seconds": counts},
        np.array(best, dtype=float),
    )  # fmt: skip


def test_runs_that_differ_in_their_seed_alone_are_one_group():
    groups = compare([make_trace(str(seed), [seed, seed + 1]) for seed in range(5)])
    assert [(group.name, len(group.traces)) for group in groups] == [("map-elites", 5)]
    curve = groups[0].curves["evaluations"]
    assert (curve.median[0], curve.median[-1]) == (2.0, 3.0)
    assert curve.low[-1] <= 3.0 <= curve.high[-1]
    assert "calls" not in groups[0].curves


def test_groups_are_named_by_what_sets_them_apart():
    traces = [
        make_trace("a", [1, 2], **{"search.entropy": 0.7}),
        make_trace("b", [1, 2], **{"search.entropy": 1.0, "budget.target": 3.0}),
        make_trace("c", [1, 2], **{"search.entropy": 0.7, "search.strategy": "random",
                                   "search.islands": 1}),
    ]  # fmt: skip
    names = [group.name for group in compare(traces)]
    assert names == ["map-elites entropy=0.7", "map-elites entropy=1.0", "random entropy=0.7"]


def test_a_run_that_ended_early_keeps_what_it_reached():
    short, long = make_trace("a", [0, 5]), make_trace("b", [0, 1, 2, 3, 9])
    counts = np.array([0.0, 1.0, 10.0, 11.0, 35.0, 500.0])
    assert short.at("evaluations", counts).tolist() == [0, 0, 0, 5, 5, 5]
    (group,) = compare([short, long])
    assert group.curves["evaluations"].median[-1] == 7.0


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12))
def test_the_interval_holds_the_median_and_stays_within_the_values(values):
    low, high = bootstrap(np.array(values)[:, None])
    assert min(values) <= low[0] <= np.median(values) + 1e-9
    assert np.median(values) - 1e-9 <= high[0] <= max(values)


def test_the_interval_covers_the_true_median_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    low, high = bootstrap(rng.normal(size=(15, 400)))
    assert 0.88 < np.mean((low <= 0.0) & (high >= 0.0)) < 0.99


def test_runs_of_different_problems_are_not_compared():
    with pytest.raises(UsageError, match=r"expected runs of one problem, got .*: hill, valley"):
        compare([make_trace("a", [1]), make_trace("b", [1], problem="hill")])


def test_the_picture_has_a_panel_for_each_axis_and_a_name_for_each_group():
    groups = compare([make_trace(name, [1, 2], **{"models.model": name}) for name in ("<x>", "y")])
    root = ET.fromstring(draw_comparison(groups))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"evaluations", "seconds"} <= set(texts)
    assert "map-elites models.model=<x>, 1 runs" in texts


def test_the_command_prints_and_writes(tmp_path, problem):
    for number, strategy in enumerate(["map-elites", "map-elites", "best-of-n"]):
        run_evolve("run", problem, "--strategy", strategy, "--seed", number, "--generations", 2,
                   "--run-dir", f"r{number}", cwd=tmp_path)  # fmt: skip
    runs = ["r0", "r1", "r2"]
    out = run_evolve("compare", *runs, "--output", "c.svg", cwd=tmp_path).stdout
    assert "map-elites (2)" in out
    assert "best-of-n (1)" in out
    assert "evaluations" in out
    assert "seconds" in out
    ET.fromstring((tmp_path / "c.svg").read_text())
    described = run_json("compare", *runs, cwd=tmp_path)
    assert [group["runs"] for group in described] == [["r0", "r1"], ["r2"]]
    champion = run_json("show", "r2", cwd=tmp_path)["champion"]["objective"]
    assert described[1]["curves"]["evaluations"]["median"][-1] == champion
    for wrong, words in [
        (("--output", "c.png"), "expected a file that ends in .svg"),
        (("nowhere",), "expected a run folder"),
    ]:
        assert words in run_evolve("compare", *runs, *wrong, cwd=tmp_path, code=2).stderr
