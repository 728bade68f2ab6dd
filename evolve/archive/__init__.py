"""One island's cells and the elites in them (Mouret 2015, Illuminating search spaces)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from evolve.archive.cells import is_outside
from evolve.archive.progress import Merit
from evolve.archive.ranking import Ranking, dense_ranks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from evolve.archive.cells import Cells
    from evolve.records import AttemptKey, Direction

# Cully & Demiris 2018, Quality and Diversity Optimization: A Unifying Modular Framework.
_CURIOSITY_GAIN = 1.0
_CURIOSITY_LOSS = 0.5
_NO_MERIT = Merit(0.0)


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
        cells: How measure space is cut.
        direction: Whether larger or smaller objectives win.
    """

    def __init__(self, cells: Cells, direction: Direction) -> None:
        self.space = cells
        self.direction = direction
        self.out_of_range = 0
        self._elites: list[Elite] = []
        self._cells: list[int] = []
        self._position: dict[int, int] = {}
        self._by_key: dict[AttemptKey, int] = {}
        self._objectives = np.empty(16)
        self._children = np.zeros(16, np.int64)
        self.curiosity_by_cell: dict[int, float] = {}
        self._best: int | None = None
        self._sign = direction.sign
        self._ranking = Ranking(direction.sign)

    def __len__(self) -> int:
        return len(self._elites)

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
        """Returns the objectives, shape `(len(archive),)`, as a view."""
        return self._objectives[: len(self)]

    @property
    def children(self) -> NDArray[np.int64]:
        """Returns how often each elite was a parent, shape `(len(archive),)`, as a view."""
        return self._children[: len(self)]

    @property
    def curiosity(self) -> NDArray[np.float64]:
        """Returns how the offspring of each elite's cell fared, shape `(len(archive),)`."""
        known = self.curiosity_by_cell
        return np.array([known.get(cell, 0.0) for cell in self._cells])

    @property
    def best(self) -> Elite | None:
        """Returns the elite with the best objective, the earliest on ties."""
        return None if self._best is None else self._elites[self._best]

    def takes(self, cell: int, objective: float, others: tuple[float, ...]) -> bool:  # noqa: ARG002
        """Returns whether an elite with these objectives might be taken into a cell."""
        position = self._position.get(cell)
        return position is None or bool(
            self._sign * objective > self._sign * self._elites[position].objective
        )

    def add(self, elite: Elite) -> AddStatus:
        """Puts an elite into its cell if the cell is empty or holds a worse one."""
        cell = self.space.cell_of(elite.measures)
        position = self._position.get(cell)
        if position is None:
            status = AddStatus.NEW
            position = self._position[cell] = self._append(elite, cell)
        elif self.direction.is_better(elite.objective, self._elites[position].objective):
            status = AddStatus.IMPROVED
            self._put(position, elite)
        else:
            return AddStatus.NOT_ADDED
        if self._best is None or self.direction.is_better(
            elite.objective, self._elites[self._best].objective
        ):
            self._best = position
        return status

    def count_child(self, parent: AttemptKey) -> int | None:
        """Counts one more child of an elite.

        Returns:
            Its cell, for `credit`; None for a parent that has been replaced.
        """
        position = self._by_key.get(parent)
        if position is None:
            return None
        self._children[position] += 1
        return self._cells[position]

    def set_children(self, key: AttemptKey, children: int) -> None:
        """Sets how often an elite was a parent; one that is not here is passed over."""
        position = self._by_key.get(key)
        if position is not None:
            self._children[position] = children

    def credit(self, cell: int, *, accepted: bool) -> None:
        """Takes note of how a child of an elite in a cell fared: the cell's curiosity."""
        change = _CURIOSITY_GAIN if accepted else -_CURIOSITY_LOSS
        self.curiosity_by_cell[cell] = self.curiosity_by_cell.get(cell, 0.0) + change

    def by_objective(self) -> NDArray[np.int64]:
        """Returns positions from the best objective to the worst, the earlier first on ties."""
        return self._ranking.order(self.objectives)

    def ranked(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns positions from best to worst, and the rank of each, from 0.

        Equal objectives share a rank, so any increasing transformation of the objective leaves
        the result unchanged.
        """
        order = self.by_objective()
        return order, dense_ranks(self.objectives[order])

    def _append(self, elite: Elite, cell: int) -> int:
        position = len(self._elites)
        if position == len(self._objectives):
            self._objectives = np.concatenate([self._objectives, np.empty(position)])
            self._children = np.concatenate([self._children, np.zeros(position, np.int64)])
        self._elites.append(elite)
        self._cells.append(cell)
        self._put(position, elite)
        return position

    def _put(self, position: int, elite: Elite) -> None:
        """Sets the elite at a position, in place of another one or at the end."""
        self._by_key.pop(self._elites[position].key, None)
        self._elites[position] = elite
        self._by_key[elite.key] = position
        self._objectives[position] = elite.objective
        self._children[position] = 0
        self._ranking.change(position)
        self.out_of_range += is_outside(self.space.axes, elite.measures)
