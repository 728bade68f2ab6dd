"""Runs many slots against a server of which 30 % of the answers fail, and checks the ledger.

    python benchmarks/model_failures.py --slots 200

Two runs: one to the end, whose ledger must agree with what the server sent, token for token, and
hold every reply that arrived whole; one with a cap on money, which the server's own count of what
it answered, answers that never arrived included, must not pass.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from evolve.models.budget import estimate_prompt_tokens, estimate_tokens
from evolve.records.chat import Message, Request
from evolve.store import Store
from tests.commands import write_problem
from tests.model_server import Answer, ModelServer, answer_like_scripted

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = "openai/faulty"
PROMPT_USD, COMPLETION_USD = 1e-6, 4e-6
OVERFLOW = b'{"error":{"code":400,"message":"the request exceeds the available context size"}}'
MARK = re.compile(r"reply-(\d+)-whole")


@dataclass
class Faults:
    """Answers like the scripted model, but for a share of failures; counts what it sent."""

    share: float
    rng: random.Random
    lock: threading.Lock = field(default_factory=threading.Lock)
    kinds: Counter[str] = field(default_factory=Counter)
    arrived: set[int] = field(default_factory=set)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    charged_usd: float = 0.0

    def __call__(self, body: Mapping[str, Any]) -> Answer:
        with self.lock:
            number = sum(self.kinds.values())
            good = answer_like_scripted(body)
            good = replace(good, text=f"{good.text}\n\nreply-{number}-whole")
            kind = "good"
            if number and self.rng.random() < self.share:
                kind = self.rng.choice(sorted(FAULTS))
            self.kinds[kind] += 1
            answer = FAULTS[kind](good) if kind != "good" else good
            self._count(kind, answer, body, number)
            return answer

    def _count(self, kind: str, answer: Answer, body: Mapping[str, Any], number: int) -> None:
        if answer.status != 200 or kind == "garbage":
            return
        # Whoever wrote an answer will charge for it, whether or not it arrives.
        read, written = answer.prompt_tokens, answer.completion_tokens
        self.charged_usd += PROMPT_USD * read + COMPLETION_USD * written
        if kind in {"cut off", "silence"}:
            return
        if kind == "no usage":
            messages = tuple(Message(item["role"], item["content"]) for item in body["messages"])
            read = estimate_prompt_tokens(Request("", messages, 1))
            written = estimate_tokens(answer.text or "")
        self.prompt_tokens += read
        self.completion_tokens += written
        # The first answer is that to the preflight, which belongs to no slot.
        if number and answer.text and MARK.search(answer.text) and answer.has_choices:
            self.arrived.add(number)


FAULTS = {
    "429": lambda _: Answer("slow down", status=429),
    "429 Retry-After": lambda _: Answer("slow down", status=429, headers={"Retry-After": "0.05"}),
    "500": lambda _: Answer("broken", status=500),
    "cut off": lambda good: replace(good, cut_after=60),
    "silence": lambda good: replace(good, delay=7.0),
    "no choice": lambda good: replace(good, has_choices=False),
    "empty": lambda good: replace(good, text=""),
    "refusal": lambda good: replace(good, text="I cannot help with that. " + good.text[-20:]),
    "content filter": lambda good: replace(good, text="", finish_reason="content_filter"),
    "context overflow": lambda _: Answer(body=OVERFLOW, status=400),
    "garbage": lambda _: Answer(body=b"{not json"),
    "wrong language": lambda good: replace(good, text="我不能这样做。" + good.text[-20:]),
    "10 MB": lambda good: replace(good, text="x" * 10_000_000 + good.text[-20:]),
    "no usage": lambda good: replace(good, has_usage=False),
}


def run(folder: Path, url: str, generations: int, *extra: str) -> tuple[dict[str, Any], float]:
    price = f"prices.{MODEL}={{prompt = {PROMPT_USD * 1e6}, completion = {COMPLETION_USD * 1e6}}}"
    command = [
        *(sys.executable, "-m", "evolve", "run", str(folder.parent / "valley")),
        *("--run-dir", str(folder), "--model", MODEL, "--api-base", url, "--seed", "1"),
        *("--generations", str(generations), "--workers", "8", "--set", price),
        *("--set", "models.request_seconds=6", "--set", "models.max_tokens=1024"),
        *("--set", "search.without=fruitless", *extra),
    ]
    environment = {"PATH": "/usr/bin:/bin", "OPENAI_API_KEY": "none", "HOME": str(folder.parent)}
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 3}:
        sys.exit(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    shown = subprocess.run(
        [sys.executable, "-m", "evolve", "show", str(folder), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(shown.stdout), time.perf_counter() - start


def find_kept(folder: Path) -> set[int]:
    store = Store.open_to_read(folder)
    calls, _ = store.finished_after(-1)
    store.close()
    return {int(found[1]) for call in calls if (found := MARK.search(call.reply.text))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slots", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        write_problem(work / "valley")
        faults = Faults(options.share, random.Random(options.seed))
        with ModelServer(faults) as server:
            state, seconds = run(work / "all", server.url, options.slots // 8)
        read = sum(part["prompt_tokens"] for part in state["models"])
        written = sum(part["completion_tokens"] for part in state["models"])
        kept = find_kept(work / "all")
        print(f"answers: {sum(faults.kinds.values())}; {dict(sorted(faults.kinds.items()))}")
        print(f"run: {state['status']}, {state['outcomes']}, {seconds:.0f} s")
        print(f"ledger: {read} read, {written} written, {state['lost_requests']} lost requests")
        print(f"server: {faults.prompt_tokens} read, {faults.completion_tokens} written")
        print(f"whole replies: {len(faults.arrived)} sent, {len(faults.arrived & kept)} kept")
        assert (read, written) == (faults.prompt_tokens, faults.completion_tokens)
        assert faults.arrived <= kept
        lost = faults.kinds["cut off"] + faults.kinds["silence"] + faults.kinds["garbage"]
        assert state["lost_requests"] == lost, lost

        cap = 0.4 * faults.charged_usd
        capped = Faults(options.share, random.Random(options.seed))
        with ModelServer(capped) as server:
            state, seconds = run(
                work / "capped", server.url, options.slots // 8, "--max-cost", f"{cap:.6f}"
            )
        print(
            f"capped: {state['stopped_because']} after {seconds:.0f} s; cap ${cap:.4f}, server "
            f"charged ${capped.charged_usd:.4f}, ledger ${state['cost_usd']:.4f} and at most "
            f"${state['lost_usd']:.4f} lost"
        )
        assert capped.charged_usd <= cap
        assert state["cost_usd"] + state["lost_usd"] <= cap


if __name__ == "__main__":
    main()
