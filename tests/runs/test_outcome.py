import json
import re
import sqlite3
from contextlib import closing

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
    objective = re.compile(r"(?<![\d.])43[123]\d")
    assert not any(objective.search(json.dumps(line["request"])) for line in calls)


def test_a_hold_out_that_is_missing_is_named(problem):
    toml = problem / "valley/problem.toml"
    toml.write_text(toml.read_text().replace("held_out", "nowhere"))
    done = run_evolve("check", "valley", cwd=problem, code=2)
    assert "expected a function `nowhere(program, ...)`" in done.stderr


MARKER = "marker-of-the-hold-out-4711"
# What a program may do with an input of the hold-out, and an evaluator with what comes of it.
LEAKS = {
    "raises": ("raise ValueError(data)", "program.call('point', MARKER)"),
    "prints and raises": ("print(data); 1 / 0", "program.call('point', MARKER)"),
    "prints and hangs": (
        "print(data, flush=True); import time; time.sleep(9)", "program.call('point', MARKER)"
    ),
    "exits": ("import os; print(data, flush=True); os._exit(7)", "program.call('point', MARKER)"),
    "names an exception": (
        "raise type(data.replace('-', '_'), (Exception,), {})", "program.call('point', MARKER)"
    ),
    "returns it": ("return data", "as_floats(program.call('point', MARKER), (2,), where='point')"),
    "is refused with it": ("return data", "raise Infeasible(program.call('point', MARKER))"),
    "is shown": (
        "return data",
        "return Score(1.0, artifacts={program.call('point', MARKER): MARKER})",
    ),
    "breaks the evaluator": ("return data", "float(program.call('point', MARKER))"),
    "ends the evaluator": (
        "return data",
        "import os; os.write(2, program.call('point', MARKER).encode()); os._exit(3)",
    ),
}  # fmt: skip


def run_command(*args, cwd):
    """Runs a command that may end well with or without an improvement."""
    done = run_evolve(*args, cwd=cwd, code=None)
    assert done.code in {0, 3}, done
    return done.stdout + done.stderr


def everything(folder, said):
    """Returns all that a run has written and printed."""
    with closing(sqlite3.connect(folder / "run.db")) as connection:
        texts = [*connection.iterdump(), said]
    files = [path for path in folder.rglob("*") if path.is_file()]
    own = [path for path in files if not {"problem", "evaluator"} & set(path.parts)]
    return "\n".join(texts).encode() + b"\n".join(path.read_bytes() for path in own)


@pytest.mark.parametrize("name", LEAKS)
def test_no_input_of_the_hold_out_is_anywhere_afterwards(tmp_path, capfd, name):
    action, judged = LEAKS[name]
    program = f"def point(data=None):\n    if data: {action}\n    return [1.0, 2.0]\n"
    evaluator = EVALUATOR + f"\ndef held_out(program):\n    {judged}\n    return Score(1.0)\n"
    evaluator = evaluator.replace("MARKER", repr(MARKER)).replace(
        "import Score", "import Infeasible, Score"
    )
    write_problem(
        tmp_path / "valley",
        evaluator=evaluator,
        initial=program,
        toml='holdout = "held_out"\n' + PROBLEM.lstrip(),
    )
    asked = ("--model", "scripted", "--run-dir", "r", "--set", "loop.slots=2")
    said = run_command("run", "valley", "--generations", 1, *asked, cwd=tmp_path)
    assert "hold-out: champion" in said
    assert MARKER.encode() not in everything(tmp_path / "r", said)
    said += run_command("resume", "r", "--generations", 3, cwd=tmp_path)
    for command in ("report", "show", "log"):
        said += run_command(command, "r", cwd=tmp_path)
    said += run_command("export", "r", "--output", "out", cwd=tmp_path)
    found = everything(tmp_path / "r", said)
    assert MARKER.encode() not in found
    assert MARKER.replace("-", "_").encode() not in found
    assert MARKER not in "".join(capfd.readouterr())
    exported = [path.read_bytes() for path in (tmp_path / "out").rglob("*.jsonl")]
    assert exported
    assert not any(MARKER.encode() in text for text in exported)
