"""Measures the processor time of a model call of ours beyond LiteLLM's own.

    python benchmarks/model_calls.py --calls 300

The same request goes to a server in another process: by `litellm.completion` alone, through an
endpoint (gate, reservation, retries, prices), and through a journal that keeps it in a database.
Rounds alternate, so that other work on the machine falls on all alike; the median round counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

from evolve.models.budget import Budget, Price
from evolve.models.endpoint import Endpoint
from evolve.models.gate import Gate
from evolve.models.litellm_model import LiteLLMModel, import_litellm
from evolve.models.roster import Part
from evolve.records.chat import Message, Request
from evolve.settings.sections import BudgetSettings
from evolve.steps.journal import Journal
from evolve.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "openai/tiny"
ROUNDS = 10


def make_request(number: int, characters: int) -> Request:
    text = f"Request {number}. " + "value = 0.12345 * width  # a line of a program\n" * 400
    return Request("editor", (Message("user", text[:characters]),), 100, seed=number)


def time_round(calls: int, call: Callable[[], object]) -> float:
    """Returns the processor seconds of this process for one call."""
    start = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - start) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--characters", type=int, default=12_000)
    options = parser.parse_args()
    server = subprocess.Popen(
        [sys.executable, "tests/model_server.py", "--text", "hello " * 200],
        cwd=Path(__file__).parents[1], env={**os.environ, "PYTHONPATH": "."},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    litellm = import_litellm()
    numbers = count()

    def ask_litellm() -> None:
        request = make_request(next(numbers), options.characters)
        litellm.completion(
            model=MODEL, messages=[{"role": "user", "content": request.messages[0].text}],
            timeout=120.0, max_retries=0, max_tokens=100, seed=1, api_base=url, api_key="none",
        )  # fmt: skip

    gate = Gate("model", concurrency=8)
    endpoint = Endpoint(LiteLLMModel(MODEL, api_base=url), gate=gate, price=Price(1e-6, 4e-6))
    budget = Budget(BudgetSettings(max_cost_usd=1e6))

    def ask_endpoint() -> None:
        endpoint.complete(make_request(next(numbers), options.characters), 300.0, budget)

    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder))
        journal = Journal(
            endpoints={MODEL: endpoint}, evaluator=lambda *_: None, budget=budget,
            keep=lambda item: store.keep([item]), workers=8, deadline_seconds=300.0,
        )  # fmt: skip

        def ask_journal() -> None:
            number = next(numbers)
            slot = journal.open_slot(1, number, {"editor": Part(MODEL)})
            slot.ask(make_request(number, options.characters))

        ways = {"LiteLLM alone": ask_litellm, "endpoint": ask_endpoint, "journal": ask_journal}
        for way in ways.values():
            time_round(5, way)
        calls = max(options.calls // ROUNDS, 1)
        rounds = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                rounds[name].append(time_round(calls, way))
        store.close()
    server.terminate()
    base = statistics.median(rounds["LiteLLM alone"])
    print("| way | CPU ms per call, median (least to most) | beyond LiteLLM |")
    print("|---|---|---|")
    for name, seconds in rounds.items():
        median = statistics.median(seconds)
        spread = f"{1e3 * min(seconds):.2f} to {1e3 * max(seconds):.2f}"
        print(f"| {name} | {1e3 * median:.2f} ({spread}) | {1e3 * (median - base):.2f} |")


if __name__ == "__main__":
    main()
