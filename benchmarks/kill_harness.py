"""Kills a run again and again, and compares what it leaves with a run that was left alone.

    python benchmarks/kill_harness.py --kills 10 --workers 8 --lag 2 --seed 1

Model calls go over HTTP to a server in this process that answers like the scripted model after a
delay. Victims are drawn by the seed: the run's process, an evaluator process, a process of a
sandbox, or all of them at once. A run that is gone is resumed. At the end everything in the two
databases but times is compared, and the calls that reached the server are counted.
"""

import argparse
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from evolve.runs.derived import describe_everything  # noqa: E402
from evolve.store import Store  # noqa: E402
from tests.commands import write_problem  # noqa: E402
from tests.model_server import Answer, ModelServer, answer_like_scripted  # noqa: E402

VICTIMS = ("parent", "evaluator", "guest", "group")
# Share of kills that may fall into the start of the process; the others wait for a model call.
EARLY = 0.2
# Of the machine, not of the search; the server counts the tokens of a prompt by its text.
TIMES = {"seconds", "prompt_tokens", "time"}
MEASURED = re.compile(r"(?<!of )\b\d[\d.e+-]* s\b")
# An expense is what a killed call may have cost.
APART = {"fact", "invocation", "expense"}


class CountedServer(ModelServer):
    """Counts calls of steps apart from preflights."""

    def __init__(self, delay: float) -> None:
        self.calls = 0
        super().__init__(self._reply, delay=delay)

    def _reply(self, body) -> Answer:
        # A client that is killed may send half a request.
        if body.get("max_tokens") == 1:
            return Answer("ok")
        with self._lock:
            self.calls += 1
        return answer_like_scripted(body)


class Run:
    """One run folder and the process that writes it."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder.with_suffix(".log").open("ab")

    def start(self) -> None:
        words = ["resume", str(self.folder)] if self.folder.exists() else self._arguments
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "none"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evolve", *words],
            env=environment, stdout=self.log, stderr=self.log,
        )  # fmt: skip

    def wait(self, seconds: float | None) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def kill(self, victim: str, rng: random.Random) -> bool:
        """Kills one kind of process; tells whether there was one."""
        parent = self._process.pid
        evaluators = children(parent)
        guests = [pid for evaluator in evaluators for pid in descendants(evaluator)]
        if victim == "evaluator":
            found = [rng.choice(evaluators)] if evaluators else []
        elif victim == "guest":
            found = [rng.choice(guests)] if guests else []
        else:
            found = [parent] if victim == "parent" else [parent, *evaluators, *guests]
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(found)

    @property
    def gone(self) -> bool:
        return self._process.poll() is not None


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(path.parent.name))
    return sorted(found)


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return found + [deeper for child in found for deeper in descendants(child)]


def count_rows(folder: Path, table: str) -> int:
    with suppress(sqlite3.OperationalError):
        connection = sqlite3.connect(f"file:{folder / 'run.db'}?mode=ro", uri=True)
        try:
            return connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
        finally:
            connection.close()
    return 0


def contents(folder: Path) -> list[str]:
    """Returns everything but times, invocations and the facts of the machine, as sorted lines."""
    store = Store.open_to_read(folder)
    lines = [
        json.dumps(without_times(line), sort_keys=True)
        for line in describe_everything(store)
        if line["kind"] not in APART
    ]
    store.close()
    return lines


def without_times(value):
    if isinstance(value, dict):
        return {name: without_times(part) for name, part in value.items() if name not in TIMES}
    if isinstance(value, list):
        return [without_times(part) for part in value]
    return MEASURED.sub("… s", value) if isinstance(value, str) else value


def harass(run: Run, server: CountedServer, options: argparse.Namespace, rng) -> Counter:
    """Runs to the end with kills on the way."""
    told: Counter = Counter()
    lost = 0
    run.start()
    while True:
        left = options.kills - told["kills"]
        if left > 0 and rng.random() > EARLY:
            wait_for_a_call(run, server)
        if run.wait(rng.uniform(0.0, options.spacing) if left > 0 else 600) is not None:
            break
        if left <= 0:
            raise SystemExit("the run did not end within 600 s of its last kill")
        victim = rng.choice(VICTIMS)
        if not run.kill(victim, rng):
            continue
        told["kills"] += 1
        told[victim] += 1
        if victim in {"parent", "group"}:
            run.wait(60)
            time.sleep(2 * options.delay)  # calls on their way still reach the server
            in_flight = server.calls - count_rows(run.folder, "calls") - lost
            told["most_in_flight"] = max(told["most_in_flight"], in_flight)
            lost += in_flight
            run.start()
    told["lost"] = lost
    return told


def wait_for_a_call(run: Run, server: CountedServer) -> None:
    before, deadline = server.calls, time.monotonic() + 60
    while server.calls == before and not run.gone and time.monotonic() < deadline:
        time.sleep(0.02)


def compare(options: argparse.Namespace, folder: Path) -> bool:
    problem = write_problem(folder / "valley")
    rng = random.Random(options.seed)
    left_alone: list[str] = []
    calls = 0
    for name in ("whole", "killed"):
        with CountedServer(options.delay) as server:
            arguments = [
                "run", str(problem), "--run-dir", str(folder / name), "--model", "openai/scripted",
                "--api-base", server.url, "--generations", str(options.generations),
                "--workers", str(options.workers), "--seed", str(options.seed),
                "--set", f"loop.lag={options.lag}", "--set", f"loop.slots={options.slots}",
                # Which calls are under way when such a run ends is a matter of time.
                "--set", "search.without=fruitless",
            ]  # fmt: skip
            run = Run(folder / name, arguments)
            if name == "whole":
                started = time.monotonic()
                run.start()
                code = run.wait(600)
                print(f"left alone: {server.calls} calls, {time.monotonic() - started:.0f} s, "
                      f"exit {code}", flush=True)  # fmt: skip
                calls, left_alone = server.calls, contents(folder / name)
            else:
                told = harass(run, server, options, rng)
                mine = contents(folder / name)
                extra = server.calls - calls
    different = [(a, b) for a, b in zip(left_alone, mine, strict=False) if a != b]
    same = left_alone == mine
    victims = ", ".join(f"{told[victim]} {victim}" for victim in VICTIMS)
    print(f"{told['kills']} kills ({victims}); {len(left_alone)} rows, "
          f"{'equal' if same else 'DIFFERENT'}; {extra} more calls, lost in flight {told['lost']}, "
          f"at most {told['most_in_flight']} at a kill with {options.workers} workers",
          flush=True)  # fmt: skip
    if not same:
        print(f"{len(left_alone)} and {len(mine)} rows; first difference:")
        for text in different[0] if different else ():
            print("  ", text[:1500])
    # A worker may have a call under way, and one answered that is just being written.
    return same and extra == told["lost"] and told["most_in_flight"] <= 2 * options.workers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--generations", type=int, default=40)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--lag", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--delay", type=float, default=0.2, help="seconds before each reply")
    parser.add_argument("--spacing", type=float, default=1.5, help="most seconds between kills")
    parser.add_argument("--folder", type=Path, help="keep the runs here")
    options = parser.parse_args()
    if options.folder is not None:
        options.folder.mkdir(parents=True)
        sys.exit(not compare(options, options.folder))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(not compare(options, Path(folder)))


if __name__ == "__main__":
    main()
