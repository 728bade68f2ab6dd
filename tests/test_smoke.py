import json
from pathlib import Path

import pytest

from tests.commands import (
    EVALUATOR,
    PROBLEM,
    run_evolve,
    run_json,
    start_evolve,
    wait_for_rows,
    write_problem,
)

# Programs with a large first number fail. Each program that passes leaves one in its memory,
# which the evaluation shall not see; each evaluation leaves a line.
TRIED = """
seen = []

# EVOLVE-BLOCK-START
def point():
    first = 1.0
    second = 1.0
    return [first, second]
# EVOLVE-BLOCK-END

def remember():
    seen.append(1)
    return len(seen)
"""
SMOKE = """

def smoke(program):
    first, _ = as_floats(program.call("point"), (2,), where="point")
    if program.call("remember") != 1:
        raise ValueError("smoke: expected a program without a past")
    if first > 1.05:
        raise Infeasible(f"first is {first:.3f}, above 1.05")
"""
COUNTED = """from evolve.scoring import Infeasible, Score, as_floats


def evaluate(program):
    with open(LOG, "a") as log:
        log.write("asked\\n")
    if program.call("remember") != 1:
        raise ValueError("evaluate: expected a program without a past")
    first, second = as_floats(program.call("point"), (2,), where="point")
    return Score(-((first - 3.0) ** 2) - (second + 2.0) ** 2, measures={"first": first})
"""
RUN = ("run", "valley", "--run-dir", "r", "--generations", 6)


@pytest.fixture
def problem(tmp_path):
    evaluator = f"LOG = {str(tmp_path / 'asked')!r}\n{COUNTED}{SMOKE}"
    toml = 'smoke = "smoke"\n' + PROBLEM.lstrip()
    write_problem(tmp_path / "valley", initial=TRIED, evaluator=evaluator, toml=toml)
    return tmp_path


def reasons_of(folder: Path) -> str:
    lines = run_evolve("log", "r", "--json", cwd=folder).stdout.splitlines()
    return "\n".join(json.loads(line).get("reason", "") for line in lines)


@pytest.mark.parametrize("model", [(), ("--model", "scripted")], ids=["operators", "scripted"])
def test_what_fails_the_smoke_function_is_rejected_and_no_evaluation_is_paid(problem, model):
    run_evolve(*RUN, *model, cwd=problem)
    state = run_json("show", "r", cwd=problem)
    asked = (problem / "asked").read_text().count("asked")
    assert state["evaluations"] == asked
    assert state["outcomes"] == {
        "ok": asked,
        "rejected": state["attempts"] - asked,
    }
    assert reasons_of(problem).count("smoke check: infeasible: first is ") > 3
    assert "equal: generations 0 to 6" in run_evolve("replay", "r", cwd=problem).stdout


def test_a_cap_on_evaluations_counts_what_was_paid_for_only(problem):
    run_evolve(*RUN, "--generations", 40, "--max-evaluations", 30, cwd=problem)
    state = run_json("show", "r", cwd=problem)
    assert state["stopped_because"] == "max_evaluations"
    assert state["evaluations"] == (problem / "asked").read_text().count("asked") == 30
    assert state["outcomes"]["rejected"] > 3


def test_a_killed_run_goes_on_to_the_same_database(problem):
    alone = (*RUN[:3], "alone", *RUN[4:], "--model", "scripted")
    run_evolve(*alone, cwd=problem)
    process = start_evolve(*RUN, "--model", "scripted", cwd=problem)
    wait_for_rows(problem / "r", "evaluations", 12)
    process.kill()
    process.communicate()
    run_evolve("resume", "r", cwd=problem)
    states = [run_json("show", name, cwd=problem) for name in ("alone", "r")]
    assert states[0]["outcomes"] == states[1]["outcomes"]
    assert states[0]["evaluations"] == states[1]["evaluations"]
    assert states[0]["champion"] == states[1]["champion"]


def test_a_starting_program_that_fails_it_is_refused(problem):
    file = problem / "valley/initial.py"
    file.write_text(TRIED.replace("first = 1.0", "first = 2.0"))
    done = run_evolve("check", "valley", cwd=problem, code=2)
    assert "smoke check: infeasible: first is 2.000, above 1.05" in done.stderr


def test_a_smoke_function_that_breaks_is_the_evaluators_failure(problem):
    file = problem / "valley/evaluator.py"
    file.write_text(file.read_text().replace("if first > 1.05:", "if nobody:"))
    done = run_evolve("check", "valley", cwd=problem, code=2)
    assert "the evaluator raised NameError" in done.stderr


def test_a_crash_in_it_counts_at_once(problem):
    crash = "    import os\n    os._exit(1)\n    return [first, second]\n"
    file = problem / "valley/initial.py"
    file.write_text(TRIED.replace("    return [first, second]\n", crash))
    done = run_evolve("check", "valley", cwd=problem, code=2)
    assert "smoke check: crashed: the process exited with code 1" in done.stderr


def test_without_one_nothing_is_tried(tmp_path):
    write_problem(tmp_path / "valley", evaluator=EVALUATOR + SMOKE)
    run_evolve(*RUN[:4], "--generations", 1, cwd=tmp_path)
    assert "smoke" not in reasons_of(tmp_path)
