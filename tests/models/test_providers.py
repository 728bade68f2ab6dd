"""Each provider's ways, played by a real server and asked through LiteLLM."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from model_server import Answer, ModelServer

from evolve.errors import ModelError, UsageError
from evolve.models.budget import Budget, Price
from evolve.models.endpoint import Endpoint, RetryPolicy
from evolve.models.gate import Gate
from evolve.models.litellm_model import LiteLLMModel
from evolve.models.model import ReplyError
from evolve.records.chat import Message, Reply, Request
from evolve.settings.sections import BudgetSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SYSTEM, USER = "You plan.", "What now?"
REQUEST = Request(
    "planner", (Message("system", SYSTEM), Message("user", USER)), temperature=0.5, seed=3,
    schema='{"type": "object"}', effort="low",
)  # fmt: skip
FAST = RetryPolicy(first_seconds=0.01, longest_seconds=0.02)
KEYS = (
    "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "DEEPSEEK_API_KEY", "AZURE_API_KEY",
    "OPENROUTER_API_KEY",
)  # fmt: skip
UNSUPPORTED = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use"
    " 'max_completion_tokens' instead."
)
TOO_LARGE = "max_tokens is too large: 8192. This model supports at most 4096 completion tokens"
NO_ROOM = (
    "This model's maximum context length is 5000 tokens. However, you requested 9000 tokens (808 in"
    " the messages, 8192 in the completion)."
)
# Provider, and the part of the server's address that it is given.
PROVIDERS = {
    "openai/o4-mini": "/v1",
    "openai/tiny": "/v1",
    "anthropic/claude-sonnet-4-5": "",
    "gemini/gemini-2.5-flash": "/v1beta/models/gemini-2.5-flash",
    "deepseek/deepseek-reasoner": "/v1",
    "ollama/qwen3": "",
    "ollama_chat/qwen3": "",
    "hosted_vllm/qwen3": "/v1",
    "azure/o4-mini": "",
    "openrouter/deepseek/deepseek-r1": "/v1",
}


@pytest.fixture(autouse=True)
def keys() -> Iterator[None]:
    before = dict(os.environ)
    os.environ |= dict.fromkeys(KEYS, "sk-of-the-test-0123456789")
    os.environ["AZURE_API_VERSION"] = "2024-12-01-preview"
    yield
    os.environ.clear()
    os.environ |= before


def open_endpoint(
    server: ModelServer,
    name: str = "openai/tiny",
    *,
    told: list[str] | None = None,
    price: Price | None = None,
    **options: Any,
) -> Endpoint:
    base = server.url.removesuffix("/v1") + PROVIDERS[name]
    tell = [].append if told is None else told.append
    model = LiteLLMModel(name, api_base=base, tell=tell, **options)
    gate = Gate(f"model {name!r}", outage_seconds=0.5, tell=tell)
    return Endpoint(model, policy=FAST, gate=gate, price=price)


def ask(endpoint: Endpoint, request: Request = REQUEST, budget: Budget | None = None) -> Reply:
    return endpoint.complete(request, 30.0, budget or Budget())


def refuse(words: str, message: str, status: int = 400):
    """Refuses what a condition on the request's body finds, and answers all else."""

    def answer(body: Mapping[str, Any]) -> Answer:
        found = eval(words, {}, {"body": body, "roles": [m["role"] for m in body["messages"]]})
        return Answer(message, status=status) if found else Answer("the answer")

    return answer


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("name", PROVIDERS)
def test_the_answer_of_every_provider_comes_without_its_thinking(name, pieces):
    answer = Answer(
        "the answer", thinking="a draft", thinking_tokens=900, completion_tokens=910, pieces=pieces
    )
    with ModelServer([answer]) as server:
        reply = ask(open_endpoint(server, name))
        bodies = server.bodies
    assert (reply.text, reply.finish_reason) == ("the answer", "stop")
    assert (reply.prompt_tokens, reply.completion_tokens) == (11, 910)
    # Of those that do not report them, LiteLLM counts what it saw.
    is_reported = "ollama" not in name and "anthropic" not in name
    assert reply.thinking_tokens == 900 if is_reported else reply.thinking_tokens > 0
    if name.startswith("anthropic"):
        assert bodies[-1]["max_tokens"] == 64_000
    else:
        assert "max_tokens" not in json.dumps(bodies[-1])


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_answer_is_streamed_where_the_provider_can(name):
    with ModelServer([Answer("the answer is long", thinking="a draft", pieces=9)]) as server:
        endpoint = open_endpoint(server, name)
        ask(endpoint)
    assert endpoint.incoming.characters >= len("the answer is long")
    assert endpoint.incoming.answers == 0


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_preflight_reaches_every_provider(name):
    with ModelServer([Answer("ok")]) as server:
        assert open_endpoint(server, name).preflight().model == name
        # LiteLLM asks Ollama what its model can do.
        assert len([path for path in server.paths if path != "/api/show"]) == 1


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("temperature", "Unsupported value: 'temperature' does not support 0.5 with this model"),
        ("seed", "Unsupported parameter: seed"),
        ("response_format", "response_format json_schema is not supported"),
        ("response_format", "something is odd"),
        ("reasoning_effort", "Unrecognized request argument: reasoning_effort"),
        ("stream_options", "Extra inputs are not permitted: stream_options"),
        ("stream", "Your organization must be verified to stream this model"),
    ],
)
def test_a_setting_that_is_refused_is_left_out_and_said_once(left_out, message):
    told: list[str] = []
    with ModelServer(refuse(f"{left_out!r} in body", message)) as server:
        endpoint = open_endpoint(server, told=told)
        for _ in range(3):
            assert ask(endpoint).text == "the answer"
        assert server.count == 4
        assert left_out not in server.bodies[-1]
    assert len(told) == 1
    assert f"refuses `{left_out}`, which is left out from now on" in told[0]
    assert message in told[0]


@pytest.mark.parametrize(
    "message", ["System role not supported", "Conversation roles must alternate user/assistant/..."]
)
def test_a_system_message_that_is_refused_becomes_the_users(message):
    with ModelServer(refuse("'system' in roles", message)) as server:
        assert ask(open_endpoint(server)).text == "the answer"
        assert server.bodies[-1]["messages"] == [{"role": "user", "content": f"{SYSTEM}\n\n{USER}"}]


def test_turns_alternate_where_a_server_wants_it():
    messages = (*REQUEST.messages, Message("user", "And?"), Message("assistant", "So."))
    turns = "any(a == b for a, b in zip(roles, roles[1:])) or roles[0] == 'system'"
    with ModelServer(refuse(turns, "Conversation roles must alternate")) as server:
        assert ask(open_endpoint(server), Request("editor", messages)).text == "the answer"


def test_a_server_that_fails_to_compile_a_grammar_is_asked_without():
    script = refuse("'response_format' in body", "Failed to compile grammar", status=500)
    with ModelServer(script) as server:
        assert ask(open_endpoint(server)).text == "the answer"
        assert server.count == 2


def test_what_the_settings_drop_is_never_sent():
    with ModelServer() as server:
        ask(open_endpoint(server, drop=["seed", "system", "stream"]))
        assert not {"seed", "stream", "stream_options"} & set(server.bodies[0])
        assert [message["role"] for message in server.bodies[0]["messages"]] == ["user"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_extra_settings_and_other_names_reach_every_provider(name):
    changes = {"rename": {"seed": "random_seed"}, "extra": {"num_ctx": 32768}}
    with ModelServer([Answer("the answer")]) as server:
        assert ask(open_endpoint(server, name, **changes)).text == "the answer"
        body = json.dumps(server.bodies)
    assert '"num_ctx": 32768' in body
    assert '"seed"' not in body
    assert '"random_seed": 3' in body or name.startswith(("anthropic", "gemini"))


def test_a_limit_is_sent_under_the_name_that_the_settings_give_it():
    rename = {"max_tokens": "max_new_tokens"}
    with ModelServer() as server:
        ask(open_endpoint(server, rename=rename), replace(REQUEST, max_tokens=99))
        assert server.bodies[0]["max_new_tokens"] == 99
        assert "max_tokens" not in server.bodies[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": ["sead"]}, "`drop`: expected names among system, max_tokens"),
        ({"rename": {"sead": "seed"}}, "`rename`: expected names among system"),
        ({"extra": {"seed": 1}}, "`extra`: `seed` is set elsewhere"),
    ],
)
def test_unknown_settings_to_change_are_errors(changes, message):
    with pytest.raises(UsageError, match=message):
        LiteLLMModel("openai/tiny", **changes)


def test_a_model_that_is_being_loaded_is_waited_for():
    told: list[str] = []
    script = [Answer("Loading model", status=503)] * 6 + [Answer("ok")]
    with ModelServer(script) as server:
        endpoint = open_endpoint(server, told=told)
        assert endpoint.preflight().text == "ok"
        assert server.count == 7
    assert len(told) == 1
    assert "its server is loading it; waited for up to 900 s" in told[0]


def test_a_model_that_is_gone_is_not_asked_again():
    with ModelServer([Answer("This model has been retired", status=410)]) as server:
        with pytest.raises(ModelError, match="has been retired"):
            open_endpoint(server).preflight()
        assert server.count == 1


@pytest.mark.parametrize(("no_proxy", "is_named"), [("", True), ("127.0.0.1", False)])
def test_a_proxy_that_swallows_an_address_is_named(no_proxy, is_named):
    proxy = "http://me:secret-word@127.0.0.1:8080"
    os.environ |= dict.fromkeys(("HTTP_PROXY", "http_proxy"), proxy)
    os.environ |= dict.fromkeys(("NO_PROXY", "no_proxy"), no_proxy)
    remedy = LiteLLMModel("openai/tiny", api_base="http://127.0.0.1:9/v1").remedy
    assert ("through the proxy 127.0.0.1:8080 (HTTP_PROXY)" in remedy) == is_named
    assert ("add 127.0.0.1 to NO_PROXY" in remedy) == is_named
    assert "secret-word" not in remedy


@pytest.mark.parametrize(
    ("name", "given", "right"),
    [("openai/tiny", "", "/v1"), ("ollama/qwen3", "/v1", ""), ("ollama_chat/qwen3", "/v1", "")],
)
def test_an_address_with_the_wrong_path_gets_a_hint(name, given, right):
    with ModelServer([Answer("Not Found", status=404)]) as server:
        base = server.url.removesuffix("/v1")
        with pytest.raises(ModelError, match=f"try {base}{right}, or check that the server"):
            Endpoint(LiteLLMModel(name, api_base=base + given), policy=FAST).preflight()


class TestLimits:
    LIMITED = Request("planner", REQUEST.messages, max_tokens=8192)

    def test_a_limit_may_have_the_other_name(self):
        with ModelServer(refuse("'max_tokens' in body", UNSUPPORTED)) as server:
            assert ask(open_endpoint(server), self.LIMITED).text == "the answer"
            assert server.bodies[-1]["max_completion_tokens"] == 8192

    @pytest.mark.parametrize(("message", "most"), [(TOO_LARGE, 4096), (NO_ROOM, 4192)])
    def test_a_limit_that_is_too_large_is_lowered(self, message, most):
        told: list[str] = []
        script = refuse(f"body.get('max_tokens', 0) > {most}", message)
        with ModelServer(script) as server:
            endpoint = open_endpoint(server, told=told)
            for _ in range(2):
                assert ask(endpoint, self.LIMITED).text == "the answer"
            assert [body["max_tokens"] for body in server.bodies] == [8192, most, most]
        assert len(told) == 1
        assert f"at most {most} tokens" in told[0]

    def test_a_limit_that_is_never_taken_is_left_out(self):
        words = "'max_tokens' in body or 'max_completion_tokens' in body"
        with ModelServer(refuse(words, "max_tokens is not supported")) as server:
            assert ask(open_endpoint(server), self.LIMITED).text == "the answer"
            assert "max_tokens" not in server.bodies[-1]

    def test_thinking_that_leaves_no_room_for_an_answer_is_asked_again_with_more(self):
        def answer(body: Mapping[str, Any]) -> Answer:
            if body.get("max_tokens", 10**6) >= 3000:
                return Answer("the answer", completion_tokens=3000, thinking_tokens=2990)
            return Answer("", finish_reason="length", completion_tokens=body["max_tokens"])

        budget = Budget(BudgetSettings(max_cost_usd=0.06))
        with ModelServer(answer) as server:
            endpoint = open_endpoint(server, price=Price(0, 10e-6))
            reply = ask(endpoint, Request("planner", REQUEST.messages), budget)
            assert (reply.text, reply.thinking_tokens) == ("the answer", 2990)
            assert all(body["max_tokens"] >= 256 for body in server.bodies)
            assert server.count <= 2

    def test_a_reply_that_is_cut_off_is_asked_for_once_more_with_twice_the_limit(self):
        cut = Answer("{", finish_reason="length", completion_tokens=2000)
        with ModelServer([cut]) as server:
            reply = ask(open_endpoint(server), Request("planner", REQUEST.messages))
            assert "max_tokens" not in server.bodies[0]
            assert server.bodies[1]["max_tokens"] >= 4000
            assert server.count == 2
        assert (reply.text, reply.finish_reason, reply.completion_tokens) == ("{", "length", 4000)

    def test_a_limit_of_the_user_holds(self):
        cut = Answer("", finish_reason="length", completion_tokens=20)
        with ModelServer([cut]) as server:
            with pytest.raises(ReplyError, match="cut off after 20 tokens, before the answer"):
                ask(open_endpoint(server), Request("planner", REQUEST.messages, 20))
            assert server.count == 1


class TestThinking:
    @pytest.mark.parametrize(
        "text",
        [
            "<think>\ndraft\n</think>\n\nthe answer",
            "\n\n<thought>draft</thought>the answer",
            "draft\n</think>\nthe answer",
        ],
    )
    def test_in_the_text_it_is_no_answer(self, text):
        with ModelServer([Answer(text)]) as server:
            assert ask(open_endpoint(server)).text == "the answer"

    @pytest.mark.parametrize("drop", [(), ("stream",)])
    def test_in_typed_parts_it_is_no_answer(self, drop):
        parts = [
            {"type": "thinking", "thinking": [{"type": "text", "text": "draft"}]},
            {"type": "text", "text": "the "},
            {"type": "text", "text": "answer"},
        ]
        with ModelServer([Answer(parts=parts)]) as server:
            assert ask(open_endpoint(server, drop=drop)).text == "the answer"

    def test_cut_off_in_the_middle_it_is_no_answer(self):
        whole = Answer("draft one\n</think>\nthe answer")
        cut = Answer("draft two", finish_reason="length", completion_tokens=50)
        with ModelServer([whole, cut, cut]) as server:
            endpoint = open_endpoint(server)
            assert ask(endpoint).text == "the answer"
            with pytest.raises(ReplyError, match="before the answer began"):
                ask(endpoint)
            assert server.count == 3

    def test_an_unclosed_one_is_no_answer(self):
        cut = Answer("<think>{'change': 'draft'}", finish_reason="length", completion_tokens=50)
        with ModelServer([cut]) as server, pytest.raises(ReplyError, match="before the answer"):
            ask(open_endpoint(server))

    def test_alone_it_is_an_empty_reply(self):
        only = Answer("", thinking="{'change': 'draft'}")
        with ModelServer([only]) as server, pytest.raises(ReplyError, match="an empty reply"):
            ask(open_endpoint(server))


class TestStreams:
    def test_an_answer_that_falls_silent_is_asked_for_again(self):
        silent = Answer("the answer", pieces=2, gap_seconds=2.0)
        with ModelServer([silent, Answer("fine")]) as server:
            assert ask(open_endpoint(server, idle_seconds=0.4)).text == "fine"
            assert server.count == 2

    def test_an_answer_that_comes_in_slowly_is_waited_for(self):
        slow = Answer("the answer", pieces=10, gap_seconds=0.2)
        with ModelServer([slow]) as server:
            assert ask(open_endpoint(server, idle_seconds=1.0)).text == "the answer"
            assert server.count == 1

    def test_a_stream_that_breaks_off_is_a_lost_request(self):
        budget = Budget()
        with ModelServer([Answer("the answer", cut_after=300), Answer("fine")]) as server:
            assert ask(open_endpoint(server), budget=budget).text == "fine"
        assert budget.total.lost_requests == 1

    def test_an_error_in_a_stream_is_one(self):
        body = b'data: {"error": {"message": "overloaded", "code": 529}}\n\ndata: [DONE]\n\n'
        stream = Answer(body=body, headers={"Content-Type": "text/event-stream"})
        with ModelServer([stream, Answer("fine")]) as server:
            assert ask(open_endpoint(server)).text == "fine"


@pytest.mark.parametrize("name", ["openai/tiny", "openrouter/deepseek/deepseek-r1"])
def test_an_error_inside_a_success_is_one(name):
    error = json.dumps({"error": {"message": "model overloaded", "code": 529}}).encode()
    with ModelServer([Answer(body=error), Answer("fine")]) as server:
        assert ask(open_endpoint(server, name)).text == "fine"
        assert server.count == 2


def test_a_prompt_that_is_too_long_is_told_from_a_limit_that_is():
    message = "This model's maximum context length is 4096 tokens, your messages have 9000 tokens"
    with ModelServer([Answer(message, status=400)]) as server:
        with pytest.raises(ReplyError, match="prompt is too long"):
            ask(open_endpoint(server))
        assert server.count == 1


@pytest.mark.parametrize(
    "message",
    [
        "Incorrect API key provided: sk-of-the-test-0123456789. You can find yours",
        "Incorrect API key provided: sk-of-t*************6789.",
        "bad header Authorization: Bearer sk-of-the-test-0123456789",
    ],
)
def test_a_key_that_an_error_echoes_is_cut_out(message):
    with ModelServer([Answer(message, status=401)]) as server, pytest.raises(ModelError) as caught:
        ask(open_endpoint(server))
    assert "sk-of" not in str(caught.value)
    assert "***" in str(caught.value) or "_API_KEY]" in str(caught.value)
