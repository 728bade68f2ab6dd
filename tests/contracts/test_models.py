"""What every kind of model keeps to: a script, a command, a person, a server."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from model_server import Answer, ModelServer

from evolve.errors import ModelUnavailableError
from evolve.models.budget import Budget
from evolve.models.endpoint import Endpoint
from evolve.models.litellm_model import LiteLLMModel
from evolve.models.model import Model
from evolve.models.offline_models import ManualModel, ScriptedModel
from evolve.models.roster import open_model
from evolve.records.chat import Message, Request

KINDS = ("scripted", "command", "manual", "server")


@contextmanager
def person(folder: Path) -> Iterator[None]:
    """Somebody who answers every prompt in a folder."""

    def answer() -> None:
        while not has_left.wait(0.02):
            for prompt in folder.glob("*.prompt.md"):
                prompt.with_name(prompt.name.replace("prompt", "reply")).write_text("because")

    has_left = threading.Event()
    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        has_left.set()
        thread.join()


@pytest.fixture(params=KINDS)
def model(request, tmp_path) -> Iterator[Model]:
    with person(tmp_path), ModelServer([Answer("because")]) as server:
        kinds = {
            "scripted": lambda: ScriptedModel({"editor": ["because"]}),
            "command": lambda: open_model(f"cmd:{sys.executable} -c \"print('because')\""),
            "manual": lambda: ManualModel(tmp_path, tell=lambda _: None, poll_seconds=0.02),
            "server": lambda: LiteLLMModel("openai/tiny", api_base=server.url),
        }
        made = kinds[request.param]()
        yield made
        made.close()


def ask(text: str) -> Request:
    return Request("editor", (Message("system", "Be brief."), Message("user", text)), 50)


def test_a_reply_is_text_and_says_who_wrote_it(model: Model):
    reply = model.complete(ask("Why?"), 30.0)
    assert (reply.text, reply.model, reply.finish_reason) == ("because", model.name, "stop")


def test_many_threads_ask_at_a_time(model: Model):
    with ThreadPoolExecutor(6) as threads:
        requests = [ask(f"Why {number}?") for number in range(12)]
        replies = list(threads.map(lambda one: model.complete(one, 30.0), requests))
    assert [reply.text for reply in replies] == ["because"] * 12
    assert model.incoming.answers == 0


def test_every_call_is_in_the_ledger_once_with_tokens_and_price(model: Model):
    budget, endpoint = Budget(), Endpoint(model)
    for number in range(3):
        endpoint.complete(ask(f"Why {number}?"), 30.0, budget)
    used = budget.total
    assert used.calls == 3
    assert used.prompt_tokens > 0
    # What has no price is counted as such, never as free.
    has_price = model.find_price() is not None
    assert (used.unpriced_calls, used.cost_usd) == (0 if has_price else 3, 0.0)


def test_it_is_ready_when_it_says_so(model: Model):
    first = model.prepare()
    assert first is None or model.complete(first, 30.0).text == "because"


def test_a_closed_model_answers_or_says_so_and_may_be_closed_again(model: Model):
    model.close()
    model.close()
    try:
        text = model.complete(ask("Why?"), 30.0).text
    except ModelUnavailableError as error:
        text = str(error)
    assert text == "because" or text.endswith("closed")
