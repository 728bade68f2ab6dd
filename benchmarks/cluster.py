"""What Ray adds to evaluations: the rate that a cluster reaches, and what one costs beside a pool.

    python benchmarks/cluster.py --evaluators 8 --sleep 1 --evaluations 80 --runs 3
    python benchmarks/cluster.py --evaluators 2 --sleep 0 --evaluations 400 --runs 5

Needs `pip install 'evolve[ray]'`. The cluster is real: two nodes on this machine, whose cores are
numbers that Ray is given, since sleeping programs need none. All evaluators are ready before the
clock starts. CPU time is that of the head's two processes: this one and the one that speaks to Ray.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from evolve.evaluation.pool import Evaluators
from evolve.problem import Problem, load_problem
from evolve.runs.wiring import open_evaluators
from evolve.settings import Settings
from evolve.settings.sections import ClusterSettings, SandboxSettings
from tests.clusters import ray_nodes
from tests.commands import INITIAL, write_problem

HEAD = 'name = "valley"\ndirection = "maximize"\npackages = []\n[limits]\n'
TICK = os.sysconf("SC_CLK_TCK")


def read_cpu(evaluators: Evaluators) -> float:
    """Returns the CPU seconds of this process and of the one that speaks to Ray."""
    driver = getattr(evaluators, "_process", None)
    spent = time.process_time()
    if driver is not None:
        fields = Path(f"/proc/{driver.pid}/stat").read_text().rpartition(")")[2].split()
        spent += (int(fields[11]) + int(fields[12])) / TICK
    return spent


def measure(
    evaluators: Evaluators, problem: Problem, count: int, width: int
) -> tuple[float, float]:
    """Returns wall seconds of so many evaluations, and CPU seconds of each in the head."""
    with ThreadPoolExecutor(width) as threads:
        cpu, started = read_cpu(evaluators), time.monotonic()
        list(threads.map(lambda _: evaluators.evaluate(problem.initial), range(count)))
        return time.monotonic() - started, (read_cpu(evaluators) - cpu) / count


def show(name: str, values: list[float], scale: float = 1.0, unit: str = "") -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"{name:<44} {middle * scale:8.3f} ({low * scale:.3f} to {high * scale:.3f}) {unit}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluators", type=int, default=8)
    parser.add_argument("--sleep", type=float, default=1.0)
    parser.add_argument("--evaluations", type=int, default=80)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load average {load:.1f}, Python {platform.python_version()}")
    pause = f"    import time; time.sleep({asked.sleep})\n"
    program = INITIAL.replace("    return", f"{pause}    return")
    toml = f"{HEAD}seconds = {asked.sleep + 10}\n"
    with (
        tempfile.TemporaryDirectory() as scratch,
        ray_nodes(asked.evaluators // 2, asked.evaluators - asked.evaluators // 2) as nodes,
    ):
        problem = load_problem(write_problem(Path(scratch, "p"), initial=program, toml=toml))
        sandbox = SandboxSettings(processes=asked.evaluators)
        there = ClusterSettings(address=nodes.address, resources=("memory=1",))
        results: dict[str, list[tuple[float, float]]] = {}
        places: dict[str, Callable[[], Settings]] = {
            "here": lambda: Settings(sandbox=sandbox),
            "Ray": lambda: Settings(sandbox=sandbox, cluster=there),
        }
        opened = {name: open_evaluators(problem, make()) for name, make in places.items()}
        with closing(opened["here"]), closing(opened["Ray"]):
            for evaluators in opened.values():
                evaluators.start()
                evaluators.wait()
                measure(evaluators, problem, 4 * asked.evaluators, asked.evaluators)
            # In turn, so that other work on the machine meets both alike.
            for _ in range(asked.runs):
                for name, evaluators in opened.items():
                    found = measure(evaluators, problem, asked.evaluations, asked.evaluators)
                    results.setdefault(name, []).append(found)
    for name, found in results.items():
        walls = [wall for wall, _ in found]
        show(f"{name}: ms an evaluation", [wall / asked.evaluations for wall in walls], 1e3)
        show(f"{name}: ms CPU of the head an evaluation", [cpu for _, cpu in found], 1e3)
        if asked.sleep:
            ideal = asked.evaluations * asked.sleep / asked.evaluators
            show(f"{name}: share of the ideal rate", [ideal / wall for wall in walls], 100, "%")
    pairs = zip(results["Ray"], results["here"], strict=True)
    show("Ray to here, wall time", [ray[0] / here[0] for ray, here in pairs])


if __name__ == "__main__":
    main()
