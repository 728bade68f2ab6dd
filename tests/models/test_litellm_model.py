import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from typing import Any

import pytest
from model_server import Answer, ModelServer, answer_like_scripted

from evolve.errors import ModelError, ModelUnavailableError, UsageError
from evolve.models.budget import Budget, Price
from evolve.models.endpoint import Endpoint, RetryPolicy
from evolve.models.gate import Gate
from evolve.models.litellm_model import LiteLLMModel
from evolve.models.model import ReplyError
from evolve.models.roster import open_model
from evolve.records.chat import Message, Reply, Request

REQUEST = Request("editor", (Message("system", "s"), Message("user", "u")), max_tokens=20)
FAST = RetryPolicy(first_seconds=0.01, longest_seconds=0.02)
OVERFLOW = b'{"error":{"code":400,"message":"the request exceeds the available context size"}}'


def model_at(server: ModelServer) -> LiteLLMModel:
    return LiteLLMModel("openai/tiny", api_base=server.url)


def endpoint_at(
    server: ModelServer, *, request_seconds: float = 5.0, outage_seconds: float = 0.5
) -> Endpoint:
    model = model_at(server)
    gate = Gate(f"model 'openai/tiny' at {server.url}", outage_seconds=outage_seconds)
    return Endpoint(model, policy=FAST, request_seconds=request_seconds, gate=gate)


def ask(server: ModelServer, deadline: float = 20.0, **options: Any) -> Reply:
    return endpoint_at(server, **options).complete(REQUEST, deadline, Budget())


def complete(*script: Answer, **options: Any) -> tuple[Reply, int]:
    with ModelServer(script) as server:
        return ask(server, **options), server.count


def test_a_reply_comes_with_its_usage():
    reply, requests = complete(Answer("fine", prompt_tokens=5, completion_tokens=2))
    assert requests == 1
    assert (reply.text, reply.model, reply.finish_reason) == ("fine", "openai/tiny", "stop")
    assert (reply.prompt_tokens, reply.completion_tokens, reply.cost_usd) == (5, 2, None)
    assert 0 < reply.seconds < 20


def test_only_settings_that_were_set_are_sent():
    with ModelServer() as server:
        model = model_at(server)
        model.complete(REQUEST, 20.0)
        full = Request("editor", REQUEST.messages, max_tokens=9, temperature=0.5, seed=3)
        model.complete(full, 20.0)
        assert server.bodies[0] == {
            "model": "tiny",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
            "max_tokens": 20,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        assert server.bodies[1].items() >= {"max_tokens": 9, "temperature": 0.5, "seed": 3}.items()


def test_pictures_go_as_parts_of_their_message():
    address = "data:image/png;base64,iVBORw0KGgo="
    messages = (Message("system", "s"), Message("user", "u", (address, address)))
    with ModelServer() as server:
        model_at(server).complete(Request("editor", messages, max_tokens=9), 20.0)
        system, user = server.bodies[0]["messages"]
    part = {"type": "image_url", "image_url": {"url": address}}
    assert system == {"role": "system", "content": "s"}
    assert user == {"role": "user", "content": [{"type": "text", "text": "u"}, part, part]}


def test_a_price_in_the_table_gives_the_cost():
    with ModelServer([Answer(prompt_tokens=1000, completion_tokens=100)]) as server:
        model = LiteLLMModel("openai/gpt-4o", api_base=server.url)
        reply = Endpoint(model).complete(REQUEST, 20.0, Budget())
        price = model.find_price()
    assert isinstance(price, Price)
    assert reply.cost_usd == pytest.approx(1000 * price.prompt_usd + 100 * price.completion_usd)


@pytest.mark.parametrize(
    "answer",
    [
        *(Answer("bad", status=status) for status in (408, 429, 500, 502, 503, 529)),
        Answer(body=b"<html>bad gateway</html>", status=502),
        Answer(body=b'{"id": "x", "choi'),
        Answer(cut_after=20),
        Answer(cut_after=0),
        Answer(text=None),
        Answer(text=" \n"),
        Answer(has_choices=False),
    ],
    ids=repr,
)
def test_what_may_pass_is_tried_again(answer):
    reply, requests = complete(answer, Answer("fine"))
    assert (reply.text, requests) == ("fine", 2)


def test_a_silent_server_is_asked_again_after_the_time_out():
    reply, requests = complete(Answer(delay=1.5), Answer("fine"), request_seconds=0.3)
    assert (reply.text, requests) == ("fine", 2)


def test_an_answer_that_comes_in_drops_is_given_up_at_the_time_out():
    reply, requests = complete(Answer(drip_seconds=0.1), Answer("fine"), request_seconds=0.5)
    assert (reply.text, requests) == ("fine", 2)


def test_retry_after_is_honoured():
    with ModelServer([Answer(status=429, headers={"Retry-After": "0.4"}), Answer()]) as server:
        ask(server)
        assert server.times[1] - server.times[0] >= 0.4


def test_a_retry_after_may_be_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    script = [Answer("slow down", status=429, headers={"Retry-After": soon})]
    with (
        ModelServer(script) as server,
        pytest.raises(ModelUnavailableError, match=r"rate limited for 3[56]"),
    ):
        ask(server)


def test_a_retry_after_beyond_the_longest_outage_is_not_waited_for():
    script = [Answer("slow down", status=429, headers={"Retry-After": "3600"})]
    with ModelServer(script) as server, pytest.raises(ModelUnavailableError, match="slow down"):
        ask(server)
    assert server.count == 1


def test_a_server_that_stays_down_is_given_up_after_an_outage_of_some_length():
    with ModelServer([Answer("overloaded", status=503)]) as server:
        with pytest.raises(ModelUnavailableError, match=r"'openai/tiny' at http.*overloaded"):
            ask(server, 4.0)
        assert server.count > 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer("wrong key", status=401), "wrong key; check that the server"),
        (Answer("pay first", status=402), "pay first"),
        (Answer("not yours", status=403), "not yours"),
        (Answer("no such model", status=404), "no such model"),
        (
            Answer("You exceeded your current quota", status=429, error_code="insufficient_quota"),
            "no quota left",
        ),
    ],
)
def test_what_will_not_pass_stops_at_once(answer, message):
    with ModelServer([answer]) as server:
        with pytest.raises(ModelError, match=message) as caught:
            ask(server)
        assert type(caught.value) is ModelError
        assert server.count == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(body=OVERFLOW, status=400), "prompt is too long"),
        (Answer("too large", status=413), "prompt is too long"),
        (Answer("filtered due to the content management policy", status=400), "content filter"),
        (Answer(text=None, finish_reason="content_filter"), "content filter"),
        (Answer("odd parameter", status=400), "refused the request: .*odd parameter"),
    ],
)
def test_a_reply_that_cannot_be_used_is_not_asked_for_again(answer, message):
    with ModelServer([answer]) as server:
        with pytest.raises(ReplyError, match=message):
            ask(server)
        assert server.count == 1


def test_replies_that_stay_empty_are_given_up_and_counted():
    with ModelServer([Answer(text="")]) as server:
        budget = Budget()
        with pytest.raises(ReplyError, match="empty reply, finish reason 'stop'"):
            endpoint_at(server).complete(REQUEST, 20.0, budget)
        assert server.count == 3
    assert budget.total.prompt_tokens == 33


def test_several_refused_requests_in_a_row_stop_the_run():
    with ModelServer([Answer("odd parameter", status=400)]) as server:
        model = model_at(server)
        for _ in range(2):
            with pytest.raises(ReplyError, match="refused the request"):
                model.complete(REQUEST, 20.0)
        with pytest.raises(ModelError, match="refused 3 requests in a row"):
            model.complete(REQUEST, 20.0)


def test_usage_that_is_not_told_is_estimated_and_its_cost_not_taken_for_nothing():
    reply, _ = complete(Answer("word " * 9, has_usage=False))
    assert reply.prompt_tokens >= 2
    assert reply.completion_tokens == 18
    assert reply.cost_usd is None
    with ModelServer([Answer(has_usage=False)]) as server:
        endpoint = Endpoint(model_at(server), price=Price(0.5, 2.0))
        reply = endpoint.complete(REQUEST, 20.0, Budget())
    assert reply.cost_usd == 0.5 * reply.prompt_tokens + 2.0 * reply.completion_tokens > 0


def test_tokens_from_the_cache_are_told_and_priced():
    body = json.loads(Answer(prompt_tokens=100, completion_tokens=10).encode("tiny"))
    body["usage"]["prompt_tokens_details"] = {"cached_tokens": 80}
    with ModelServer([Answer(body=json.dumps(body).encode())]) as server:
        endpoint = Endpoint(model_at(server), price=Price(1.0, 10.0, cached_usd=0.1))
        reply = endpoint.complete(REQUEST, 20.0, Budget())
    assert (reply.prompt_tokens, reply.cached_tokens) == (100, 80)
    assert reply.cost_usd == pytest.approx(20 + 8 + 100)


def test_reasoning_effort_is_sent_when_it_is_set():
    request = Request("editor", REQUEST.messages, max_tokens=20, effort="low")
    with ModelServer() as server:
        model_at(server).complete(request, 20.0)
        assert server.bodies[0]["reasoning_effort"] == "low"


def test_a_huge_reply_arrives_whole():
    reply, _ = complete(Answer("x" * 10_000_000))
    assert len(reply.text) == 10_000_000


def test_lone_surrogates_do_not_come_through():
    assert complete(Answer("a\ud800b"))[0].text == "a?b"


def test_a_refusal_is_a_reply_like_any_other():
    assert complete(Answer("I cannot help with that."))[0].text == "I cannot help with that."


def test_closing_wakes_a_call_that_waits():
    script = [Answer("busy", status=503, headers={"Retry-After": "60"})]
    with ModelServer(script) as server:
        endpoint = endpoint_at(server, outage_seconds=600.0)
        timer = threading.Timer(0.3, endpoint.close)
        timer.start()
        with pytest.raises(ModelUnavailableError, match="closed"):
            endpoint.complete(REQUEST, 600.0, Budget())
        timer.join()


def test_many_failures_leave_an_exact_ledger():
    numbers = count()

    def answer(body: Mapping[str, Any]) -> Answer:
        bad = [Answer(status=500), Answer(cut_after=9), Answer(text=None), Answer(body=b"{")]
        number = next(numbers)
        return bad[number // 3 % 4] if number % 3 == 2 else Answer()

    budget = Budget()
    with ModelServer(answer) as server:
        endpoint = endpoint_at(server)
        for _ in range(40):
            assert endpoint.complete(REQUEST, 30.0, budget).text == "hello"
        empty = sum(number % 3 == 2 and number // 3 % 4 == 2 for number in range(server.count))
    assert budget.total.calls == budget.total.unpriced_calls == 40
    assert budget.total.prompt_tokens == 11 * (40 + empty)
    broken = sum(number % 3 == 2 and number // 3 % 4 in {1, 3} for number in range(server.count))
    assert budget.total.lost_requests == broken


class TestPreflight:
    def test_a_ready_model_is_asked_for_one_token(self):
        with ModelServer([Answer(text="")]) as server:
            endpoint_at(server).preflight()
            assert server.bodies[0]["max_tokens"] == 16

    def test_a_wrong_key_is_told(self):
        with ModelServer([Answer("Incorrect API key", status=401)]) as server:
            with pytest.raises(ModelError, match="Incorrect API key; check that the server"):
                endpoint_at(server).preflight()
            assert server.count == 1

    def test_nobody_at_the_address_is_told_soon(self):
        with ModelServer() as server:
            gone = server.url
        with pytest.raises(ModelUnavailableError, match=r"refused.*check that the server runs"):
            Endpoint(LiteLLMModel("openai/tiny", api_base=gone)).preflight()

    @pytest.mark.parametrize("name", ["nonsense", "foo/bar"])
    def test_an_unknown_provider_is_told(self, name):
        with pytest.raises(UsageError, match=r"write `provider/model`, for example `openai/"):
            Endpoint(open_model(name)).preflight()

    @pytest.mark.parametrize(
        ("name", "variable"),
        [("openai/gpt-4o-mini", "OPENAI_API_KEY"), ("gemini/gemini-2.5-flash", "GEMINI_API_KEY")],
    )
    def test_a_missing_key_names_its_variable(self, name, variable):
        if variable in os.environ:
            pytest.skip(f"{variable} is set here")
        with pytest.raises(ModelError, match=f"set the environment variable .*{variable}"):
            Endpoint(open_model(name)).preflight()


def test_a_server_like_the_scripted_model_answers_by_role():
    prompt = "```python\nx = 0.5\n```\nSEARCH/REPLACE, please."
    request = Request("editor", (Message("user", prompt),), max_tokens=50, seed=1)
    with ModelServer(answer_like_scripted) as server:
        reply = model_at(server).complete(request, 20.0)
    assert "<<<<<<< SEARCH\nx = 0.5\n=======" in reply.text


def test_importing_the_models_imports_no_slow_library():
    code = "import sys, evolve.models; assert not {'litellm', 'docker', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_with_a_model_prints_nothing_and_ends():
    code = (
        "import sys; from evolve.models.roster import open_model\n"
        "from evolve.records.chat import Message, Request\n"
        "model = open_model('openai/tiny', api_base=sys.argv[1])\n"
        "model.complete(Request('editor', (Message('user', 'u'),), max_tokens=5), 60.0)"
    )
    with ModelServer() as server:
        command = [sys.executable, "-c", code, server.url]
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
