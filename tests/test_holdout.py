import json
import re

import pytest

from tests.commands import EVALUATOR, PROBLEM, run_evolve, run_json, write_problem

# Each evaluation on the hold-out leaves a line: the evaluator is trusted and may write.
HOLDOUT = """

def held_out(program):
    with open(LOG, "a") as log:
        log.write("asked\\n")
    first, _ = as_floats(program.call("point"), (2,), where="point")
    return Score(4321.0 + first, metrics={"first": first})
"""


@pytest.fixture
def problem(tmp_path):
    log = tmp_path / "asked"
    evaluator = f"LOG = {str(log)!r}\n{EVALUATOR}{HOLDOUT}"
    write_problem(
        tmp_path / "valley", evaluator=evaluator, toml='holdout = "held_out"\n' + PROBLEM.lstrip()
    )
    return tmp_path


def test_the_champion_and_the_start_are_scored_on_the_hold_out_once_each(problem):
    done = run_evolve("run", "valley", "--generations", "2", "--run-dir", "r", cwd=problem)
    assert re.search(
        r"^hold-out: champion 43\d\d\.?\d*, starting program 4322 ", done.stdout, re.MULTILINE
    )
    state = run_json("show", "r", cwd=problem)
    assert state["initial"]["holdout"]["objective"] == 4322.0
    first = state["champion"]["holdout"]["metrics"]["first"]
    assert state["champion"]["holdout"]["objective"] == 4321.0 + first
    assert "hold-out" in run_evolve("show", "r", cwd=problem).stdout
    assert state["evaluations"] == sum(state["outcomes"].values()) - state["outcomes"].get(
        "rejected", 0
    )
    run_evolve("resume", "r", "--generations", "2", cwd=problem)
    programs = {state["champion"]["id"], run_json("lineage", "r", cwd=problem)[0]["id"]}
    assert (problem / "asked").read_text().count("asked") == len(programs)


def test_nothing_of_the_hold_out_reaches_a_model(problem):
    run_evolve(
        "run", "valley", "--generations", "3", "--model", "scripted", "--run-dir", "r", cwd=problem
    )
    run_evolve("export", "r", "--output", "out", cwd=problem)
    lines = [json.loads(line) for line in (problem / "out/run.jsonl").read_text().splitlines()]
    calls = [line for line in lines if "request" in line]
    assert calls
    assert not any("432" in json.dumps(line["request"]) for line in calls)


def test_a_hold_out_that_is_missing_is_named(problem):
    toml = problem / "valley/problem.toml"
    toml.write_text(toml.read_text().replace("held_out", "nowhere"))
    done = run_evolve("check", "valley", cwd=problem, code=2)
    assert "expected a function `nowhere(program, ...)`" in done.stderr
