"""Forms of planning and execution in whole runs."""

import json

import pytest

from tests.commands import UNTUNED, run_evolve, run_json, write_script
from tests.model_server import Answer, ModelServer, answer_like_scripted

FORMS = {
    "rewrite": ("steps.form=rewrite", "steps.repairs=2"),
    "agent": ("steps.agent_turns=4",),
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


def test_lessons_are_shown_and_start_another_run(tmp_path, problem):
    lesson = {"claim": "Small steps help.", "evidence": "-12 against -13", "scope": "early on"}
    summary = {"verdict": "v", "lessons": [lesson]}
    script = write_script(tmp_path / "s.json", summarizer=[json.dumps(summary)])
    common = ("run", problem, "--model", script, "--generations", 2, *UNTUNED)
    run_evolve(*common, "--run-dir", "first", cwd=tmp_path)
    (known,) = run_json("lessons", "first", cwd=tmp_path)
    assert (known["claim"], known["taught"], known["works"]) == ("Small steps help.", 2, True)
    done = run_evolve(*common, "--run-dir", "second", "--lessons", "first", cwd=tmp_path)
    assert "lessons: 1 taken from" in done.stdout
    assert "equal" in run_evolve("replay", "second", cwd=tmp_path).stdout
    (known,) = run_json("lessons", "second", cwd=tmp_path)
    assert (known["origin"], known["taught"]) == ("first", 4)
    assert "evidence: -12 against -13" in run_evolve("lessons", "second", cwd=tmp_path).stdout


def test_prompts_are_printed_as_they_would_be_sent(tmp_path, problem):
    prompts = run_json("prompt", problem, cwd=tmp_path)
    assert set(prompts) >= {"edit", "leap", "plan", "planned", "agent", "repair", "summarize"}
    edit = prompts["edit"][-1]["text"]
    assert "Return two numbers" in edit
    assert "It runs with Python 3." in edit
    assert "numpy" in edit
    one = run_evolve("prompt", problem, "--step", "plan", cwd=tmp_path).stdout
    assert "You plan, others carry out." in one
    wrong = run_evolve("prompt", problem, "--step", "polish", cwd=tmp_path, code=2)
    assert "expected one of edit" in wrong.stderr


def test_shapes_are_sent_and_left_out_for_good_where_they_are_refused(tmp_path, problem):
    def refuse_shapes(body) -> Answer:
        if "response_format" in body:
            return Answer("response_format is not supported", status=400)
        return answer_like_scripted(body)

    with ModelServer(refuse_shapes) as server:
        model = ("--model", "openai/test", "--api-base", server.url)
        few = ("--generations", 3, "--set", "loop.slots=2", "--workers", 1)
        command = ("run", problem, *model, *few, "--run-dir", "r")
        run_evolve(*command, cwd=tmp_path, OPENAI_API_KEY="sk-test")
    (shaped,) = [body["response_format"] for body in server.bodies if "response_format" in body]
    assert shaped["json_schema"]["schema"]["required"][0] == "verdict"
    state = run_json("show", "r", cwd=tmp_path)
    assert state["outcomes"].get("ok", 0) >= 2
