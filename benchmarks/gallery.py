"""What runs without a model reach on every problem of the gallery, as a table.

    python benchmarks/gallery.py --seconds 120 --seeds 0 1
    python benchmarks/gallery.py cap_set cfr_variants --seconds 60

Each run is `evolve run PROBLEM --max-time SECONDS --seed SEED` in a temporary folder, one after
the other. Printed are the starting program, what each seed reached, the baseline, the best known
value, the evaluations used, and the hold-out of start and champion where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from evolve.problem import Problem, load_problem  # noqa: E402

HEAD = "| problem | start | reached | baseline | best known | evaluations | hold-out |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problems", nargs="*", help="names of folders; all of them by default")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    names = options.problems or sorted(path.parent.name for path in find_folders())
    print(
        f"{options.seconds:g} s a run, seeds {options.seeds}, {len(os.sched_getaffinity(0))} cores"
    )
    print(f"\n{HEAD}\n|{'---|' * HEAD.count(' | ')}---|", flush=True)
    for name in names:
        problem = load_problem(ROOT / "problems" / name)
        states = [run(problem, options.seconds, seed) for seed in options.seeds]
        print(describe(problem, states), flush=True)


def find_folders() -> list[Path]:
    # What asks a model cannot run without one.
    found = ROOT.glob("problems/*/problem.toml")
    return [path for path in found if not load_problem(path.parent).asks]


def run(problem: Problem, seconds: float, seed: int) -> dict[str, Any]:
    """Returns what `evolve show --json` tells about a run."""
    with tempfile.TemporaryDirectory() as folder:
        limits = ("--max-time", str(seconds), "--seed", str(seed), "--run-dir", "run")
        evolve = (sys.executable, "-m", "evolve")
        subprocess.run(
            [*evolve, "run", problem.folder, *limits], cwd=folder, capture_output=True, check=False
        )
        show = [*evolve, "show", "run", "--json"]
        done = subprocess.run(show, cwd=folder, capture_output=True, check=True)
        state: dict[str, Any] = json.loads(done.stdout)
        return state


def describe(problem: Problem, states: list[dict[str, Any]]) -> str:
    """Returns a line of the table."""
    reached = ", ".join(f"{state['champion']['objective']:.8g}" for state in states)
    references = [
        f"{reference.value:.8g}" if reference else ""
        for reference in (problem.baseline, problem.best_known or problem.bound)
    ]
    holdouts = [
        " to ".join(f"{state[who]['holdout']['objective']:.6g}" for who in ("initial", "champion"))
        for state in states
        if state["champion"]["holdout"]
    ]
    cells = [
        f"`{problem.name}` ({problem.direction})",
        f"{states[0]['initial']['objective']:.8g}",
        reached,
        *references,
        ", ".join(str(state["evaluations"]) for state in states),
        ", ".join(holdouts),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
