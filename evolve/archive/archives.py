"""Archives: elites by cell of measure space, one archive for each island.

Mouret & Clune 2015, Illuminating search spaces by mapping elites.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from evolve.archive.credit import Merit
from evolve.problem import Measure
from evolve.records import AttemptKey, Direction
from evolve.settings.sections import STRATEGIES, SearchSettings

# Elites of one cell with several objectives; beyond, the one in the most crowded place leaves.
MAX_FRONT = 16
# Best elites that each island sends to the next.
MIGRANTS = 2
# Where more than one in so many elites changed, sorting all of them is quicker.
_FEW = 64
_NO_MERIT = Merit(0.0)


class GridCells:
    """A grid, numbered row-major over the axes; what lies outside falls into the edge cell.

    Args:
        axes: The measures with their ranges; without any there is a single cell.
    """

    def __init__(self, axes: Sequence[Measure]) -> None:
        self.axes = tuple(axes)
        self.size = math.prod(axis.cells for axis in self.axes)

    def cell_of(self, coordinates: Sequence[float]) -> int:
        """Returns the number of the cell of a point, from 0."""
        cell = 0
        for axis, value in zip(self.axes, coordinates, strict=True):
            index = int(share_of(axis, value) * axis.cells)
            cell = cell * axis.cells + min(index, axis.cells - 1)
        return cell

    def centers_of(self, cells: Sequence[int]) -> NDArray[np.float64]:
        """Returns the middles of cells in the unit cube, shape `(len(cells), len(axes))`."""
        shape = [axis.cells for axis in self.axes]
        indices = np.array(np.unravel_index(np.asarray(cells, np.int64), shape)).T
        return (indices + 0.5) / shape


# How measure space is cut, by the value of `search.archive`.
KINDS: Mapping[str, Callable[[Sequence[Measure]], GridCells]] = MappingProxyType(
    {
        "grid": GridCells,
        "single": lambda axes: GridCells([replace(axis, cells=1) for axis in axes]),
    }
)


def share_of(axis: Measure, value: float) -> float:
    """Returns the place of a value in an axis' range, from 0 to 1; the ends for what is outside."""
    if value <= axis.low:
        return 0.0
    if value >= axis.high:
        return 1.0
    if axis.scale == "log":
        return math.log(value / axis.low) / math.log(axis.high / axis.low)
    return (value - axis.low) / (axis.high - axis.low)


def locate(axes: Sequence[Measure], measures: Mapping[str, float]) -> tuple[float, ...]:
    """Returns the coordinates of an evaluation's measures, shape `(len(axes),)`.

    Raises:
        ValueError: A measure is missing or not finite.
    """
    coordinates = []
    for axis in axes:
        value = measures.get(axis.name)
        if value is None or not math.isfinite(value):
            raise ValueError(f"measure `{axis.name}`: expected a finite number, got {value!r}")
        coordinates.append(float(value))
    return tuple(coordinates)


def is_outside(axes: Sequence[Measure], coordinates: Sequence[float]) -> bool:
    """Returns whether any coordinate lies outside its range."""
    pairs = zip(axes, coordinates, strict=True)
    return any(not axis.low <= value <= axis.high for axis, value in pairs)


@dataclass(frozen=True, slots=True)
class Elite:
    """The program in a cell.

    Attributes:
        key: The attempt that found it.
        program_id: Identity of its source.
        objective: In the problem's units.
        measures: Coordinates, shape `(len(axes),)`.
        origin: Island on which it was found; differs from its own after a migration.
        depth: Length of its chain of parents.
        parent: The attempt it was made from.
        others: Further objectives, in the order in which the problem declares them.
        merit: What decides between it and the champion.
    """

    key: AttemptKey
    program_id: str
    objective: float
    measures: tuple[float, ...]
    origin: int
    depth: int
    parent: AttemptKey | None
    others: tuple[float, ...] = ()
    merit: Merit = _NO_MERIT


class AddStatus(IntEnum):
    """What became of an elite offered to an archive; truthy when it was taken."""

    NOT_ADDED = 0
    IMPROVED = 1
    NEW = 2


class Archive:
    """The best elite of each cell.

    Adding takes time independent of the number of elites. Elites with a measure outside its range
    are counted in `out_of_range`. On equal objectives the earlier elite stays.

    Args:
        space: How measure space is cut into cells.
        direction: Whether larger or smaller objectives win.
    """

    def __init__(self, space: GridCells, direction: Direction) -> None:
        self.space = space
        self.direction = direction
        self.out_of_range = 0
        self._elites: list[Elite] = []
        self._cells: list[int] = []
        self._objectives = np.empty(16)
        # How often each attempt was a parent, and each elite, by position.
        self._parents: Counter[AttemptKey] = Counter()
        self._children = np.zeros(16, np.int64)
        self._positions: dict[int, int] = {}
        self._places: dict[AttemptKey, int] = {}
        self._best: int | None = None
        # Positions by objective, but for those of elites that came since.
        self._order = np.empty(0, np.int64)
        self._unsorted: set[int] = set()

    def __len__(self) -> int:
        return len(self.elites)

    @property
    def coverage(self) -> float:
        """Returns the share of cells that hold an elite, from 0 to 1."""
        return len(self) / self.space.size

    @property
    def elites(self) -> Sequence[Elite]:
        """Returns the elites in the order in which their cells were first filled."""
        return self._elites

    @property
    def cells(self) -> Sequence[int]:
        """Returns the cell of each elite, in the order of `elites`."""
        return self._cells

    @property
    def objectives(self) -> NDArray[np.float64]:
        """Returns the objectives in the order of `elites`, shape `(len(archive),)`."""
        return self._objectives[: len(self._elites)]

    @property
    def best(self) -> Elite | None:
        """Returns the elite with the best objective, the earliest on ties."""
        return None if self._best is None else self._elites[self._best]

    @property
    def children(self) -> NDArray[np.int64]:
        """Returns how often each elite was a parent, in the order of `elites`."""
        return self._children[: len(self._elites)]

    def record_child(self, parent: AttemptKey) -> None:
        """Counts a child of an attempt, which may be an elite now or later."""
        self._parents[parent] += 1
        place = self._places.get(parent)
        if place is not None:
            self._children[place] += 1

    def would_take(self, cell: int, objective: float, others: tuple[float, ...]) -> bool:  # noqa: ARG002
        """Returns whether an elite with these objectives would be taken into a cell."""
        position = self._positions.get(cell)
        return position is None or self.direction.is_better(
            objective, self._elites[position].objective
        )

    def add(self, elite: Elite) -> AddStatus:
        """Puts an elite into its cell if the cell is empty or holds a worse one."""
        cell = self.space.cell_of(elite.measures)
        if not self.would_take(cell, elite.objective, elite.others):
            return AddStatus.NOT_ADDED
        status = AddStatus.IMPROVED
        position = self._positions.get(cell)
        if position is None:
            status = AddStatus.NEW
            position = self._positions[cell] = len(self._elites)
            self._elites.append(elite)
            self._cells.append(cell)
            if position == len(self._objectives):
                self._objectives = np.concatenate([self._objectives, np.empty(position)])
                self._children = np.concatenate([self._children, self._children])
        self._places.pop(self._elites[position].key, None)
        self._places[elite.key] = position
        self._elites[position] = elite
        self._objectives[position] = elite.objective
        self._children[position] = self._parents[elite.key]
        self._unsorted.add(position)
        self.out_of_range += is_outside(self.space.axes, elite.measures)
        best = self.best
        if best is None or self.direction.is_better(elite.objective, best.objective):
            self._best = position
        return status

    def by_objective(self) -> NDArray[np.int64]:
        """Returns positions from the best objective to the worst, the earlier first on ties."""
        if not self._unsorted:
            return self._order
        keys = -self.direction.sign * self.objectives
        if len(self._unsorted) * _FEW > len(keys):
            self._order = np.argsort(keys, kind="stable")
        else:
            new = np.array(sorted(self._unsorted, key=lambda at: (keys[at], at)))
            is_new = np.zeros(len(keys), bool)
            is_new[new] = True
            kept = self._order[~is_new[self._order]]
            # Sorting all of them again would be most of what a selection takes.
            first, last = (keys[kept].searchsorted(keys[new], side) for side in ("left", "right"))
            places = [
                low + int(kept[low:high].searchsorted(at))
                for at, low, high in zip(new, first, last, strict=True)
            ]
            self._order = np.insert(kept, places, new)
        self._unsorted.clear()
        return self._order

    def ranked(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns positions from best to worst, and the rank of each, from 0.

        Equal objectives share a rank, so any increasing transformation of the objective leaves
        the result unchanged.
        """
        order = self.by_objective()
        return order, dense_ranks(self.objectives[order])


class FrontArchive(Archive):
    """The best trade-offs of each cell: elites of which none is dominated by another.

    Pierrot 2022, Multi-objective quality diversity optimization.

    Args:
        space: How measure space is cut into cells.
        direction: Of the first objective.
        others: Directions of the further objectives.
    """

    def __init__(self, space: GridCells, direction: Direction, others: Sequence[Direction]) -> None:
        super().__init__(space, direction)
        self._signs = np.array([item.sign for item in (direction, *others)])
        self._fronts: dict[int, list[Elite]] = {}

    @property
    def coverage(self) -> float:
        """Returns the share of cells that hold an elite, from 0 to 1."""
        return len(self._fronts) / self.space.size

    @property
    def objectives(self) -> NDArray[np.float64]:
        """Returns the first objectives in the order of `elites`, shape `(len(archive),)`."""
        return np.array([elite.objective for elite in self._elites])

    @property
    def best(self) -> Elite | None:
        """Returns the elite with the best first objective."""
        return self._elites[self.by_objective()[0]] if self._elites else None

    def would_take(self, cell: int, objective: float, others: tuple[float, ...]) -> bool:
        """Returns whether an elite with these objectives would be taken into a cell."""
        front = signed_objectives(self._fronts.get(cell, []), self._signs)
        return not (front >= self._signs * np.array([objective, *others])).all(axis=1).any()

    def add(self, elite: Elite) -> AddStatus:
        """Puts an elite into its cell unless one there is at least as good in everything.

        Those that it is at least as good as in everything leave; from a full front, the one in
        the most crowded place.
        """
        cell = self.space.cell_of(elite.measures)
        if not self.would_take(cell, elite.objective, elite.others):
            return AddStatus.NOT_ADDED
        held = self._fronts.get(cell, [])
        values = signed_objectives([elite], self._signs)
        beaten = np.all(signed_objectives(held, self._signs) <= values, axis=1)
        front = [one for one, leaves in zip(held, beaten.tolist(), strict=True) if not leaves] + [
            elite
        ]
        if len(front) > MAX_FRONT:
            front.pop(int(np.argmin(crowding_distances(signed_objectives(front, self._signs)))))
        self._fronts[cell] = front
        self._elites = [one for front in self._fronts.values() for one in front]
        self._cells = [cell for cell, front in self._fronts.items() for _ in front]
        self._places = {one.key: place for place, one in enumerate(self._elites)}
        self._children = np.array([self._parents[one.key] for one in self._elites])
        self._order = np.argsort(-self.direction.sign * self.objectives, kind="stable")
        self.out_of_range += is_outside(self.space.axes, elite.measures)
        return AddStatus.IMPROVED if held else AddStatus.NEW

    def ranked(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns positions by how many fronts lie above, in each by the first objective.

        The rank of each is that of its front, so that trade-offs are all alike.
        """
        depths = domination_depths(signed_objectives(self._elites, self._signs))
        order = np.lexsort((-self.direction.sign * self.objectives, depths))
        return order, dense_ranks(depths[order])


class Islands:
    """Several archives that own their elites.

    Args:
        axes: Measures of every archive.
        direction: Whether larger or smaller objectives win.
        settings: Number of islands, migration, selection.
        others: Directions of further objectives; cells hold fronts then.
    """

    def __init__(
        self,
        axes: Sequence[Measure],
        direction: Direction,
        settings: SearchSettings,
        others: Sequence[Direction] = (),
    ) -> None:
        self.settings = settings
        self.strategy = STRATEGIES[settings.strategy]
        self._direction = direction
        self._others = tuple(others)
        cells = KINDS[settings.archive](axes)
        self.archives = [
            FrontArchive(cells, direction, others) if others else Archive(cells, direction)
            for _ in range(settings.islands)
        ]
        self.migrations = 0

    def seed(self, elite: Elite) -> None:
        """Puts the initial program on every island."""
        for archive in self.archives:
            archive.add(elite)

    def assign_slots(self, generation: int, slots: int) -> list[int]:
        """Returns the island of each slot of a generation, in turns."""
        return [(generation * slots + slot) % len(self.archives) for slot in range(slots)]

    def migrate(self) -> int:
        """Copies the best elites of each island to the next one in the ring.

        All migrants are chosen before the first one lands, so that none travels twice.

        Returns:
            How many copies were taken in.
        """
        count = len(self.archives)
        leaving = [
            [archive.elites[position] for position in archive.ranked()[0][:MIGRANTS]]
            for archive in self.archives
        ]
        taken = 0
        for island, migrants in enumerate(leaving if count > 1 else []):
            target = self.archives[(island + 1) % count]
            taken += sum(bool(target.add(elite)) for elite in migrants)
        self.migrations += taken
        return taken

    def front(self) -> list[Elite]:
        """Returns the elites of all islands that nothing dominates, the best first.

        Empty where there is one objective, whose best elite would be all of it.
        """
        if not self._others:
            return []
        known = {elite.program_id: elite for archive in self.archives for elite in archive.elites}
        elites = list(known.values())
        signs = np.array([item.sign for item in (self._direction, *self._others)])
        depths = domination_depths(signed_objectives(elites, signs))
        best = [elites[at] for at in np.flatnonzero(depths == 0.0).tolist()]
        return sorted(best, key=lambda elite: -self._direction.sign * elite.objective)


def signed_objectives(elites: Sequence[Elite], signs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns objectives of which larger is better, shape `(len(elites), len(signs))`."""
    values = [(elite.objective, *elite.others) for elite in elites]
    signed: NDArray[np.float64] = np.array(values).reshape(-1, len(signs)) * signs
    return signed


def domination_depths(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns how many fronts lie above each point, 0 for those that nothing dominates.

    Args:
        values: Shape `(n, objectives)`; larger is better.
    """
    depths = np.zeros(len(values))
    # Nothing that comes later in this order dominates what comes earlier.
    order = np.lexsort(tuple(-values[:, ::-1].T))
    for place, at in enumerate(order):
        above = order[:place]
        dominated = (values[above] >= values[at]).all(axis=1) & (values[above] > values[at]).any(1)
        if dominated.any():
            depths[at] = depths[above[dominated]].max() + 1.0
    return depths


def crowding_distances(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns how alone each point of a front is; infinite at its ends.

    Deb 2002, A fast and elitist multiobjective genetic algorithm: NSGA-II. Gaps between
    neighbours are relative to the span of each objective.
    """
    distances = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distances[order[[0, -1]]] = np.inf
        if span > 0.0:
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distances


def dense_ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the rank of each of some sorted values, from 0; equal values share theirs."""
    ranks = np.zeros(len(values), np.int64)
    np.cumsum(values[1:] != values[:-1], out=ranks[1:])
    return ranks
