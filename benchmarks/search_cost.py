"""What the population costs: adding an elite, selecting for a generation, memory.

    python benchmarks/search_cost.py
    python benchmarks/search_cost.py --sizes 100 1000 100000 --repeats 15

CPU time of this process, one thread. Elites are offered to an archive that already holds so many:
half of the offers improve a cell, half are worse than what is there. Selection chooses parents and
two inspirations each for a generation of 16 slots, with the default settings but an entropy target
of 0.7 (which takes longer), from islands that hold so many elites together, once with the sketches
of candidates known (as in a run, where each is made once per elite) and objectives with ties;
nothing is kept from one generation to the next. What reading the clock takes is taken off. Memory
is what `tracemalloc` sees, per elite, sources apart.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from evolve.archive import Archive, Elite
from evolve.archive.archives import GridCells, Islands
from evolve.archive.selection import ParentSelector
from evolve.problem import Measure
from evolve.records import AttemptKey, Direction
from evolve.settings.sections import SearchSettings

SLOTS = 16
OFFERS = 2000


def make_axes(cells: int) -> list[Measure]:
    side = max(int(cells**0.5), 1)
    return [Measure("x", 0.0, 1.0, side), Measure("y", 0.0, 1.0, -(-cells // side))]


def make_elite(number: int, x: float, y: float, objective: float) -> Elite:
    key = AttemptKey(number // SLOTS, number % SLOTS, 0)
    parent = AttemptKey(0, 0, 0)
    return Elite(key, f"{number:016x}", objective, (x, y), 0, 3, parent)


def center(axes: list[Measure], cell: int) -> tuple[float, float]:
    row, column = divmod(cell, axes[1].cells)
    return (row + 0.5) / axes[0].cells, (column + 0.5) / axes[1].cells


def fill(archive: Archive, axes: list[Measure], count: int, rng: np.random.Generator) -> None:
    objectives = rng.integers(0, 10 * count, size=count)
    for number in range(count):
        archive.add(make_elite(number, *center(axes, number), float(objectives[number])))


def measure_adding(count: int, repeats: int) -> list[float]:
    """Returns CPU microseconds of one add, once a repeat."""
    found = []
    for repeat in range(repeats):
        rng = np.random.default_rng([1, repeat])
        axes = make_axes(count)
        archive = Archive(GridCells(axes), Direction.MAXIMIZE)
        fill(archive, axes, count, rng)
        offers = []
        for number in range(OFFERS):
            at = center(axes, int(rng.integers(count)))
            objective = -1.0 if number % 2 else 1e9 + number
            offers.append(make_elite(count + number, *at, objective))
        start = time.process_time()
        for elite in offers:
            archive.add(elite)
        found.append((time.process_time() - start) / OFFERS * 1e6)
    return found


def measure_selecting(count: int, repeats: int, entropy: float = 0.7) -> list[float]:
    """Returns CPU milliseconds of a generation, once a repeat."""
    rng = np.random.default_rng(2)
    settings = SearchSettings()
    share = count // settings.islands
    axes = make_axes(share)
    islands = Islands(axes, Direction.MAXIMIZE, settings)
    for archive in islands.archives:
        fill(archive, axes, share, rng)
    sketches: dict[str, np.ndarray] = {}

    def signature_of(elite: Elite) -> np.ndarray:
        if elite.program_id not in sketches:
            sketches[elite.program_id] = rng.integers(2**32, size=64, dtype=np.uint32)
        return sketches[elite.program_id]

    for archive in islands.archives:
        for elite in archive.elites:
            signature_of(elite)
    clock = statistics.median(-time.process_time() + time.process_time() for _ in range(101))
    found = []
    for repeat in range(repeats + 2):
        streams = [np.random.default_rng([3, repeat, slot]) for slot in range(SLOTS)]
        start = time.process_time()
        selector = ParentSelector(islands, entropy=entropy, pool=[], signature_of=signature_of)
        for slot, stream in enumerate(streams):
            selector.select(slot % settings.islands, stream)
        found.append((time.process_time() - start - clock) * 1e3)
        # What the generation brings: some of its programs become elites.
        for slot in range(SLOTS):
            at = center(axes, int(rng.integers(share)))
            number = count * (repeat + 2) + slot
            islands.archives[slot % settings.islands].add(
                make_elite(number, *at, 10.0 * count + number)
            )
    return found[2:]


def measure_memory(count: int) -> float:
    """Returns bytes of an elite in an archive, with its sketch."""
    rng = np.random.default_rng(4)
    tracemalloc.start()
    axes = make_axes(count)
    archive = Archive(GridCells(axes), Direction.MAXIMIZE)
    fill(archive, axes, count, rng)
    sketches = {elite.program_id: np.zeros(64, np.uint32) for elite in archive.elites}
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(sketches) == len(archive)
    return used / count


def show(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=11)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f}")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}\n")
    print("| elites | add, grid, us | select for 16 slots, ms | memory an elite, bytes |")
    print("|---|---|---|---|")
    for size in asked.sizes:
        adding = show(measure_adding(size, min(asked.repeats, 5)))
        selecting = show(measure_selecting(size, asked.repeats))
        print(f"| {size:,} | {adding} | {selecting} | {measure_memory(size):.0f} |", flush=True)


if __name__ == "__main__":
    main()
