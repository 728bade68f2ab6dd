"""Cells that hold Pareto fronts, for problems with several objectives.

Pierrot 2022, Multi-objective quality diversity optimization.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evolve.archive import AddStatus, Archive
from evolve.archive.ranking import dense_ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from evolve.archive import Elite
    from evolve.archive.cells import Cells
    from evolve.records import Direction

# Elites of one cell; beyond, the one in the most crowded place leaves.
MAX_FRONT = 16


class FrontArchive(Archive):
    """The best trade-offs of each cell: elites of which none is dominated by another.

    Args:
        cells: How measure space is cut.
        direction: Of the first objective.
        others: Directions of the further objectives.
    """

    def __init__(self, cells: Cells, direction: Direction, others: Sequence[Direction]) -> None:
        super().__init__(cells, direction)
        self._signs = np.array([item.sign for item in (direction, *others)])
        self._fronts: dict[int, list[int]] = {}

    @property
    def coverage(self) -> float:
        """Returns the share of cells that hold an elite, from 0 to 1."""
        return len(self._fronts) / self.space.size

    @property
    def best(self) -> Elite | None:
        """Returns the elite with the best first objective."""
        if not len(self):
            return None
        return self._elites[int(np.argmax(self.direction.sign * self.objectives))]

    def takes(self, cell: int, objective: float, others: tuple[float, ...]) -> bool:
        """Returns whether an elite with these objectives would be taken into a cell."""
        front = self._signed([self._elites[position] for position in self._fronts.get(cell, [])])
        return not (front >= self._signs * np.array([objective, *others])).all(axis=1).any()

    def add(self, elite: Elite) -> AddStatus:
        """Puts an elite into its cell unless one there is at least as good in everything.

        Those that it is at least as good as in everything leave; from a full front, the one in
        the most crowded place.
        """
        cell = self.space.cell_of(elite.measures)
        if not self.takes(cell, elite.objective, elite.others):
            return AddStatus.NOT_ADDED
        status = AddStatus.IMPROVED if cell in self._fronts else AddStatus.NEW
        values = self._signed([elite])
        held = [self._elites[position] for position in self._fronts.get(cell, [])]
        beaten = np.flatnonzero((self._signed(held) <= values).all(axis=1))
        for number in beaten.tolist():
            self._remove(self._by_key[held[number].key])
        self._fronts.setdefault(cell, []).append(self._append(elite, cell))
        if len(self._fronts[cell]) > MAX_FRONT:
            front = self._fronts[cell]
            crowding = crowding_distances(self._signed([self._elites[at] for at in front]))
            self._remove(front[int(np.argmin(crowding))])
        return status

    def ranked(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns positions by how many fronts lie above, in each by the first objective.

        The rank of each is that of its front, so that trade-offs are all alike.
        """
        depths = domination_depths(self._signed(self._elites))
        order = np.lexsort((-self.direction.sign * self.objectives, depths))
        return order, dense_ranks(depths[order])

    def _signed(self, elites: Sequence[Elite]) -> NDArray[np.float64]:
        return _sign(elites, self._signs)

    def _remove(self, position: int) -> None:
        """Takes an elite out; the last one takes its place."""
        self._ranking.forget()
        self._by_key.pop(self._elites[position].key)
        self._fronts[self._cells[position]].remove(position)
        last = len(self._elites) - 1
        if position != last:
            moved, cell = self._elites[last], self._cells[last]
            front = self._fronts[cell]
            front[front.index(last)] = position
            self._elites[position], self._cells[position] = moved, cell
            self._objectives[position] = self._objectives[last]
            self._children[position] = self._children[last]
            self._by_key[moved.key] = position
        self._elites.pop()
        self._cells.pop()


def find_front(
    elites: Sequence[Elite], direction: Direction, others: Sequence[Direction]
) -> list[Elite]:
    """Returns the elites that nothing dominates, by the first objective; none without others."""
    if not others or not elites:
        return []
    values = _sign(elites, np.array([item.sign for item in (direction, *others)]))
    best = [elites[at] for at in np.flatnonzero(domination_depths(values) == 0.0).tolist()]
    return sorted(best, key=lambda elite: -direction.sign * elite.objective)


def _sign(elites: Sequence[Elite], signs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns objectives of which larger is better, shape `(len(elites), objectives)`."""
    values = [(elite.objective, *elite.others) for elite in elites]
    signed: NDArray[np.float64] = np.array(values).reshape(-1, len(signs)) * signs
    return signed


def domination_depths(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns how many fronts lie above each point, 0 for those that nothing dominates.

    Args:
        values: Shape `(n, objectives)`; larger is better.
    """
    count = len(values)
    depths = np.zeros(count)
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
