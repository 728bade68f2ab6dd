"""Runs with models that think before they answer, over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands import UNTUNED, run_evolve, run_json
from tests.model_server import Answer, ModelServer, answer_like_scripted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEY = {"OPENAI_API_KEY": "sk-test-0123456789"}
THINKING = 3000
DRAFT = (
    '{"change": "a draft", "lesson": "a draft"}\n<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n'
)


def think(body: Mapping[str, Any]) -> Answer:
    """Thinks for so many tokens, which count into the limit, and then answers."""
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or 10**9
    good = answer_like_scripted(body)
    written = THINKING + good.completion_tokens
    if limit < written:
        used = {"thinking_tokens": limit, "completion_tokens": limit}
        return Answer("", thinking=DRAFT, finish_reason="length", **used)
    used = {"thinking_tokens": THINKING, "completion_tokens": written}
    return replace(good, thinking=DRAFT * 20, pieces=5, **used)


def asked(server: ModelServer, *more: object) -> tuple[object, ...]:
    return ("--model", "openai/x", "--api-base", server.url, "--run-dir", "r", *UNTUNED, *more)


def count_slots(run: Path, cwd: Path) -> tuple[int, int]:
    """Counts the slots of models, and those of them with an evaluated program."""
    run_evolve("export", run, "--output", "out", cwd=cwd)
    lines = [json.loads(line) for line in (cwd / "out" / "run.jsonl").read_text().splitlines()]
    attempts = [
        line for line in lines
        if line["kind"] == "attempt" and line["plan"] and not line["plan"].get("operator")
    ]  # fmt: skip
    slots = {tuple(line["key"].split(".")[:2]) for line in attempts}
    evaluated = {
        tuple(line["key"].split(".")[:2])
        for line in attempts
        if line["evaluation"]["status"] != "rejected"
    }
    return len(slots), len(evaluated)


def test_a_default_run_evaluates_nearly_all_that_it_pays_for(tmp_path):
    with ModelServer(think) as server:
        run_evolve(
            # With tuning, as by default: programs that stay the same repeat scripted changes.
            "run", "circle_packing",
            *asked(server, "--generations", 10, "--set", "tuning.share=0.75"),
            cwd=tmp_path, **KEY,
        )  # fmt: skip
    slots, evaluated = count_slots(tmp_path / "r", tmp_path)
    assert slots >= 40
    assert evaluated >= 0.95 * slots
    state = run_json("show", "r", cwd=tmp_path)
    calls = sum(part["calls"] for part in state["models"])
    assert sum(part["thinking_tokens"] for part in state["models"]) >= THINKING * calls


def test_a_cap_on_money_holds_and_keeps_two_generations_in_flight(tmp_path, problem):
    flying, peak = 0, 0

    class Counted(ModelServer):
        def _answer(self, *request: Any) -> bool:
            nonlocal flying, peak
            flying += 1
            peak = max(peak, flying)
            try:
                return super()._answer(*request)
            finally:
                flying -= 1

    price = "prices.openai/x={prompt = 2, completion = 10}"
    with Counted(think, delay=0.2) as server:
        done = run_evolve(
            "run", problem, *asked(server, "--max-cost", 2, "--workers", 8, "--set", price),
            cwd=tmp_path, **KEY,
        )  # fmt: skip
    assert "stopped by budget: max_cost_usd" in done.stdout
    state = run_json("show", "r", cwd=tmp_path)
    assert 1.8 <= state["cost_usd"] + state["lost_usd"] <= 2.0
    assert 4 < peak <= 8, "four slots a generation"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer("", finish_reason="length", completion_tokens=16), "cut off after"),
        (Answer(""), "an empty reply"),
        (Answer("I cannot help with that."), "neither edits nor a program"),
    ],
)
def test_a_run_in_vain_stops_and_says_why(tmp_path, problem, answer, words):
    with ModelServer([answer]) as server:
        done = run_evolve("run", problem, *asked(server), code=4, cwd=tmp_path, **KEY)
    assert "stopped: next to nothing was evaluated" in done.stdout
    assert words in done.stdout
    assert "to change that: " in done.stdout
    assert run_json("show", "r", cwd=tmp_path)["generations"] <= 5


def test_a_short_run_in_vain_does_not_count_as_finished(tmp_path, problem):
    with ModelServer([Answer("no edit")]) as server:
        done = run_evolve(
            "run", problem, *asked(server, "--generations", 1), code=4, cwd=tmp_path, **KEY,
        )  # fmt: skip
    assert "finished" not in done.stdout
    assert "nothing new was evaluated" in done.stdout


def run_on_terminal(*args: object, cwd: Path) -> tuple[int, str]:
    """Runs a command on a terminal of its own; returns its code and all that it wrote there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "evolve", *map(str, args)], cwd=cwd, stdin=theirs, stdout=theirs,
        stderr=theirs, env={**os.environ, **KEY, "ANTHROPIC_API_KEY": "sk-ant-0123456789"},
    )  # fmt: skip
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError):
        while part := os.read(ours, 1 << 16):
            written += part
    os.close(ours)
    return process.wait(), written.decode("utf-8", "replace")


def test_two_models_and_two_providers_leave_no_noise_on_the_terminal(tmp_path, problem):
    with ModelServer(think) as server:
        base = server.url.removesuffix("/v1")
        code, written = run_on_terminal(
            "run", problem, *asked(server, "--generations", 2, "--editor", "openai/y"),
            "--planner", "anthropic/claude-sonnet-4-5",
            "--set", f'endpoints.anthropic/claude-sonnet-4-5={{api_base = "{base}"}}',
            cwd=tmp_path,
        )  # fmt: skip
        assert code == 0, written
        code, more = run_on_terminal("resume", "r", "--generations", 3, cwd=tmp_path)
        assert code == 0, more
    for noise in ("Traceback", "event loop", "Warning", "litellm", "LiteLLM", "never retrieved"):
        assert noise not in written + more
    planners = {path for path in server.paths if path.startswith("/v1/messages")}
    assert planners


def test_what_comes_in_can_be_seen_while_it_does(tmp_path, problem):
    slow = replace(think({"messages": [{"role": "user", "content": "plan"}]}), gap_seconds=0.3)
    with ModelServer([slow]) as server:
        _, written = run_on_terminal(
            "run", problem, *asked(server, "--generations", 1, "--set", "loop.slots=2"),
            cwd=tmp_path,
        )  # fmt: skip
    assert "coming in" in written


@pytest.mark.parametrize(("options", "limits"), [((), {None}), (("models.max_tokens=700",), {700})])
def test_a_limit_on_replies_is_sent_where_one_is_set(tmp_path, problem, options, limits):
    changes = [part for option in options for part in ("--set", option)]
    with ModelServer(answer_like_scripted) as server:
        run_evolve(
            "run", problem, *asked(server, "--generations", 2, *changes), cwd=tmp_path, **KEY
        )
        sent = [body.get("max_tokens") for body in server.bodies]
    # The first request only finds out whether the model can be used.
    assert set(sent[1:]) == limits
