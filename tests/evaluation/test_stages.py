"""Early stages of an evaluation: cheap ones first, and what is too weak in one goes no further."""

import json

import pytest

from tests.commands import PROBLEM, run_evolve, run_json, start_evolve, wait_for_rows, write_problem

EVALUATOR = """from evolve.scoring import Infeasible, Score, as_floats


def evaluate(program, *, dimensions):
    point = as_floats(program.call("point"), (2,), where="point")
    errors = [(point[0] - 3.0) ** 2, (point[1] + 2.0) ** 2][:dimensions]
    return Score(-sum(errors), measures={"first": point[0]}, artifacts={"dimensions": "seen"})


def refuse(program, *, dimensions):
    if as_floats(program.call("point"), (2,), where="point")[0] > 1.05:
        raise Infeasible("first above 1.05")
"""
PARAMETERS = "[parameters]\ndimensions = 2\n"
RUN = ("run", "valley", "--run-dir", "r", "--generations", 8)


def write(folder, stage, evaluator=EVALUATOR):
    toml = f"{PROBLEM}{PARAMETERS}[[stages]]\n{stage}"
    write_problem(folder / "valley", evaluator=evaluator, toml=toml)
    return folder


def log_of(folder, run="r"):
    lines = run_evolve("log", run, "--json", cwd=folder).stdout.splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("model", [(), ("--model", "scripted")], ids=["operators", "scripted"])
def test_what_is_below_the_threshold_goes_no_further(tmp_path, model):
    write(tmp_path, "parameters = { dimensions = 1 }\nthreshold = -4.05\n")
    run_evolve(*RUN, *model, cwd=tmp_path)
    stopped = [one for one in log_of(tmp_path) if one.get("status") == "stopped"]
    assert stopped
    assert all(one["objective"] is None for one in stopped)
    needed = "-4.05 is needed to go on"
    assert all(one["reason"].startswith("stage `evaluate`: objective -") for one in stopped)
    assert all(one["reason"].endswith(needed) for one in stopped)
    state = run_json("show", "r", cwd=tmp_path)
    (stage,) = state["stages"]
    assert stage["programs"] == state["evaluations"]
    assert stage["stopped"] == state["outcomes"]["stopped"] == len(stopped)
    assert f"{len(stopped)} too weak to go on" in run_evolve("show", "r", cwd=tmp_path).stdout
    shown = run_json("show", "r", stopped[0]["attempt"], cwd=tmp_path)
    assert shown["stages"][0]["objective"] < -4.05
    assert shown["artifacts"]["dimensions"] == "seen"
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout


def test_the_better_share_goes_on_whatever_the_number_of_workers(tmp_path):
    write(tmp_path, 'name = "one"\nparameters = { dimensions = 1 }\nshare = 0.3\n')
    for name, workers in (("r", 1), ("s", 8)):
        run_evolve(
            *RUN[:3], name, *RUN[4:], "--model", "scripted", "--workers", workers,
            "--set", "tuning.share=0.7", cwd=tmp_path,
        )  # fmt: skip
    first, second = (run_json("show", name, cwd=tmp_path) for name in ("r", "s"))
    assert first["outcomes"] == second["outcomes"]
    assert first["outcomes"]["stopped"] > 3
    assert first["outcomes"]["ok"] > 8
    assert "equal" in run_evolve("replay", "s", cwd=tmp_path).stdout


def test_a_killed_run_goes_on_with_the_same_stages(tmp_path):
    write(tmp_path, "parameters = { dimensions = 1 }\nshare = 0.3\n")
    options = (*RUN[4:], "--model", "scripted")
    run_evolve(*RUN[:3], "alone", *options, cwd=tmp_path)
    process = start_evolve(*RUN[:4], *options, cwd=tmp_path)
    wait_for_rows(tmp_path / "r", "evaluations", 20)
    process.kill()
    process.communicate()
    run_evolve("resume", "r", cwd=tmp_path)
    states = [run_json("show", name, cwd=tmp_path) for name in ("alone", "r")]
    assert states[0]["outcomes"] == states[1]["outcomes"]
    assert states[0]["champion"] == states[1]["champion"]


def test_a_failure_in_a_stage_keeps_its_status_and_says_where(tmp_path):
    write(tmp_path, 'function = "refuse"\n')
    run_evolve(*RUN, cwd=tmp_path)
    failed = [one for one in log_of(tmp_path) if one.get("status") == "infeasible"]
    assert {one["reason"] for one in failed} == {"stage `refuse`: first above 1.05"}


def test_a_stage_has_limits_of_its_own(tmp_path):
    write(tmp_path, "limits = { seconds = 0.3 }\nthreshold = -99\n")
    slow = "import time\n\ndef point():\n    time.sleep(0.8)\n    return [1.0, 1.0]\n"
    (tmp_path / "valley/initial.py").write_text(slow)
    done = run_evolve("check", "valley", cwd=tmp_path, code=2)
    assert "stage `evaluate`: no answer within 0.3 s" in done.stderr


def test_a_starting_program_that_is_too_weak_is_refused(tmp_path):
    write(tmp_path, "threshold = 0\n")
    done = run_evolve("check", "valley", cwd=tmp_path, code=2)
    assert "stage `evaluate`: objective -13, 0 is needed to go on" in done.stderr


def test_a_check_shows_what_the_start_reaches_in_a_stage(tmp_path):
    write(tmp_path, 'name = "first only"\nparameters = { dimensions = 1 }\nthreshold = -9\n')
    assert (
        "stage     first only: objective -4" in run_evolve("check", "valley", cwd=tmp_path).stdout
    )


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("treshold = 1", "unknown key `treshold`; did you mean `threshold`?"),
        ("share = 1.5", "expected a `threshold`, or a `share` between 0 and 1 of the programs"),
        ("share = 0.5\nthreshold = 1", "got `share = 0.5` and a `threshold`"),
        ("share = 0", "`share`: expected a number above 0"),
        ('threshold = "a"', "[[stages]] 1: `threshold`: expected a number, got 'a'"),
        ("parameters = { size = 1 }", "parameters: unknown key `size`; known are `dimensions`"),
        ('parameters = { dimensions = "a" }', "`dimensions`: expected the type of 2, got 'a'"),
        ("limits = { seconds = 0 }", "`seconds`: expected a number above 0"),
        ('function = "nobody"', "expected a function `nobody(program, ...)`"),
        (
            'function = "refuse"\nthreshold = 1',
            "stage `refuse`: expected a `Score` or a number, got None",
        ),
        ('[[stages]]\nname = "evaluate"', "2: `name`: expected one of its own, got 'evaluate'"),
    ],
)
def test_a_bad_stage_is_refused_with_the_place(tmp_path, stage, message):
    write(tmp_path, stage)
    assert message in run_evolve("check", "valley", cwd=tmp_path, code=2).stderr
