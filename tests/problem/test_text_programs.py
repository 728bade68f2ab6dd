"""Programs that are texts or data: a prompt, JSON, a regular expression."""

import json
import tomllib
from pathlib import Path

import pytest

from evolve.edits import apply_reply
from evolve.records import Program, SourceFile
from tests.commands import run_evolve, run_json, write_problem, write_script

TOML = 'direction = "maximize"\npackages = []\n[program]\nfiles = ["{}"]\n'
# The more of the words, the better; the length is a measure without a say.
WORDS = """from evolve.scoring import Score
def evaluate(program):
    text, = program.files.values()
    return Score(float(sum(word in text for word in ("step", "units", "check"))))
"""
PEAK = """import json
from evolve.scoring import Infeasible, Score
def evaluate(program):
    found = json.loads(program.files["settings.json"])
    if found["turns"] < 0:
        raise Infeasible("turns below 0")
    return Score(-(found["weight"] - 3.0) ** 2 - (found["turns"] - 40) ** 2)
"""


def write_text_problem(folder: Path, name: str, text: str, evaluator: str) -> Path:
    write_problem(folder, evaluator=evaluator, toml=TOML.format(name))
    (folder / "initial.py").unlink()
    (folder / name).write_text(text)
    return folder


def test_without_a_model_the_numbers_of_json_are_tuned(tmp_path):
    start = '{"weight": 0.5, "turns": 7, "label": "v2 of 9"}\n'
    write_text_problem(tmp_path / "p", "settings.json", start, PEAK)
    run_evolve("run", "p", "--run-dir", "r", "--generations", 25, cwd=tmp_path)
    best = json.loads((tmp_path / "r/best/settings.json").read_text())
    assert run_json("show", "r", cwd=tmp_path)["champion"]["objective"] > -500.0
    assert best["label"] == "v2 of 9"
    assert isinstance(best["turns"], int)
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout


@pytest.mark.parametrize("language", ["", "text", "markdown", "json", "python"])
def test_a_whole_prompt_in_any_fence_is_read_as_the_file(language):
    parent = Program((SourceFile("prompt.txt", "Answer the question.\n"),))
    found = apply_reply(parent, f"Change: say how\n\n```{language}\nThink step by step.\n```")
    assert isinstance(found, Program)
    assert found.entry.text == "Think step by step.\n"


def test_a_model_improves_a_prompt(tmp_path):
    write_text_problem(tmp_path / "p", "prompt.txt", "Answer the question.\n", WORDS)
    fence = "```\nThink step by step; name the units.\n```"
    script = write_script(tmp_path / "s.json", editor=[f"Change: say how\n\n{fence}"])
    options = ("--run-dir", "r", "--generations", 1, "--model", script, "--seed", 1)
    run_evolve("run", "p", *options, cwd=tmp_path)
    assert (tmp_path / "r/best/prompt.txt").read_text() == "Think step by step; name the units.\n"
    assert run_json("show", "r", cwd=tmp_path)["champion"]["objective"] == 2.0
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout


def test_a_text_that_nothing_can_change_is_refused_at_once(tmp_path):
    write_text_problem(tmp_path / "p", "prompt.txt", "- Answer the question - now.\n", WORDS)
    done = run_evolve("run", "p", "--run-dir", "r", cwd=tmp_path, code=2)
    assert "prompt.txt: expected a number or code" in done.stderr
    assert "--model NAME" in done.stderr
    assert not (tmp_path / "r").exists()


def test_json_that_does_not_parse_is_rejected_before_an_evaluation(tmp_path):
    write_text_problem(tmp_path / "p", "settings.json", '{"weight": 0.5, "turns": 7}\n', PEAK)
    script = write_script(tmp_path / "s.json", editor=['```json\n{"weight": 1.0, "turns": 7\n```'])
    options = ("--run-dir", "r", "--generations", 1, "--model", script)
    run_evolve("run", "p", *options, "--set", "tuning.share=0", cwd=tmp_path, code=None)
    lines = run_evolve("log", "r", "--json", cwd=tmp_path).stdout.splitlines()
    reasons = {json.loads(line).get("reason", "") for line in lines}
    assert any(one.startswith("syntax error in settings.json, line 2: ") for one in reasons)
    assert run_json("show", "r", cwd=tmp_path)["evaluations"] == 1


def test_a_text_cannot_be_called(tmp_path):
    called = 'def evaluate(program):\n    program.call("f")\n'
    write_text_problem(tmp_path / "p", "prompt.txt", "1\n", called)
    done = run_evolve("check", "p", cwd=tmp_path, code=2)
    assert "expected a program in Python, got prompt.txt; read a text in `program.files`" in (
        done.stderr
    )


def test_toml_and_yaml_stay_what_they_are(tmp_path):
    evaluator = """import tomllib
from evolve.scoring import Score
def evaluate(program):
    text, = program.files.values()
    found = tomllib.loads(text)
    assert str(found["day"]) == "2026-01-02"
    return Score(-abs(found["small"] + 2e-6), metrics=found["table"])
"""
    start = 'day = 2026-01-02\nsmall = -4e-6\nname = "1.5"\n[table]\nrate = 0.5 # 9\n'
    write_text_problem(tmp_path / "p", "settings.toml", start, evaluator)
    run_evolve("run", "p", "--run-dir", "r", "--generations", 6, cwd=tmp_path)
    outcomes = run_json("show", "r", cwd=tmp_path)["outcomes"]
    assert outcomes.keys() <= {"ok", "rejected"}
    best = tomllib.loads((tmp_path / "r/best/settings.toml").read_text())
    assert best["name"] == "1.5"


def test_no_evaluation_and_no_prompt_is_spent_on_tuning_prose(tmp_path):
    write_text_problem(tmp_path / "p", "prompt.txt", "Answer the question.\n", WORDS)
    script = write_script(tmp_path / "s.json")
    options = ("--run-dir", "r", "--generations", 1)
    # By another way than `--model`, with which tests leave tuning out.
    named = {"EVOLVE_SET_MODELS__MODEL": script}
    done = run_evolve("run", "p", *options, cwd=tmp_path, code=None, **named)
    assert "tuning: off" in done.stdout
    assert run_json("show", "r", cwd=tmp_path)["evaluations"] <= 5


def test_a_query_is_read_by_the_evaluator_and_changed_like_code(tmp_path):
    evaluator = """import sqlite3
from evolve.scoring import Infeasible, Score
def evaluate(program):
    tables = sqlite3.connect(":memory:")
    tables.execute("CREATE TABLE cells (size)")
    tables.executemany("INSERT INTO cells VALUES (?)", [(n,) for n in range(100)])
    try:
        (count,), = tables.execute(program.files["query.sql"]).fetchall()
    except (sqlite3.Error, ValueError) as error:
        raise Infeasible(str(error)) from error
    return Score(-abs(count - 61))
"""
    query = "-- how many\nSELECT count(*) FROM cells WHERE size < 20\n"
    write_text_problem(tmp_path / "p", "query.sql", query, evaluator)
    run_evolve("run", "p", "--run-dir", "r", "--generations", 15, cwd=tmp_path)
    state = run_json("show", "r", cwd=tmp_path)
    assert state["champion"]["objective"] > -20.0
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout
