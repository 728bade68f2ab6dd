import json
import threading

import pytest

from evolve.edits import apply_reply
from evolve.errors import ModelUnavailableError, UsageError
from evolve.models.budget import FREE, Budget, Price
from evolve.models.endpoint import Endpoint
from evolve.models.model import ReplyError
from evolve.models.offline_models import ManualModel, ScriptedModel, hash_request
from evolve.models.roster import open_model
from evolve.records import Program, SourceFile
from evolve.records.chat import Message, Request
from evolve.settings.sections import BudgetSettings

SOURCE = """import math

FROZEN = 7.5
# EVOLVE-BLOCK-START
def pack(count):
    radius = 0.3  # not 99
    text = "5"
    again = 0.5
    for i in range(8):
        again = 0.5
    return radius * 2
# EVOLVE-BLOCK-END
"""


def ask(role: str, *, seed: int = 0, source: str = SOURCE) -> Request:
    prompt = f"Improve this:\n\n```python\n{source}```\n\nEdits, please."
    messages = (Message("system", "Be brief."), Message("user", prompt))
    return Request(role, messages, max_tokens=100, seed=seed)


def test_the_same_request_gets_the_same_reply_and_another_seed_another():
    model = ScriptedModel()
    texts = [model.complete(ask("editor", seed=seed), 1.0).text for seed in range(20)]
    assert texts == [ScriptedModel().complete(ask("editor", seed=s), 1.0).text for s in range(20)]
    assert len(set(texts)) > 10


@pytest.mark.parametrize("change", [{"role": "planner"}, {"max_tokens": 9}, {"temperature": 0.5}])
def test_everything_in_a_request_counts(change):
    values = {"role": "editor", "max_tokens": 5, "temperature": None}
    message = (Message("user", "hello"),)
    first, second = (Request(messages=message, **{**values, **extra}) for extra in ({}, change))
    assert hash_request(first) != hash_request(second)


@pytest.mark.parametrize("seed", range(30))
def test_a_built_in_edit_applies_and_changes_one_number_in_the_block(seed):
    reply = ScriptedModel().complete(ask("editor", seed=seed), 1.0)
    program = apply_reply(Program((SourceFile("initial.py", SOURCE),)), reply.text)
    assert isinstance(program, Program)
    old, new = SOURCE.splitlines(), program.entry.text.splitlines()
    changed = [a for a, b in zip(old, new, strict=True) if a != b]
    assert len(changed) == 1
    assert any(part in changed[0] for part in ("radius", "again", "range"))


def test_a_built_in_edit_needs_a_number_in_the_program():
    with pytest.raises(ReplyError, match="no number to change"):
        ScriptedModel().complete(ask("editor", source="def f():\n    return x1\n"), 1.0)
    bare = Request("editor", (Message("user", "no program"),), max_tokens=1)
    with pytest.raises(ReplyError, match="no fenced program"):
        ScriptedModel().complete(bare, 1.0)


@pytest.mark.parametrize(
    ("role", "keys"),
    [
        ("planner", {"hypothesis", "change", "risk", "tags"}),
        ("summarizer", {"verdict", "cause", "lesson", "tags"}),
    ],
)
def test_plans_and_summaries_are_json(role, keys):
    assert set(json.loads(ScriptedModel().complete(ask(role), 1.0).text)) == keys


def test_a_script_gives_texts_or_a_function_by_role():
    script = {"planner": ["one", "two"], "editor": lambda request: f"seed {request.seed}"}
    model = ScriptedModel(script, latency_seconds=0.001)
    plans = {model.complete(ask("planner", seed=seed), 1.0).text for seed in range(20)}
    assert plans == {"one", "two"}
    reply = model.complete(ask("editor", seed=4), 1.0)
    assert reply.text == "seed 4"
    assert model.find_price() == FREE
    assert reply.prompt_tokens > 0


def test_a_scripted_model_costs_nothing_and_is_always_ready():
    model = open_model("scripted")
    assert model.prepare() is None
    model.close()
    assert model.name == "scripted"
    assert model.find_price() == Price(0.0, 0.0)


def test_a_script_is_read_from_a_file(tmp_path):
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"editor": ["always this"], "latency_seconds": 0}))
    model = open_model(f"scripted:{path}")
    assert model.name == "scripted:script.json"
    assert model.complete(ask("editor"), 1.0).text == "always this"
    assert "hypothesis" in model.complete(ask("planner"), 1.0).text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "script.json.*give a JSON file"),
        ("[]", "expected an object"),
        ('{"edit": ["a"]}', "unknown role 'edit'; use planner, editor"),
        ('{"editor": []}', "expected a list of texts for 'editor'"),
        ('{"editor": "text"}', "expected a list of texts for 'editor'"),
    ],
)
def test_a_bad_script_is_refused(tmp_path, text, message):
    path = tmp_path / "script.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        open_model(f"scripted:{path}")


def test_a_missing_script_and_an_empty_name_are_refused(tmp_path):
    with pytest.raises(UsageError, match="give a JSON file"):
        open_model(f"scripted:{tmp_path / 'none.json'}")
    with pytest.raises(UsageError, match="got an empty one"):
        open_model(" ")


PLANNED = Request("planner", (Message("user", "What now?"),), 50)


def make_manual(folder) -> tuple[ManualModel, list[str]]:
    told: list[str] = []
    return ManualModel(folder / "manual", tell=told.append, poll_seconds=0.02), told


def test_the_prompt_is_written_and_the_reply_waited_for(tmp_path):
    model, told = make_manual(tmp_path)

    def answer() -> None:
        (prompt,) = (tmp_path / "manual").glob("planner-*.prompt.md")
        assert prompt.read_text() == "What now?\n"
        prompt.with_name(prompt.name.replace("prompt", "reply")).write_text("Try harder.\n")

    timer = threading.Timer(0.3, answer)
    timer.start()
    budget = Budget(BudgetSettings(max_cost_usd=0.0))
    reply = Endpoint(model, request_seconds=0.1).complete(PLANNED, 0.1, budget)
    timer.join()
    assert reply.text == "Try harder.\n"
    assert reply.cost_usd == 0.0
    assert len(told) == 1
    assert "reply wanted: " in told[0]


def test_a_reply_that_was_written_meanwhile_is_taken_at_once(tmp_path):
    model, told = make_manual(tmp_path)
    threading.Timer(0.2, model.close).start()
    with pytest.raises(ModelUnavailableError, match="closed"):
        model.complete(PLANNED, 1.0)
    again, told = make_manual(tmp_path)
    (tmp_path / "manual" / f"planner-{PLANNED.hash[:12]}.reply.md").write_text("Here.")
    assert again.complete(PLANNED, 1.0).text == "Here."
    assert told == []


def test_other_requests_have_other_files(tmp_path):
    model, _ = make_manual(tmp_path)
    threading.Timer(0.2, model.close).start()
    for text in ("a", "b"):
        with pytest.raises(ModelUnavailableError, match="closed"):
            model.complete(Request("editor", (Message("user", text),), 5), 1.0)
    assert len(list((tmp_path / "manual").glob("*.prompt.md"))) == 2
