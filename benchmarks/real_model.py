"""Counts what came of the replies of a real model, from finished or running runs.

    python benchmarks/real_model.py RUN...

Each row is a run: replies of the editor, the share of them that gave a program (`apply`), of these
programs the share that got an objective (`run`) and that gained on their parent (`improve`), the
share of attempts that were evaluated or rejected with a reason (`explained`), and for each step
the median tokens read and written and seconds.
"""

import argparse
import statistics
from contextlib import closing
from pathlib import Path

from evolve.records import Status
from evolve.runs.run_folder import load_run
from evolve.store import Store

STEPS = ("planner", "editor", "summarizer")


def share(part: int, whole: int) -> str:
    return "-" if not whole else f"{part} of {whole}"


def describe(folder: Path) -> list[str]:
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        last = store.last_generation() or 0
        keys = [key for number in range(1, last + 1) for key in store.keys_of(number)]
        attempts = [store.load_attempt(key) for key in keys]
        objectives = {attempt.key: attempt.objective for attempt in attempts}
        objectives |= {key: store.load_attempt(key).objective for key in store.keys_of(0)}
        calls = store.finished_after(-1)[0]
    made = [one for one in attempts if one.plan is None or not one.plan.operator]
    programs = [one for one in made if one.program is not None]
    scored = [one for one in programs if one.objective is not None]
    gained = [
        one for one in scored if problem.direction.is_better(one.objective, objectives[one.parent])
    ]
    explained = [one for one in made if one.evaluation.status is Status.OK or one.evaluation.reason]
    steps = settings.steps
    left_out = list(settings.search.without) + ([] if steps.repairs else ["repairs"])
    cells = [
        folder.name,
        ", ".join(dict.fromkeys(call.reply.model for call in calls)) or "-",
        steps.form,
        ", ".join(left_out) or "nothing",
        str(last),
        share(len(programs), len(made)),
        share(len(scored), len(programs)),
        share(len(gained), len(programs)),
        share(len(explained), len(made)),
    ]
    for step in STEPS:
        replies = [call.reply for call in calls if call.request.role == step]
        if not replies:
            cells.append("-")
            continue
        read = statistics.median(reply.prompt_tokens for reply in replies)
        written = statistics.median(reply.completion_tokens for reply in replies)
        seconds = statistics.median(reply.seconds for reply in replies)
        cells.append(f"{read:.0f} + {written:.0f}, {seconds:.0f} s ({len(replies)})")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path)
    head = ["run", "model", "form", "without", "generations", "apply", "run", "improve"]
    head += ["explained", *STEPS]
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for folder in parser.parse_args().runs:
        print("| " + " | ".join(describe(folder)) + " |")


if __name__ == "__main__":
    main()
