"""What a run costs beyond its models and evaluators: CPU per attempt, and the rate it reaches.

    python benchmarks/overhead.py --attempts 100 2000
    python benchmarks/overhead.py --delay 0.2 --workers 8 --attempts 1000

A real HTTP server answers on loopback from a process of its own; each attempt makes three calls
and one evaluation of a program that works for 1 ms. CPU time is that of `evolve` with all its
processes, read from a cgroup where one can be made (root), else from the operating system's
accounts of ended children, which miss sandboxes that were killed. The start of the run is taken
off by a run of one generation. Bare `litellm.completion` calls with prompts of the same length are
timed in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.commands import INITIAL, PROBLEM, write_problem

SLOTS = 8
PROGRAM = INITIAL.replace(
    "    return",
    "    end = time.process_time() + 0.001\n    while time.process_time() < end:\n        pass\n"
    "    return",
)
BARE = """
import os, sys, time
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
url, calls, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def ask():
    litellm.completion(model="openai/test", api_base=url, api_key="none", max_retries=0,
        max_tokens=64, messages=[{"role": "user", "content": "x" * length}])
for _ in range(5):
    ask()
start = time.process_time()
for _ in range(calls):
    ask()
print((time.process_time() - start) / calls)
"""


def measure(command: list[str], cwd: Path) -> tuple[float, float]:
    """Returns CPU and wall seconds of a command with all its processes."""
    group = Path(f"/sys/fs/cgroup/cpuacct/overhead-{os.getpid()}-{time.monotonic_ns()}")
    try:
        group.mkdir()
    except OSError:
        group = None
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()

    def join() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text("0")

    subprocess.run(
        command, cwd=cwd, check=True, capture_output=True, preexec_fn=join,
        env={**os.environ, "OPENAI_API_KEY": "none"},
    )  # fmt: skip
    wall = time.monotonic() - start
    if group is None:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall
    cpu = int((group / "cpuacct.usage").read_text()) / 1e9
    group.rmdir()
    return cpu, wall


def run(folder: Path, url: str, generations: int, workers: int, seed: int) -> dict:
    """Runs so many generations; gives CPU and wall seconds, and the final state."""
    name = f"run-{generations}-{seed}-{time.monotonic_ns()}"
    evolve = [sys.executable, "-m", "evolve"]
    asked = ["--model", "openai/test", "--api-base", url, "--workers", str(workers)]
    cpu, wall = measure(
        [
            *evolve,
            "run",
            "problem",
            "--generations",
            str(generations),
            "--seed",
            str(seed),
            *asked,
            "--run-dir",
            name,
            "--set",
            "steps.repairs=0",
            # It would tune how long the program works.
            "--set",
            "tuning.share=0",
        ],
        folder,
    )
    shown = subprocess.run(
        [*evolve, "show", name, "--json"], cwd=folder, check=True, capture_output=True, text=True
    )
    return {"cpu": cpu, "wall": wall, **json.loads(shown.stdout)}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, nargs="+", default=[100, 2000])
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=1)
    asked = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    server = subprocess.Popen(
        [
            sys.executable,
            Path(__file__).parents[1] / "tests" / "model_server.py",
            "--delay",
            str(asked.delay),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    url = server.stdout.readline().strip()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            text = PROBLEM.replace("packages = []", 'packages = ["numpy"]')
            write_problem(folder / "problem", initial="import time\n" + PROGRAM, toml=text)
            report(folder, url, asked)
    finally:
        server.kill()
        server.wait()


def measure_bare(url: str, calls: int) -> float:
    """Returns the CPU seconds of a bare `litellm.completion` call."""
    command = [sys.executable, "-c", BARE, url, str(calls), "4000"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def report(folder: Path, url: str, asked: argparse.Namespace) -> None:
    """Measures and prints; bare calls before and after each run, since machines change pace."""
    bare_calls = 40 if asked.delay else 200
    for attempts in asked.attempts:
        own, rates, bares = [], [], []
        slots = attempts // SLOTS * SLOTS
        for seed in range(asked.repeats):
            start = run(folder, url, 1, asked.workers, seed)
            before = measure_bare(url, bare_calls)
            state = run(folder, url, 1 + attempts // SLOTS, asked.workers, seed)
            bares.append((before + measure_bare(url, bare_calls)) / 2)
            calls = state["calls"] - start["calls"]
            own.append((state["cpu"] - start["cpu"] - calls * bares[-1]) / slots * 1e3)
            rates.append(calls * asked.delay / asked.workers / (state["wall"] - start["wall"]))
        print(
            f"{attempts} attempts: {calls / slots:.2f} calls and "
            f"{(state['evaluations'] - start['evaluations']) / slots:.2f} evaluations each; "
            f"a bare call {statistics.median(bares) * 1e3:.1f} ms of CPU; "
            f"an attempt beyond its bare calls {statistics.median(own):.1f} ms "
            f"(from {min(own):.1f} to {max(own):.1f})"
            + (f"; share of the ideal rate {statistics.median(rates):.1%}" if asked.delay else ""),
            flush=True,
        )


if __name__ == "__main__":
    main()
