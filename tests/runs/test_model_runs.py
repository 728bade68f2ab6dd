import json
import time
from base64 import b64encode

import pytest

from tests.commands import UNTUNED, run_evolve, run_json, start_evolve
from tests.model_server import Answer, ModelServer, answer_like_scripted

KEY = {"OPENAI_API_KEY": "sk-test"}


def asked(server: ModelServer) -> tuple[str, ...]:
    return ("--model", "openai/test", "--api-base", server.url, "--run-dir", "r", *UNTUNED)


def test_a_run_over_http_counts_every_call_and_token(tmp_path, problem):
    with ModelServer(answer_like_scripted) as server:
        run_evolve("run", problem, *asked(server), "--generations", 3, cwd=tmp_path, **KEY)
        state = run_json("show", "r", cwd=tmp_path)
        # One more request than calls: the preflight, which belongs to no slot.
        assert state["calls"] == server.count - 1
        assert state["champion"]["objective"] > state["initial"]["objective"]
    answers = [answer_like_scripted(body) for body in server.bodies]
    used = sum(answer.prompt_tokens + answer.completion_tokens for answer in answers)
    assert state["tokens"] == used == sum(part["tokens"] for part in state["models"])
    assert {part["role"]: part["calls"] for part in state["models"]}["preflight"] == 0
    # That of the preflight is unknown, too.
    assert state["unpriced_calls"] == state["calls"] + 1


def test_failures_in_between_lose_nothing(tmp_path, problem):
    count = 0

    def misbehave(body) -> Answer:
        nonlocal count
        count += 1
        good = answer_like_scripted(body)
        return {
            3: Answer("busy", status=429, headers={"Retry-After": "0"}),
            6: Answer("broken", status=500),
            9: Answer(body=b"{not json"),
            12: Answer(has_choices=False),
            15: Answer(cut_after=20),
            18: Answer("", finish_reason="content_filter"),
            21: Answer("I cannot help with that."),
        }.get(count % 24, good)

    with ModelServer(misbehave) as server:
        run_evolve("run", problem, *asked(server), "--generations", 2, cwd=tmp_path, **KEY)
    state = run_json("show", "r", cwd=tmp_path)
    assert state["status"] == "finished"
    assert sum(state["outcomes"].values()) == state["attempts"] >= 9


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer("Incorrect API key", status=401, error_code="invalid_api_key"), "key"),
        (Answer("no such model", status=404, error_code="model_not_found"), "model"),
    ],
)
def test_a_wrong_key_or_name_stops_before_the_first_generation(tmp_path, problem, answer, words):
    with ModelServer([answer]) as server:
        done = run_evolve("run", problem, *asked(server), cwd=tmp_path, code=4, **KEY)
    assert "openai/test" in done.stderr
    assert words in done.stderr
    assert not (tmp_path / "r").exists()


def test_an_endpoint_that_is_down_stops_before_the_first_generation(tmp_path, problem):
    with ModelServer() as server:
        pass
    done = run_evolve("run", problem, *asked(server), cwd=tmp_path, code=4, **KEY)
    assert f":{server.port}" in done.stderr
    assert not (tmp_path / "r").exists()


def test_a_model_without_a_provider_is_an_error(tmp_path, problem):
    done = run_evolve("run", problem, "--model", "nonsense", cwd=tmp_path, code=2)
    assert "provider" in done.stderr
    run_evolve("run", problem, "--model", "cmd:no-such-tool", cwd=tmp_path, code=2)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_key_that_is_withdrawn_stops_a_run_which_another_model_can_continue(tmp_path, problem):
    withdrawn = False

    def answer(body) -> Answer:
        if withdrawn and body["model"] == "test":
            return Answer("Incorrect API key", status=401, error_code="invalid_api_key")
        return answer_like_scripted(body)

    with ModelServer(answer, delay=0.02) as server:
        process = start_evolve(
            "run", problem, *asked(server), "--generations", 4, cwd=tmp_path, **KEY
        )
        while server.count < 20 and process.poll() is None:
            time.sleep(0.01)
        withdrawn = True
        out, err = process.communicate(timeout=60)
        assert process.returncode == 4, out
        assert "key" in err
        assert "evolve resume" in err
        state = run_json("show", "r", cwd=tmp_path)
        assert state["status"] == "stopped"
        assert state["stopped_because"].startswith("ModelError")
        done = run_evolve("resume", "r", "--set", "loop.seed=7", cwd=tmp_path, code=2)
        assert "resume: `loop.seed`: expected 0" in done.stderr
        # Slots that were begun with the old model go on with the new one.
        address = server.url.replace("//", "//me:sesame-open@")
        changes = ("--model", "openai/other", "--api-base", address, "--set", "loop.slots=3")
        done = run_evolve("resume", "r", *changes, cwd=tmp_path, **KEY)
        assert server.bodies[-1]["model"] == "other"
        assert server.keys[-1] == "Basic " + b64encode(b"me:sesame-open").decode()
    assert run_json("show", "r", cwd=tmp_path)["status"] == "finished"
    shown = run_evolve("show", "r", cwd=tmp_path).stdout
    assert "models.model ['openai/test'] -> ['openai/other']" in shown
    assert "loop.slots 4 -> 3" in shown
    assert "sesame" not in done.stdout + done.stderr + shown
    for path in (tmp_path / "r").rglob("*"):
        assert not path.is_file() or b"sesame" not in path.read_bytes(), path


def test_the_key_reaches_neither_database_nor_evaluator(tmp_path, problem):
    evaluator = (problem / "evaluator.py").read_text()
    spy = evaluator.replace(
        "def evaluate(program):",
        "import os\n\ndef evaluate(program):\n    assert not [k for k in os.environ if 'KEY' in k]",
    )
    (problem / "evaluator.py").write_text(spy)
    with ModelServer(answer_like_scripted) as server:
        run_evolve("run", problem, *asked(server), "--generations", 1, cwd=tmp_path, **KEY)
    assert {"sk-test"} == set(server.keys)
    for path in (tmp_path / "r").rglob("*"):
        if path.is_file():
            assert b"sk-test" not in path.read_bytes(), path
    assert json.loads((tmp_path / "r" / "best" / "verdict.json").read_text())["status"] == "ok"
