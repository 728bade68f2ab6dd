"""What a search knows, saved now and then, so that a resume need not tell it everything again.

A state is derived: it is passed over where anything that made it is another one by now, the code
of this package included, and may be deleted at any time. Then all is told from the start again.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import zlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evolve.population import Population

if TYPE_CHECKING:
    from evolve.problem import Problem
    from evolve.search.digests import DigestMaker
    from evolve.search.schedule import Schedule
    from evolve.settings import Settings
    from evolve.store import Store

# Saving takes time in proportion to all evaluations: it waits for this part of them, so that each
# costs as much in a long run as in a short one.
_PART = 32
_FEWEST_EVALUATIONS = 1024
_PACKAGE = Path(__file__).resolve().parent.parent
# What a state may be made of, beside classes of the packages that hold what is told.
_PLAIN = {
    ("builtins", "float"),
    ("builtins", "list"),
    ("builtins", "set"),
    ("collections", "Counter"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("collections", "deque"),
    ("functools", "partial"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
}
_TOLD = (
    "evolve.archive",
    "evolve.models.bandit",
    "evolve.operators.choice",
    "evolve.operators.lane",
    "evolve.population",
    "evolve.problem.measures",
    "evolve.records",
    "evolve.settings.search",
    "evolve.settings.strategies",
    "evolve.steps.lessons",
    "evolve.steps.memory",
)


class StateKeeper:
    """Saves what a search knows, and gives it back to the search that goes on.

    Args:
        store: The run's database, open to write.
        problem: Measures and directions.
        settings: Of the run, as of now.
        fewest: Evaluations between two states, at least.
    """

    def __init__(
        self, store: Store, problem: Problem, settings: Settings, fewest: int = _FEWEST_EVALUATIONS
    ) -> None:
        self._fewest = fewest
        self._store = store
        self._problem = problem
        self._settings = settings
        # How many the saved state was told of, of this launch or an earlier one.
        self._evaluations = 0
        self._waiting: tuple[int, bytes] | None = None
        self._parts: list[Any] = []

    def begin(self) -> Population:
        """Gives the population as of the state that was saved, an empty one without any.

        Raises:
            StoreError: The database cannot be read.
        """
        last = self._store.last_generation() or 0
        if last:
            data = self._store.load_state(self._version)
            parts = unpack(data) if data else []
            # What is not committed yet may follow from any of the states after it.
            if parts and parts[0].generation < last - self._settings.loop.lag:
                self._parts = parts
        if self._parts:
            population: Population = self._parts.pop(0)
            self._evaluations = population.evaluations
            return population
        return Population(self._problem, self._settings.search, self._store.normal_form)

    def restore(self, schedule: Schedule, digests: DigestMaker) -> None:
        """Brings the others that are told of each generation to where the population is."""
        if self._parts:
            schedule.restore(self._parts[0])
            digests.restore(self._parts[1])

    def on_commit(self, population: Population, schedule: Schedule, digests: DigestMaker) -> None:
        """Takes note of a generation that was committed and told; now and then saves a state.

        Raises:
            StoreError: It cannot be written.
        """
        evaluations = population.evaluations
        if self._waiting is not None:
            generation, data = self._waiting
            if population.generation > generation + self._settings.loop.lag:
                self._store.save_state(generation, self._version, data)
                self._waiting = None
        elif evaluations - self._evaluations >= max(self._fewest, evaluations // _PART):
            data = pack([population, schedule.dump(), digests.dump()])
            self._waiting, self._evaluations = (population.generation, data), evaluations

    @cached_property
    def _version(self) -> str:
        problem, settings = self._problem, self._settings
        digest = hashlib.sha256(
            repr(
                (
                    sys.version_info[:2], np.__version__, problem.direction, problem.measures,
                    problem.objectives, settings.search, settings.loop.lag,
                    self._store.normal_form,
                )
            ).encode()
        )  # fmt: skip
        for path in sorted(_PACKAGE.rglob("*.py")):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]


class Unpickler(pickle.Unpickler):
    """Knows nothing that could do harm: a run's folder may come from anywhere."""

    def find_class(self, module: str, name: str) -> Any:
        """Gives a class that a state may hold objects of.

        Raises:
            UnpicklingError: It is another one, or no class.
        """
        if (module, name) in _PLAIN:
            return super().find_class(module, name)
        if module.startswith(_TOLD):
            found = super().find_class(module, name)
            # Not what a module has imported, nor what can be reached from there.
            if isinstance(found, type) and (found.__module__, found.__name__) == (module, name):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a state")


class _Packer:
    """Compresses what is written: a state as it is may take as much memory as what it is of."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(1)
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Takes in more."""
        self._parts.append(self._packer.compress(data))
        return len(data)

    def finish(self) -> bytes:
        """Gives all of it."""
        return b"".join([*self._parts, self._packer.flush()])


def pack(parts: list[Any]) -> bytes:
    """Gives what can be kept of the parts of a state."""
    packer = _Packer()
    pickle.Pickler(packer, pickle.HIGHEST_PROTOCOL).dump(parts)
    return packer.finish()


def unpack(data: bytes) -> list[Any]:
    """Gives the parts of a state; none where they cannot be read."""
    try:
        parts = Unpickler(io.BytesIO(zlib.decompress(data))).load()
    # It is derived: what cannot be read, for whatever reason, is passed over.
    except Exception:  # noqa: BLE001 - a damaged pickle may raise anything
        return []
    return list(parts)
