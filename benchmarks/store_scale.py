"""Measures the store at scale: commit, resume, `show`, memory, size.

    python benchmarks/store_scale.py --attempts 100000 --folder /var/tmp/scale

Every attempt has a program of about 8 kB made from an elite by changing a few lines, a plan, an
editor's call that shows the parent, and an evaluation with artifacts. The programs are no Python,
so that the time to build them is not that of the parser. Printed are medians with the
5th and 95th percentile. A commit is timed with the fold into the population, a resume until
the next generation could start: population, budget, schedule, and what planners are told.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np

from evolve.problem import load_problem
from evolve.records import (
    INITIAL,
    Attempt,
    AttemptKey,
    Evaluation,
    EvaluationPlace,
    Lesson,
    Plan,
    Program,
    SourceFile,
    Status,
    Summary,
)
from evolve.records.chat import Message, Reply, Request
from evolve.records.plain import to_plain
from evolve.records.results import (
    Call,
    Evaluated,
    Generation,
    SlotResult,
    as_slot,
)
from evolve.runs.run_folder import create_run_folder
from evolve.search.knowledge import DigestMaker
from evolve.search.population import Population, light_attempts
from evolve.search.schedule import Schedule, size_of
from evolve.settings import Settings, SettingsHistory
from evolve.store import Store

SLOTS = 16
NAMES = ["width", "offset", "total", "queue", "weight", "limit", "score", "order", "index", "gap"]
STATEMENT = "Make the number as large as you can. " * 60
TOML = """name = "scale"
direction = "maximize"


[[measures]]
name = "first"
low = 0.0
high = 1.0
cells = 20
[[measures]]
name = "second"
low = 0.0
high = 1.0
cells = 20
"""


class Maker:
    """Makes programs, plans and replies from a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.plain_bytes = 0

    def line(self) -> str:
        a, b, c = (NAMES[int(i)] for i in self.rng.integers(len(NAMES), size=3))
        number = int(self.rng.integers(100000))
        return f"    {a}_{number % 97} = {b} * {number} + {c} / {number % 31 + 1};"

    def source(self) -> str:
        lines = []
        while sum(map(len, lines)) < 8000:
            lines.append(self.line())
        return "\n".join(lines) + "\n"

    def child(self, source: str) -> str:
        lines = source.splitlines()
        for at in self.rng.integers(len(lines), size=5):
            lines[int(at)] = self.line()
        return "\n".join(lines) + "\n"

    def weigh(self, *texts: str) -> None:
        self.plain_bytes += sum(len(zlib.compress(text.encode())) for text in texts)


def make_slot(maker: Maker, population: Population, sources, generation: int, slot: int):
    rng = maker.rng
    island = (generation * SLOTS + slot) % len(population.islands.archives)
    elites = population.islands.archives[island].elites
    parent = elites[int(rng.integers(len(elites)))]
    before = sources[parent.program_id]
    text = maker.child(before)
    key = AttemptKey(generation, slot, 0)
    program = Program((SourceFile("initial.py", text),))
    plan = Plan(
        change="".join(maker.line() for _ in range(5)), hypothesis=maker.line(), tags=("a", "b")
    )
    prompt = f"{STATEMENT}\n```\n{before}```\n{plan.change}"
    request = Request("editor", (Message("user", prompt),), 8192)
    reply = Reply("\n".join(maker.line() for _ in range(12)), "model", 4000, 300, 0.01, 2.0)
    first, second = rng.random(2)
    evaluation = Evaluation(
        Status.OK,
        float(rng.random()),
        {"m": float(first)},
        {"first": float(first), "second": float(second)},
        {"note": "".join(maker.line() for _ in range(3))},
        seconds=0.5,
    )
    depth, place = parent.depth + 1, EvaluationPlace(key, key)
    attempt = Attempt(key, island, parent.key, depth, plan, program, evaluation, place)
    maker.weigh(
        json.dumps([["initial.py", text]]), prompt, reply.text, evaluation.artifacts["note"],
        json.dumps(to_plain(plan)),
    )  # fmt: skip
    kept = [Call(key, request, reply), Evaluated(key, program, evaluation)]
    return kept, SlotResult(slot, (attempt,)), text


def build(folder: Path, attempts: int, seed: int) -> dict[str, object]:
    problem_folder = folder.with_name(folder.name + "-problem")
    problem_folder.mkdir(parents=True)
    maker = Maker(seed)
    (problem_folder / "problem.toml").write_text(TOML)
    (problem_folder / "statement.md").write_text(STATEMENT)
    (problem_folder / "initial.py").write_text("x = 1\n")
    (problem_folder / "evaluator.py").write_text("def evaluate(program):\n    return None\n")
    problem = load_problem(problem_folder, {})
    settings = Settings()
    create_run_folder(problem, settings, folder=folder, parent=folder.parent)
    store = Store.create(folder)
    population = Population(problem, settings.search)
    history = SettingsHistory(settings, [])
    digests = DigestMaker(store, history, problem)
    schedule = Schedule(generations=attempts, size_at=lambda at: size_of(history.at(at)))
    first = Evaluation(Status.OK, 0.0, measures={"first": 0.0, "second": 0.0})
    start = Program((SourceFile("initial.py", maker.source()),))
    store.set_facts(problem="scale", direction="maximize", seed=seed, sandbox="none")
    store.keep([Evaluated(INITIAL, start, first)])
    initial = Attempt(INITIAL, 0, None, 0, None, start, first)
    generation = Generation(0, (as_slot(initial),), 0.0)
    store.commit(generation)
    population.add(0, light_attempts(generation))
    sources = {start.id: start.entry.text}
    commits, keeps, rows = [], [], []
    marks = [size for size in (1000, 10000, 30000, attempts) if size <= attempts]
    for number in range(1, attempts // SLOTS + 1):
        made = [make_slot(maker, population, sources, number, slot) for slot in range(SLOTS)]
        for kept, _, _ in made:
            started = time.perf_counter()
            store.keep(kept)
            keeps.append(time.perf_counter() - started)
        lesson = Lesson(f"lesson: {maker.line()}", maker.line())
        maker.weigh(lesson.claim, lesson.evidence)
        slots = tuple(result for _, result, _ in made)
        generation = Generation(number, slots, float(number), Summary("better", (lesson,)))
        attempts_light = light_attempts(generation)
        started = time.perf_counter()
        store.commit(generation)
        population.add(number, attempts_light)
        commits.append(time.perf_counter() - started)
        while schedule.next(number, population.evaluations):
            pass
        digests.advance(number)
        for _, result, text in made:
            sources[result.attempts[0].program.id] = text
        if number % 200 == 0:
            alive = {e.program_id for a in population.islands.archives for e in a.elites}
            alive |= {start.id, population.champion.program_id}
            sources = {name: text for name, text in sources.items() if name in alive}
        if marks and number * SLOTS >= marks[0] - SLOTS + 1:
            rows.append((marks.pop(0), spread(commits[-400:]), spread(keeps[-400:])))
    store.close()
    return {"rows": rows, "plain_bytes": maker.plain_bytes}


def spread(seconds: list[float]) -> str:
    low, middle, high = np.percentile(np.array(seconds) * 1000, [5, 50, 95])
    return f"{middle:.1f} ms ({low:.1f} to {high:.1f})"


RESUME = """
import sys, time
started = time.perf_counter()
from pathlib import Path
from evolve.search.population import Population
from evolve.runs.run_folder import load_run
from evolve.search.knowledge import DigestMaker
from evolve.search.schedule import Schedule, size_of
from evolve.settings import SettingsHistory
from evolve.store import Store
from evolve.runs.wiring import restore_budget
folder = Path(sys.argv[1])
problem, settings = load_run(folder)
store = Store.open_to_write(folder)
budget = restore_budget(store, settings)
last = store.last_generation()
store.finished_after(last)
history = SettingsHistory(settings, store.invocations())
schedule = Schedule(generations=10**6, size_at=lambda at: size_of(history.at(at)))
digests = DigestMaker(store, history, problem)
population = Population(problem, settings.search)
for _ in population.add_all(store.light_attempts(), last):
    while schedule.next(population.generation, population.evaluations):
        pass
digests.advance(last)
seconds = time.perf_counter() - started
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(seconds, int(status["VmHWM"].split()[0]) / 1024)
"""


def time_command(*command: str, repeats: int = 7) -> list[float]:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True, help="made anew, then removed")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    folder = options.folder / "run"
    built = build(folder, options.attempts, options.seed)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = sum(path.stat().st_size for path in folder.glob("run.db*"))
    resumes = [
        subprocess.run(
            [sys.executable, "-c", RESUME, str(folder)], check=True, capture_output=True, text=True
        ).stdout.split()
        for _ in range(5)
    ]
    shows = time_command(sys.executable, "-m", "evolve", "show", str(folder), "--json")
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, seed {options.seed}")
    print("| attempts | commit of 16, with fold | keep of one call and evaluation |")
    print("|---|---|---|")
    for attempts, commit, keep in built["rows"]:
        print(f"| {attempts} | {commit} | {keep} |")
    seconds = [float(item[0]) for item in resumes]
    print(f"resume ready: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to "
          f"{max(seconds):.2f}), {max(float(item[1]) for item in resumes):.0f} MB")  # fmt: skip
    print(f"show: {statistics.median(shows):.2f} s ({min(shows):.2f} to {max(shows):.2f})")
    print(f"memory while building: {memory:.0f} MB")
    print(f"database {size / 1e6:.0f} MB, {size / built['plain_bytes']:.2f} of the compressed "
          f"sources and texts ({built['plain_bytes'] / 1e6:.0f} MB)")  # fmt: skip
    if not options.keep:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
