import threading

import pytest

from evolve.errors import ModelUnavailableError
from evolve.models.budget import Budget
from evolve.models.endpoint import Endpoint
from evolve.models.manual_model import ManualModel
from evolve.records.chat import Message, Request

REQUEST = Request("planner", (Message("user", "What now?"),), 50)


def make_model(folder) -> tuple[ManualModel, list[str]]:
    told: list[str] = []
    return ManualModel(folder / "manual", tell=told.append, poll_seconds=0.02), told


def test_the_prompt_is_written_and_the_reply_waited_for(tmp_path):
    model, told = make_model(tmp_path)

    def answer() -> None:
        (prompt,) = (tmp_path / "manual").glob("planner-*.prompt.md")
        assert prompt.read_text() == "What now?\n"
        prompt.with_name(prompt.name.replace("prompt", "reply")).write_text("Try harder.\n")

    timer = threading.Timer(0.3, answer)
    timer.start()
    budget = Budget(max_cost_usd=0.0)
    reply = Endpoint(model, request_seconds=0.1).complete(REQUEST, 0.1, budget)
    timer.join()
    assert reply.text == "Try harder.\n"
    assert reply.cost_usd == 0.0
    assert len(told) == 1
    assert "reply wanted: " in told[0]


def test_a_reply_that_was_written_meanwhile_is_taken_at_once(tmp_path):
    model, told = make_model(tmp_path)
    threading.Timer(0.2, model.close).start()
    with pytest.raises(ModelUnavailableError, match="closed"):
        model.complete(REQUEST, 1.0)
    again, told = make_model(tmp_path)
    (tmp_path / "manual" / f"planner-{REQUEST.hash[:12]}.reply.md").write_text("Here.")
    assert again.complete(REQUEST, 1.0).text == "Here."
    assert told == []


def test_other_requests_have_other_files(tmp_path):
    model, _ = make_model(tmp_path)
    threading.Timer(0.2, model.close).start()
    for text in ("a", "b"):
        with pytest.raises(ModelUnavailableError, match="closed"):
            model.complete(Request("editor", (Message("user", text),), 5), 1.0)
    assert len(list((tmp_path / "manual").glob("*.prompt.md"))) == 2
