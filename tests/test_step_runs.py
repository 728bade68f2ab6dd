"""Forms of planning and execution in whole runs."""

import json

import pytest

from tests.commands import run_evolve, run_json, write_script
from tests.model_server import Answer, ModelServer, answer_like_scripted

FORMS = {
    "rounds": ("steps.rounds=3", "steps.plans=3"),
    "batch": ("steps.rounds=3", "steps.batch=true"),
    "agent": ("steps.executor=agent", "steps.agent_turns=4"),
}


def assign(name: str) -> list[str]:
    return [word for text in FORMS[name] for word in ("--set", text)]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_run_with_any_number_of_workers(name, tmp_path, problem):
    common = ("--model", "scripted", "--generations", 2, *assign(name))
    for workers in (1, 8):
        run_evolve(
            "run", problem, *common, "--workers", workers, "--run-dir", f"r{workers}", cwd=tmp_path
        )
    one, eight = (run_json("archive", f"r{workers}", cwd=tmp_path) for workers in (1, 8))
    assert one == eight
    assert "equal" in run_evolve("replay", "r8", cwd=tmp_path).stdout


def test_attempts_widen_until_one_gains(tmp_path, problem):
    worse = "<<<<<<< SEARCH\n    first = 1.0\n=======\n    first = {}\n>>>>>>> REPLACE"
    script = write_script(tmp_path / "s.json", editor=[worse.format(-n) for n in range(1, 60)])
    few = ("--set", "loop.slots=1", "--set", "steps.rounds=3", "--set", "steps.repairs=0")
    common = ("run", problem, "--model", script, "--generations", 1, "--run-dir", "r")
    run_evolve(*common, *few, cwd=tmp_path)
    lines = run_evolve("log", "r", "--json", cwd=tmp_path).stdout.splitlines()
    log = [json.loads(line) for line in lines]
    calls = [line["role"] for line in log if line["kind"] == "call"]
    assert calls == ["planner", *["editor"] * 6, "summarizer"]


def test_lessons_are_shown_and_start_another_run(tmp_path, problem):
    summary = {"verdict": "v", "cause": "time", "lesson": "Small steps help.", "next": "go on"}
    script = write_script(tmp_path / "s.json", summarizer=[json.dumps(summary)])
    common = ("run", problem, "--model", script, "--generations", 1)
    run_evolve(*common, "--run-dir", "first", cwd=tmp_path)
    (lesson,) = run_json("lessons", "first", cwd=tmp_path)
    assert (lesson["text"], lesson["taught"], lesson["keeps_failing"]) == (
        "Small steps help.", 8, False,
    )  # fmt: skip
    done = run_evolve(*common, "--run-dir", "second", "--lessons", "first", cwd=tmp_path)
    assert "lessons: 1 taken over" in done.stdout
    assert "equal" in run_evolve("replay", "second", cwd=tmp_path).stdout
    (lesson,) = run_json("lessons", "second", cwd=tmp_path)
    assert (lesson["origin"], lesson["taught"]) == ("first", 16)
    assert "next: go on" in run_evolve("lessons", "second", cwd=tmp_path).stdout


def test_prompts_are_printed_as_they_would_be_sent(tmp_path, problem):
    prompts = run_json("prompt", problem, cwd=tmp_path)
    assert set(prompts) >= {"plan", "leap", "edit", "rewrite", "lines", "agent", "summarize"}
    plan = prompts["plan"][-1]["text"]
    assert "Return two numbers" in plan
    assert "It runs with Python 3." in plan
    assert "numpy" in plan
    one = run_evolve("prompt", problem, "--step", "edit", cwd=tmp_path).stdout
    assert "You carry out the plan." in one
    wrong = run_evolve("prompt", problem, "--step", "polish", cwd=tmp_path, code=2)
    assert "expected one of plan" in wrong.stderr


def test_shapes_are_sent_and_left_out_for_good_where_they_are_refused(tmp_path, problem):
    def refuse_shapes(body) -> Answer:
        if "response_format" in body:
            return Answer("response_format is not supported", status=400)
        return answer_like_scripted(body)

    with ModelServer(refuse_shapes) as server:
        model = ("--model", "openai/test", "--api-base", server.url)
        few = ("--generations", 1, "--set", "loop.slots=2", "--workers", 1)
        command = ("run", problem, *model, *few, "--run-dir", "r")
        run_evolve(*command, cwd=tmp_path, OPENAI_API_KEY="sk-test")
    shaped = [body["response_format"] for body in server.bodies if "response_format" in body]
    assert 1 <= len(shaped) <= 2
    assert shaped[0]["json_schema"]["schema"]["required"][0] == "hypothesis"
    state = run_json("show", "r", cwd=tmp_path)
    assert state["outcomes"].get("ok", 0) >= 2
