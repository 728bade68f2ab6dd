"""Programs and evaluators that ask a language model: metered, capped, recorded, replayed."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from evolve.errors import UsageError
from evolve.problem import load_problem
from evolve.runs.wiring import open_evaluators
from evolve.settings import Settings, change_settings
from evolve.store.schema import unpack
from tests.commands import (
    run_evolve,
    run_json,
    start_evolve,
    wait_for_rows,
    write_problem,
    write_script,
)

TOML = """name = "sums"
direction = "maximize"
packages = []

[program]
calls = {calls}

[limits]
seconds = 2
"""
# Adds as many numbers at a time as its constant says; the model is right for short sums.
INITIAL = """import re
from evolve import ask, ask_all

# EVOLVE-BLOCK-START
PART = 7
# EVOLVE-BLOCK-END

def solve(terms):
    parts = [terms[i:i + max(PART, 2)] for i in range(0, len(terms), max(PART, 2))]
    texts = [" + ".join(map(str, part)) for part in parts if len(part) > 1]
    sums = [int(re.findall(r"-?[0-9]+", one)[-1]) for one in ask_all(texts)]
    return sums + [part[0] for part in parts if len(part) == 1]
"""
EVALUATOR = """import random
from evolve.scoring import Score

def evaluate(program):
    rng, error = random.Random(0), 0
    for _ in range(4):
        terms = [rng.randint(2, 99) for _ in range(14)]
        error += abs(sum(program.call("solve", terms)) - sum(terms))
    return Score(-error - program.asked / 100, metrics={"asked": program.asked})
"""
RUN = ("run", "sums", "--generations", 3, "--seed", 1, "--model", "scripted")


def write(
    folder: Path, calls: int = 60, more: str = "", evaluator: str = EVALUATOR, **other
) -> Path:
    toml = TOML.format(calls=calls) + more
    write_problem(folder / "sums", initial=INITIAL, evaluator=evaluator, toml=toml, **other)
    return folder


def write_initial(folder: Path, *lines: str) -> None:
    body = "\n    ".join(lines)
    text = f"import evolve\nPART = 1.5\n\ndef solve(terms):\n    {body}\n"
    (folder / "sums/initial.py").write_text(text)


def asks_of(run: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(run / "run.db")) as database:
        return database.execute("SELECT role, hex(messages) FROM calls WHERE slot = -2").fetchall()


@pytest.mark.parametrize("name", ["arithmetic_prompt", "arithmetic_agent"])
def test_the_gallerys_problems_improve_on_their_hold_outs_with_the_scripted_model(name, tmp_path):
    options = ("--generations", 8, "--seed", 1, "--model", "scripted", "--run-dir", "r")
    # The scripted editor repeats itself, by which the run may end earlier.
    run_evolve("run", name, *options, cwd=tmp_path, code=None)
    state = run_json("show", "r", cwd=tmp_path)
    start, champion = state["initial"]["holdout"], state["champion"]["holdout"]
    assert champion["objective"] > start["objective"] + 0.1
    used = {one["role"]: one["calls"] for one in state["models"]}
    assert used["program"] == len(asks_of(tmp_path / "r"))
    assert "equal: " in run_evolve("replay", "r", cwd=tmp_path).stdout
    with closing(sqlite3.connect(tmp_path / "r/run.db")) as database:
        calls = database.execute("SELECT slot, messages FROM calls").fetchall()
    asked = " ".join(json.dumps(unpack(text)) for slot, text in calls if slot == -2)
    shown = " ".join(json.dumps(unpack(text)) for slot, text in calls if slot != -2)
    hidden = set(re.findall(r"-?\d+(?: [-+] \d+){2,}", asked))
    assert len(hidden) > 20
    assert not any(one in shown for one in hidden)


def test_each_question_is_asked_once_whatever_the_number_of_workers(tmp_path):
    write(tmp_path)
    for name, workers in (("one", 1), ("eight", 8)):
        run_evolve(*RUN, "--run-dir", name, "--workers", workers, cwd=tmp_path)
    first, second = (run_json("show", name, cwd=tmp_path) for name in ("one", "eight"))
    assert first["outcomes"] == second["outcomes"]
    assert first["champion"] == second["champion"]
    asked = asks_of(tmp_path / "eight")
    assert len(asked) == len(set(asked)) > 8
    assert sorted(asked) == sorted(asks_of(tmp_path / "one"))


def test_a_killed_run_goes_on_with_the_answers_that_it_has(tmp_path):
    write(tmp_path)
    run_evolve(*RUN, "--run-dir", "alone", cwd=tmp_path)
    process = start_evolve(*RUN, "--run-dir", "r", cwd=tmp_path)
    wait_for_rows(tmp_path / "r", "evaluations", 5)
    process.kill()
    process.communicate()
    run_evolve("resume", "r", cwd=tmp_path)
    states = [run_json("show", name, cwd=tmp_path) for name in ("alone", "r")]
    assert states[0]["champion"] == states[1]["champion"]
    assert sorted(asks_of(tmp_path / "r")) == sorted(asks_of(tmp_path / "alone"))
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout
    assert "agrees" in run_evolve("verify", "r", cwd=tmp_path).stdout


def test_a_recorded_run_answers_another_one_without_a_model(tmp_path):
    write(tmp_path)
    run_evolve(*RUN, "--run-dir", "first", cwd=tmp_path)
    run_evolve("run", "--replay", "first", "--run-dir", "again", cwd=tmp_path)
    states = [run_json("show", name, cwd=tmp_path) for name in ("first", "again")]
    assert states[0]["champion"] == states[1]["champion"]
    assert states[0]["tokens"] == states[1]["tokens"]
    other = (tmp_path / "sums/initial.py").read_text().replace(" + ", " - ")
    (tmp_path / "sums/initial.py").write_text(other)
    options = ("--replay", "first", "--run-dir", "changed")
    done = run_evolve("run", "sums", *options, cwd=tmp_path, code=4)
    assert "the record that answers has no such question" in done.stderr


def test_a_cap_of_the_run_holds_for_questions_too(tmp_path):
    write(tmp_path)
    cap = ("--set", "budget.max_calls=25", "--force")
    run_evolve(*RUN, "--run-dir", "r", *cap, cwd=tmp_path, code=None)
    state = run_json("show", "r", cwd=tmp_path)
    assert state["stopped_because"] == "max_calls"
    assert state["calls"] <= 25
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout


@pytest.mark.parametrize("backend", ["bubblewrap", "native"])
@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("[evolve.ask('1 + 1') for _ in range(99)]", "return [0]"), "more than the 60 questions"),
        (("evolve.ask(7)", "return [0]"), "ask: expected a text of 1 to 400000 characters, got 7"),
        (("evolve.ask('a', top=1)", "return [0]"), "ask: unknown option `top`; known: system"),
        (("evolve.ask('a', seed='x')", "return [0]"), "ask: `seed`: expected int, got 'x'"),
    ],
)
def test_what_a_program_asks_wrongly_is_its_failure(lines, reason, backend, tmp_path):
    write(tmp_path)
    write_initial(tmp_path, *lines)
    options = ("--model", "scripted", "--set", f"sandbox.backend={backend}")
    assert reason in run_evolve("check", "sums", *options, cwd=tmp_path, code=2).stderr


def test_threads_ask_in_turns_and_waiting_takes_none_of_the_programs_time(tmp_path):
    script = write_script(tmp_path / "s.json", program=["5"], latency_seconds=0.8)
    write(tmp_path)
    write_initial(
        tmp_path,
        "from concurrent.futures import ThreadPoolExecutor",
        "with ThreadPoolExecutor(4) as threads:",
        "    found = list(threads.map(evolve.ask, ['a', 'b', 'c', 'd']))",
        "assert found == ['5'] * 4, found",
        "return [sum(terms)]",
    )
    options = ("--set", f"models.program={script}")
    checked = run_json("check", "sums", *options, cwd=tmp_path)
    assert checked["objective"] == pytest.approx(-0.16)
    assert checked["seconds"] < 2.0


def test_a_program_that_may_not_ask_finds_nothing_to_ask_with(tmp_path):
    toml = 'direction = "maximize"\npackages = []\n'
    write_problem(tmp_path / "sums", initial=INITIAL, evaluator=EVALUATOR, toml=toml)
    done = run_evolve("check", "sums", cwd=tmp_path, code=2)
    assert "cannot import name 'ask'" in done.stderr or "No module named 'evolve'" in done.stderr


JUDGE = """from evolve.scoring import AskError, Score, ask, ask_all

def evaluate(program):
    text = program.files["initial.py"]
    marks = ask_all([f"Rate {i}: {len(text)} + {i}" for i in range(3)], system="number alone")
    try:
        ask("one more")
    except AskError as error:
        return Score(float(marks[0]), artifacts={"refused": str(error)})
    return Score(0.0)
"""


def test_an_evaluator_asks_a_judge_of_its_own(tmp_path):
    toml = 'direction = "maximize"\npackages = []\n[evaluator]\nmodel = "scripted"\ncalls = 3\n'
    write_problem(tmp_path / "sums", evaluator=JUDGE, toml=toml)
    run_evolve(
        "run", "sums", "--run-dir", "r", "--generations", 2, "--seed", 1, cwd=tmp_path
    )  # without a model for the steps
    state = run_json("show", "r", cwd=tmp_path)
    assert [one["role"] for one in state["models"]] == ["evaluator"]
    shown = run_json("show", "r", state["champion"]["attempt"], cwd=tmp_path)
    assert shown["artifacts"]["refused"] == (
        "ask: more than the 3 questions of an evaluation, [evaluator] `calls`"
    )
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout


@pytest.mark.parametrize("command", ["run", "check"])
def test_without_a_model_it_is_refused_with_how_to_name_one(command, tmp_path):
    write(tmp_path)
    done = run_evolve(command, "sums", cwd=tmp_path, code=2)
    assert "sums: programs ask a language model, and none is named: `--model NAME`" in done.stderr
    assert "--set models.program=NAME" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "[evaluator]\ncalls = 0\n",
            "[evaluator]: `calls`: expected a whole number of at least 1, got 0",
        ),
        ('[evaluator]\nmodel = "cmd:rm -r x"\n', "expected a name such as `provider/model`"),
        ('[evaluator]\nmodel = "openai/http://x"\n', "are named by who starts a run"),
        ('[evaluator]\nmodell = "x/y"\n', "unknown key `modell`; did you mean `model`?"),
    ],
)
def test_bad_keys_are_refused_with_their_place(more, message, tmp_path):
    write(tmp_path, more=more)
    assert message in run_evolve("check", "sums", cwd=tmp_path, code=2).stderr


def test_a_cluster_does_not_evaluate_what_asks(tmp_path):
    problem = load_problem(write(tmp_path) / "sums")
    settings = change_settings(Settings(), {"cluster.address": "ray"}, where="")
    with pytest.raises(UsageError, match="expected a problem that asks no model, got sums"):
        open_evaluators(problem, settings)


def test_the_log_and_the_ledger_show_what_was_asked(tmp_path):
    write(tmp_path)
    run_evolve(*RUN[:2], "--generations", 1, *RUN[4:], "--run-dir", "r", cwd=tmp_path)
    lines = run_evolve("log", "r", "--json", cwd=tmp_path).stdout.splitlines()
    asked = [one for one in map(json.loads, lines) if one.get("role") == "program"]
    assert asked
    assert {one["model"] for one in asked} == {"scripted"}
