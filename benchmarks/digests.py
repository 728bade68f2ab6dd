"""Measures what a planner's prompt costs in a long run: the digest, and the prompt made of it.

    python benchmarks/digests.py --programs 10000

A run of so many slots is written, each with a plan, an attempt and a lesson, half of the lessons
in new words. Printed is processor time: of reading all of the run, as a resume does, then medians
with the 5th and 95th percentile of the digest of a generation's first slot, of another slot, and
of the complete prompt.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from evolve.problem import load_problem
from evolve.records import (
    INITIAL,
    Ancestor,
    Attempt,
    AttemptKey,
    Direction,
    Evaluation,
    Plan,
    Program,
    Selection,
    SourceFile,
    Status,
    Summary,
)
from evolve.records.results import Evaluated, Generation, SlotResult, Told
from evolve.search.digests import DigestMaker
from evolve.settings import Settings, change_settings
from evolve.settings.launches import SettingsHistory
from evolve.steps.plan import plan_messages
from evolve.store import Store

SLOTS = 20
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def make_words(rng) -> list[str]:
    return ["".join(rng.choice(list(LETTERS), 7)) for _ in range(2000)]


WORDS = make_words(np.random.default_rng(1))


def make_slot(store: Store, key: AttemptKey, parent: AttemptKey | None, rng) -> SlotResult:
    text = f"def pack(count):\n    return {rng.random()!r}\n" * 20
    program = Program((SourceFile("initial.py", text),))
    evaluation = Evaluation(Status.OK, float(rng.random()))
    store.keep([Evaluated(key, program, evaluation)])
    words = " ".join(rng.choice(WORDS, 12))
    known = f"Lesson about {WORDS[rng.integers(len(WORDS))]} and how it changes the outcome"
    lesson = words if rng.random() < 0.5 else known
    plan = Plan(words, "hypothesis " * 10, 0.1, "risk", tuple(rng.choice(WORDS, 2)))
    attempt = Attempt(key, 0, parent, key.generation, plan if parent else None, program, evaluation)
    summary = Summary("verdict", "idea", lesson, plan.tags) if parent else None
    return SlotResult(key.slot, (Told(attempt, 0),), summary)


def fill(store: Store, programs: int) -> None:
    rng = np.random.default_rng(0)
    store.commit(Generation(0, (make_slot(store, INITIAL, None, rng),), 0.0))
    for generation in range(1, programs // SLOTS + 1):
        slots = []
        for slot in range(SLOTS):
            back = int(rng.integers(1, min(generation, 30) + 1))
            parent = AttemptKey(generation - back, 0, 0)
            slots.append(make_slot(store, AttemptKey(generation, slot, 0), parent, rng))
        store.commit(Generation(generation, tuple(slots), float(generation)))


def milliseconds(call) -> float:
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


def show(name: str, values: list[float]) -> None:
    low, high = np.percentile(values, [5, 95])
    print(f"{name:<34} {statistics.median(values):7.2f} ms ({low:.2f} to {high:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=10_000)
    options = parser.parse_args()
    settings = change_settings(Settings(), {"models.model": ["scripted"]}, where="benchmark")
    problem = load_problem(Path(__file__).parents[1] / "problems" / "circle_packing")
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder))
        fill(store, options.programs)
        last = store.last_generation()

        def load(key: AttemptKey) -> Ancestor:
            summary = store.load_lesson(key.generation, key.slot)
            return Ancestor(store.load_attempt(key), summary.lesson if summary else "")

        maker = DigestMaker(store, SettingsHistory(settings), Direction.MAXIMIZE, load)
        first = milliseconds(lambda: maker.advance(last))
        opening, other, prompts = [], [], []
        for number in range(40):
            parent = load(AttemptKey(last - number, 0, 0))
            selection = Selection(parent)
            generation = last + 1 + number
            opening.append(milliseconds(lambda: maker.make(selection, generation, 9)))  # noqa: B023
            other.append(milliseconds(lambda: maker.make(selection, generation, 9)))  # noqa: B023
            digest = maker.make(selection, generation, 9)
            prompts.append(
                milliseconds(
                    lambda: plan_messages(problem, selection, digest, settings=settings)  # noqa: B023
                )
            )
        cores, load_average = os.cpu_count(), os.getloadavg()[0]
        lessons = len(maker.memory.book.lessons)
        store.close()
    print(
        f"{platform.machine()}, {cores} cores, load {load_average:.1f}, {options.programs} programs"
    )
    print(f"{lessons} merged lessons; all of the run is read in {first:.0f} ms")
    show("digest, first slot of a generation", opening)
    show("digest, another slot", other)
    show("planner's prompt from a digest", prompts)


if __name__ == "__main__":
    main()
