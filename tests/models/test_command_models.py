import sys
import threading

import pytest

from evolve.errors import ModelError, ModelUnavailableError, UsageError
from evolve.models.budget import Budget
from evolve.models.endpoint import Endpoint, RetryPolicy
from evolve.models.model import ReplyError, RetryableError, format_prompt
from evolve.models.roster import open_model
from evolve.records.chat import Message, Request

REQUEST = Request("editor", (Message("system", "Be brief."), Message("user", "Why?")), 50)
FAST = RetryPolicy(first_seconds=0.01, max_requests=3)


def python(code: str) -> str:
    return f'cmd:{sys.executable} -c "{code}"'


def test_a_command_reads_the_prompt_and_prints_the_reply():
    model = open_model(python("import sys; print(sys.stdin.read().upper())"))
    reply = model.complete(REQUEST, 20.0)
    assert reply.text == "BE BRIEF.\n\nWHY?"
    assert reply.cost_usd is None


def test_usage_is_estimated_and_counted_as_unpriced():
    budget = Budget()
    endpoint = Endpoint(open_model(python("print('because')")))
    endpoint.complete(REQUEST, 20.0, budget)
    assert budget.total.calls == budget.total.unpriced_calls == 1
    assert budget.total.prompt_tokens > 5


def test_several_turns_name_their_roles():
    turns = (*REQUEST.messages, Message("assistant", "So."), Message("user", "More."))
    text = "Be brief.\n\n[user]\n\nWhy?\n\n[assistant]\n\nSo.\n\n[user]\n\nMore.\n\n[assistant]\n"
    assert format_prompt(turns) == text


def test_a_command_runs_in_an_empty_folder():
    model = open_model(python("import os; print(os.listdir(), 'x')"))
    assert model.complete(REQUEST, 20.0).text == "[] x"


def test_a_command_that_reads_nothing_and_one_that_reads_much_are_fine():
    large = Request("editor", (Message("user", "x" * 3_000_000),), 50)
    assert open_model(python("print(1)")).complete(large, 20.0).text == "1"
    count = python("import sys; print(len(sys.stdin.read()))")
    assert open_model(count).complete(large, 20.0).text == "3000001"


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("import sys; sys.exit('no account')", RetryableError, "ended with code 1: no account"),
        ("import time; time.sleep(60)", RetryableError, r"no reply within 0\.5 s"),
        ("import os; os.close(1); import time; time.sleep(60)", RetryableError, "no reply within"),
        ("while True: print('x' * 100000)", ReplyError, "printed more than 32000000 bytes"),
    ],
)
def test_failures_are_told_apart(code, kind, message):
    seconds = 0.5 if "sleep" in code else 20.0
    with pytest.raises(kind, match=message):
        open_model(python(code)).complete(REQUEST, seconds)


def test_a_command_that_fails_is_run_again(tmp_path):
    code = (
        "import pathlib, sys; p = pathlib.Path(sys.argv[1]); n = len(p.read_text());"
        " p.write_text('x' * (n + 1)); print('fine') if n else sys.exit(3)"
    )
    (tmp_path / "count").write_text("")
    endpoint = Endpoint(open_model(f"{python(code)} {tmp_path / 'count'}"), policy=FAST)
    assert endpoint.complete(REQUEST, 20.0, Budget()).text == "fine"


def test_a_command_that_prints_nothing_is_run_three_times():
    budget = Budget()
    with pytest.raises(ReplyError, match="an empty reply"):
        Endpoint(open_model(python("pass")), policy=FAST).complete(REQUEST, 20.0, budget)
    assert budget.total.calls == 1


def test_a_command_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="found no 'no-such-tool'; install it"):
        open_model("cmd:no-such-tool --fast")
    with pytest.raises(UsageError, match="expected a command such as"):
        open_model("cmd: ")


def test_a_command_that_disappears_stops_the_run(tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    model = open_model(f"cmd:{tool}")
    tool.unlink()
    with pytest.raises(ModelError, match="cannot be started"):
        model.complete(REQUEST, 1.0)


def test_closing_ends_a_command_that_runs():
    endpoint = Endpoint(open_model(python("import time; time.sleep(60)")), policy=FAST)
    threading.Timer(0.5, endpoint.close).start()
    with pytest.raises(ModelUnavailableError, match=r"ended with code -9|closed"):
        endpoint.complete(REQUEST, 50.0, Budget())
