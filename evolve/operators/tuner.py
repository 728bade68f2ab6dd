"""Constants tuned by CMA-ES (Hansen 2016, The CMA evolution strategy: a tutorial)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evolve.operators.tunables import MAX_CONSTANTS, find_tunables, set_tunables
from evolve.records import Direction, Program

if TYPE_CHECKING:
    # Slow: see `_load_optimiser`.
    from cmaes import CMA

# Relative to the size of a constant, or to the width of its range.
_FIRST_STEP, _LARGEST_STEP, _STEP_GROWTH = 0.1, 6.4, 4.0
# Where the best is no better than this quantile of a generation, the steps are too small to tell
# anything (Hansen 2016, on flat fitness): the session starts again with larger ones.
_FLAT_SHARE = 0.7
# A session continues while its later half brought at least this share of all it gained.
_LEAST_SHARE = 0.02
_LEAST_SAMPLES = 60
_SAMPLES_PER_CONSTANT = 10


class Tuner:
    """One session: programs that differ from its first in constants, ever better ones.

    What it proposes follows from its arguments and the objectives added, in order, alone; only the
    order of objectives matters. Where objectives are equal because steps are too small, it starts
    again from the best program so far, with larger steps.

    Args:
        program: Where to start from; at least one constant can be tuned.
        direction: Whether larger or smaller objectives are better.
        seed: Seed of its random stream.
        known: Objectives of the samples made before, None for programs that have none.
    """

    def __init__(
        self,
        program: Program,
        direction: Direction,
        *,
        seed: Sequence[int],
        known: Sequence[float | None] = (),
    ) -> None:
        self._program = program
        self._sign = direction.sign
        self._tunables = find_tunables(program, MAX_CONSTANTS)
        self._seed = tuple(seed)
        self._step = _FIRST_STEP
        self._best = (np.inf, np.array([tunable.position for tunable in self._tunables]))
        self._cma = self._start(0)
        self._waiting: list[NDArray[np.float64]] = []
        self._losses: list[tuple[NDArray[np.float64], float]] = []
        self.objectives: list[float | None] = []
        for objective in known:
            self.ask(1)
            self.add([objective])

    @property
    def constants(self) -> int:
        """Returns the number of constants."""
        return len(self._tunables)

    def ask(self, most: int) -> list[Program]:
        """Returns programs to evaluate, as many as do not depend on one another's objectives.

        Args:
            most: At least 1.
        """
        if not self._waiting:
            count = self._cma.population_size - len(self._losses)
            self._waiting = [self._cma.ask() for _ in range(count)]
        chosen = self._waiting[:most]
        return [set_tunables(self._program, self._tunables, point.tolist()) for point in chosen]

    def add(self, objectives: Sequence[float | None]) -> None:
        """Adds the objectives of the programs asked for, in order; there may be fewer."""
        for objective in objectives:
            loss = np.inf if objective is None else -self._sign * objective
            self._losses.append((self._waiting.pop(0), loss))
            self.objectives.append(objective)
        if len(self._losses) == self._cma.population_size:
            self._learn()
            self._losses = []

    def _learn(self) -> None:
        points, losses = zip(*self._losses, strict=True)
        first = int(np.argmin(losses))
        if losses[first] < self._best[0]:
            self._best = (losses[first], points[first])
        if np.isfinite(losses[first]) and losses[first] == np.quantile(
            losses, _FLAT_SHARE, method="lower"
        ):
            self._step = min(_STEP_GROWTH * self._step, _LARGEST_STEP)
            self._cma = self._start(len(self.objectives))
        else:
            ranks = np.unique(losses, return_inverse=True)[1]
            self._cma.tell([(p, float(rank)) for p, rank in zip(points, ranks, strict=True)])

    def _start(self, number: int) -> CMA:
        ends = [
            (-np.inf, np.inf) if tunable.range is None else (0.0, 1.0) for tunable in self._tunables
        ]
        return _load_optimiser()(
            self._best[1],
            self._step,
            bounds=np.array(ends),
            n_max_resampling=8,
            seed=int(np.random.SeedSequence([*self._seed, number]).generate_state(1)[0]),
        )


@cache
def _load_optimiser() -> type[CMA]:
    """Returns the one class of its library that is used.

    The package as a whole imports SciPy where that is installed, which takes two seconds.
    """
    package = find_spec("cmaes")
    if package is None or package.origin is None:
        raise ImportError("expected the package `cmaes`, got none; install `evolve` again")
    spec = spec_from_file_location("cmaes._cma", Path(package.origin).with_name("_cma.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"{package.origin}: expected a module `_cma` next to it")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    optimiser: type[CMA] = module.CMA
    return optimiser


def is_spent(objectives: Sequence[float | None], constants: int, direction: Direction) -> bool:
    """Returns whether a session has brought what it could.

    It continues while the later half of its samples brought more than a small share of the gain of
    all; the scale of objectives does not matter.

    Args:
        objectives: Of its samples in order, the program's own first.
        constants: Number of constants.
        direction: Whether larger or smaller objectives are better.
    """
    if len(objectives) <= _LEAST_SAMPLES + _SAMPLES_PER_CONSTANT * constants:
        return False
    values = [-np.inf if one is None else direction.sign * one for one in objectives]
    start, half, best = values[0], max(values[: len(values) // 2]), max(values)
    return bool(best - half <= _LEAST_SHARE * (best - start))
