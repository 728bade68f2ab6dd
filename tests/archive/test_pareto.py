"""Parents that lead on some instance (`--strategy pareto`), and what prompts say of instances."""

import json

import pytest

from evolve.population import Population
from evolve.problem import load_problem
from evolve.records import AttemptKey, Status
from evolve.records.results import LightAttempt
from evolve.settings.sections import SearchSettings
from tests.commands import EVALUATOR, PROBLEM, run_evolve, run_json, write_problem

INSTANCES = """from evolve.scoring import Score, as_floats


def evaluate(program):
    first, second = as_floats(program.call("point"), (2,), where="point")
    errors = {"east": -((first - 3.0) ** 2), "south": -((second + 2.0) ** 2)}
    found = Score(sum(errors.values()) / 2, measures={"first": first}, instances=errors,
                  validation={"unseen": -abs(first)})
    return found
"""


def attempt(number, *instances, **others):
    values = dict(zip("abc", instances, strict=False)) | others
    return LightAttempt(
        key=AttemptKey(number, 0, 0), island=0, parent=AttemptKey(0, 0, 0) if number else None,
        depth=0, operator="", program_id=f"p{number}", fingerprint=f"f{number}", status=Status.OK,
        objective=sum(instances) / len(instances), measures={"first": 0.0}, metrics={},
        instances=values,
    )  # fmt: skip


def leaders(tmp_path, direction, *attempts):
    toml = PROBLEM.replace("maximize", direction)
    problem = load_problem(write_problem(tmp_path / "valley", toml=toml))
    population = Population(problem, SearchSettings(strategy="pareto", islands=1))
    for one in attempts:
        population.add(one.key.generation, [one])
    return [elite.key.generation for elite in population.pool]


def test_the_pool_has_the_leader_on_each_instance_and_the_first_of_equals(tmp_path):
    found = leaders(
        tmp_path, "maximize", attempt(0, 1.0, 1.0, 1.0), attempt(1, 3.0, -9.0, 1.0),
        attempt(2, 3.0, 2.0, -9.0),
    )  # fmt: skip
    assert found == [1, 2, 0]


def test_smaller_ones_lead_where_objectives_are_minimized_and_validation_has_no_say(tmp_path):
    first = attempt(0, 1.0, 1.0, **{"validation x": 1.0})
    second = attempt(1, 2.0, 0.5, **{"validation x": -9.0})
    assert leaders(tmp_path, "minimize", first, second) == [0, 1]


@pytest.fixture
def problem(tmp_path):
    write_problem(tmp_path / "valley", evaluator=INSTANCES)
    return tmp_path


@pytest.mark.parametrize("model", [(), ("--model", "scripted")], ids=["operators", "scripted"])
def test_a_run_replays_and_resumes_with_it(problem, model):
    options = ("--strategy", "pareto", "--run-dir", "r", *model)
    run_evolve("run", "valley", *options, "--generations", 4, cwd=problem)
    run_evolve("resume", "r", "--generations", 8, cwd=problem)
    assert "equal: generations 0 to 8" in run_evolve("replay", "r", cwd=problem).stdout
    assert run_json("show", "r", cwd=problem)["strategy"] == "pareto"


def test_without_instances_it_is_refused_and_leaves_no_run(tmp_path):
    write_problem(tmp_path / "valley", evaluator=EVALUATOR)
    options = ("--strategy", "pareto", "--run-dir", "r")
    done = run_evolve("run", "valley", *options, cwd=tmp_path, code=2)
    assert "--strategy pareto: expected an evaluator that reports `instances`" in done.stderr
    assert not (tmp_path / "r").exists()


def test_prompts_name_the_worst_instances_and_the_largest_differences(problem):
    options = ("--run-dir", "r", "--generations", 3, "--model", "scripted")
    run_evolve("run", "valley", *options, cwd=problem)
    lines = run_evolve("log", "r", "--json", cwd=problem).stdout.splitlines()
    best = max(
        (one for one in map(json.loads, lines) if one.get("objective") is not None),
        key=lambda one: one["generation"],
    )
    messages = run_json("show", "r", best["attempt"], cwd=problem)["calls"][0]["messages"]
    text = messages[-1]["text"]
    assert "Worst of 2 instances: " in text
    assert "It differs most on " in text
    assert "unseen" not in text
