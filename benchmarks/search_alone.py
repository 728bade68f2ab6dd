"""The search without models: evaluations to a target, ours with each part off, and others.

    python benchmarks/search_alone.py                         # every landscape and method
    python benchmarks/search_alone.py --methods ours openevolve --seeds 3

All methods get the same proposer (`landscapes.propose`) with random streams of their own, the same
start, the same measures and the same budget. OpenEvolve's database (`pip install openevolve`) is
driven as its own loop drives it: islands in turns, `sample_from_island`, `add`, migration; what a
population forgets it may evaluate again. pyribs (`pip install ribs`) gets landscapes of numbers
only, with a `GridArchive` of the same cells and a `GaussianEmitter`; it proposes by itself.

Printed are medians over seeds with 95 % bootstrap intervals: evaluations to the target, where a
run that misses it counts as its budget, how many seeds reached it, and the area under the curve
of the best objective over the first 1,500 evaluations, 0 at the start and 1 at the target.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from landscapes import LANDSCAPES, propose

from evolve.archive.selection import ParentSelector
from evolve.problem import Measure
from evolve.records import INITIAL, AttemptKey, Direction, Program, SourceFile, Status
from evolve.records.results import LightAttempt
from evolve.search.population import Population
from evolve.settings.sections import SearchSettings
from evolve.source.analysis import fingerprint, sign_source

SLOTS, LAG, CELLS = 8, 1, 10
# The area under the curve is that of so many evaluations, whatever the budget.
AREA = 1500
OURS = SearchSettings(stall_after=240)
PARTS = {
    "ours": OURS,
    "no entropy target": replace(OURS, entropy=1.0),
    "no hill climbing": replace(OURS, without=("hill-climbing",)),
    "no visit penalty": replace(OURS, without=("visits",)),
    "one island": replace(OURS, islands=1),
    "four islands": replace(OURS, islands=4),
    "no migration": replace(OURS, without=("migration",)),
    "no cells": replace(OURS, archive="single"),
    "no stall responses": replace(OURS, without=("stalls",)),
    "best-of-n": replace(OURS, strategy="best-of-n", islands=1),
    "hill-climb": replace(OURS, strategy="hill-climb", islands=1),
    "random": replace(OURS, strategy="random", islands=1),
}
OTHERS = ("openevolve", "pyribs")
BASELINES = ("best-of-n", "hill-climb", "random", *OTHERS)


class Curve:
    """The best objective after each evaluation."""

    def __init__(self, landscape):
        self.landscape = landscape
        self.values = []

    @property
    def is_over(self):
        return len(self.values) >= self.landscape.budget or self.is_solved

    @property
    def is_solved(self):
        return bool(self.values) and self.values[-1] >= self.landscape.target

    def add(self, value):
        best = self.values[-1] if self.values else -np.inf
        self.values.append(max(best, -np.inf if value is None else value))

    def summary(self):
        target = self.landscape.target
        values = np.array(self.values[:AREA])
        start = values[0]
        shares = np.clip((values - start) / (target - start), 0.0, 1.0)
        area = (shares.sum() + shares[-1] * (AREA - len(shares))) / AREA
        return {"to_target": len(self.values), "solved": self.is_solved, "area": float(area)}


def program_of(genes):
    return Program((SourceFile("program.txt", "".join(f"{gene}\n" for gene in genes)),))


class Ours:
    """Our population, driven as the loop drives it: generations with a lag, told in slot order."""

    def __init__(self, landscape, settings, seed):
        self.landscape, self.settings, self.seed = landscape, settings, seed
        axes = tuple(Measure(name, 0.0, 1.0, CELLS) for name in ("first", "second"))
        problem = SimpleNamespace(
            measures=axes, direction=Direction.MAXIMIZE, objectives=(), noise=0.0,
            baseline=None, best_known=None, bound=None,
        )  # fmt: skip
        self.population = Population(problem, settings)
        self.genes, self.sketches = {}, {}
        self.curve = Curve(landscape)

    def run(self):
        self.population.add(0, [self.attempt(INITIAL, None, 0, self.landscape.start)])
        waiting = []
        number = 1
        while not self.curve.is_over:
            while len(waiting) <= LAG:
                waiting.append((number, self.launch(number)))
                number += 1
            generation, plans = waiting.pop(0)
            attempts = []
            for slot, (choice, genes, failed, twin) in enumerate(plans):
                key = AttemptKey(generation, slot, 0)
                elite = choice.parent
                attempts.append(
                    self.attempt(
                        key,
                        elite.key,
                        choice.island,
                        genes,
                        failed=failed,
                        depth=elite.depth + 1,
                        twin=twin,
                    )
                )
            self.population.add(generation, attempts)
        return self.curve.summary()

    def launch(self, generation):
        population = self.population
        selector = ParentSelector(
            population.islands,
            entropy=population.entropy,
            pool=population.pool,
            signature_of=self.sketch,
            champion=population.champion,
            climbing=population.climbing_share,
        )
        plans, horizon = [], population.generation
        for slot, island in enumerate(population.islands.assign_slots(generation, SLOTS)):
            rng = np.random.default_rng([self.seed, generation, slot])
            choice = selector.select(island, rng)
            mates = [self.genes[elite.program_id] for elite in choice.inspirations]
            parent = self.genes[choice.parent.program_id]
            genes, failed = propose(self.landscape, parent, mates, rng)
            twin = False
            if not failed:
                mark = fingerprint(program_of(genes))
                twin = population.find_duplicate(mark, horizon) is not None
            plans.append((choice, genes, failed, twin))
        return plans

    def attempt(self, key, parent, island, genes, *, failed=False, depth=0, twin=False):
        program = program_of(genes)
        status = Status.REJECTED if twin else Status.ERROR if failed else Status.OK
        value, places = None, (0.0, 0.0)
        if status is Status.OK:
            self.genes[program.id] = genes
            value, places = self.landscape.objective(genes), self.landscape.measures(genes)
        if status is not Status.REJECTED and not self.curve.is_over:
            self.curve.add(value)
        return LightAttempt(
            key=key, island=island, parent=parent, depth=depth, plan=None,
            program_id=program.id, fingerprint=None if failed else fingerprint(program),
            status=status, objective=value,
            measures=dict(zip(("first", "second"), places, strict=True)), metrics={}, uses=(),
        )  # fmt: skip

    def sketch(self, elite):
        if elite.program_id not in self.sketches:
            program = program_of(self.genes[elite.program_id])
            self.sketches[elite.program_id] = sign_source(program)
        return self.sketches[elite.program_id]


def run_openevolve(landscape, seed):
    import logging

    from openevolve.config import DatabaseConfig
    from openevolve.database import Program as Theirs
    from openevolve.database import ProgramDatabase

    logging.disable(logging.CRITICAL)
    random.seed(seed)
    config = DatabaseConfig(feature_dimensions=["first", "second"], random_seed=seed)
    database = ProgramDatabase(config)
    rng = np.random.default_rng(seed)
    genes, curve = {}, Curve(landscape)

    def tell(made, parent, iteration, island):
        value, (first, second) = landscape.objective(made), landscape.measures(made)
        name = f"p{iteration}"
        genes[name] = made
        theirs = Theirs(
            id=name, code=program_of(made).entry.text, language="text", parent_id=parent,
            iteration_found=iteration,
            metrics={"combined_score": value, "first": first, "second": second},
        )  # fmt: skip
        database.add(theirs, iteration=iteration, target_island=island)
        curve.add(value)

    tell(landscape.start, None, 0, 0)
    iteration = 0
    while not curve.is_over:
        iteration += 1
        island = iteration % config.num_islands
        parent, inspirations = database.sample_from_island(island, num_inspirations=2)
        mates = [genes[one.id.partition("_migrant")[0]] for one in inspirations if one.id in genes]
        made, failed = propose(landscape, genes.get(parent.id, landscape.start), mates, rng)
        if failed:
            curve.add(None)
            continue
        tell(made, parent.id, iteration, island)
        database.increment_island_generation(island_idx=island)
        if database.should_migrate():
            database.migrate_programs()
            for one in database.programs.values():
                if one.id not in genes:
                    genes[one.id] = tuple(_read(line) for line in one.code.split())
    return curve.summary()


def _read(text):
    return int(text) if text.lstrip("-").isdigit() else float(text)


def run_pyribs(landscape, seed):
    from ribs.archives import GridArchive
    from ribs.emitters import GaussianEmitter
    from ribs.schedulers import Scheduler

    archive = GridArchive(
        solution_dim=landscape.genes, dims=[CELLS, CELLS], ranges=[(0, 1), (0, 1)], seed=seed
    )
    bounds = [(0.0, 1.0)] * landscape.genes
    emitter = GaussianEmitter(
        archive, sigma=0.1, x0=list(landscape.start), bounds=bounds, batch_size=SLOTS, seed=seed
    )
    scheduler, curve = Scheduler(archive, [emitter]), Curve(landscape)
    curve.add(landscape.objective(landscape.start))
    rng = np.random.default_rng(seed)
    while not curve.is_over:
        points = [tuple(point) for point in scheduler.ask().tolist()]
        values = [landscape.objective(point) for point in points]
        scheduler.tell(values, [landscape.measures(point) for point in points])
        for value in values:
            # Its proposals do not fail: the share that fails costs it as much as the others.
            while rng.random() < 0.15:
                curve.add(None)
            curve.add(value)
    return curve.summary()


def run(method, landscape, seed):
    if method == "openevolve":
        return run_openevolve(landscape, seed)
    if method == "pyribs":
        return run_pyribs(landscape, seed)
    return Ours(landscape, PARTS[method], seed).run()


def bootstrap(values, rng):
    draws = rng.choice(values, size=(2000, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return float(low), float(high)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--budget", type=int, help="evaluations of a run")
    parser.add_argument("--methods", nargs="+", default=[*PARTS, *OTHERS])
    parser.add_argument("--landscapes", nargs="+", default=list(LANDSCAPES))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rng, results = np.random.default_rng(0), {}
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    for name in args.landscapes:
        landscape = LANDSCAPES[name]
        landscape = replace(landscape, budget=args.budget or landscape.budget)
        print(f"\n{name}: target {landscape.target}, budget {landscape.budget}", flush=True)
        for method in args.methods:
            if method == "pyribs" and not landscape.is_real:
                continue
            start = time.process_time()
            found = [run(method, landscape, seed) for seed in seeds]
            seconds = time.process_time() - start
            counts = [one["to_target"] for one in found]
            low, high = bootstrap(counts, rng)
            results.setdefault(method, {})[name] = found
            print(
                f"  {method:22} {statistics.median(counts):6.0f} [{low:.0f}, {high:.0f}]"
                f"  solved {sum(one['solved'] for one in found)}/{args.seeds}"
                f"  area {statistics.median(one['area'] for one in found):.3f}"
                f"  {1e6 * seconds / sum(counts):.0f} us an evaluation",
                flush=True,
            )
    summarize(results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1, default=float))


def summarize(results):
    """Prints how many evaluations each method needs relative to ours, over landscapes."""
    if "ours" not in results:
        return
    print("\nevaluations to the target relative to ours: median over landscapes, all of them")
    ours = {
        name: statistics.median(x["to_target"] for x in f) for name, f in results["ours"].items()
    }
    for method, by_name in results.items():
        ratios = {
            name: statistics.median(one["to_target"] for one in found) / ours[name]
            for name, found in by_name.items()
        }
        shown = "  ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
        print(f"  {method:22} {statistics.median(ratios.values()):.2f}   {shown}")


if __name__ == "__main__":
    main()
