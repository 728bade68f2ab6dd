"""How measure space is cut into cells: a grid, a Voronoi tessellation, or a single cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evolve.problem import Measure

_SAMPLES_PER_CELL = 10
_FEWEST_SAMPLES = 2000
_ROUNDS = 10


class Cells(Protocol):
    """The cells of measure space; the same for all islands.

    Attributes:
        axes: The measures.
        size: How many cells there are.
    """

    axes: tuple[Measure, ...]
    size: int

    def cell_of(self, coordinates: Sequence[float]) -> int:
        """Returns the number of the cell of a point of shape `(len(axes),)`, from 0."""

    def centers_of(self, cells: Sequence[int]) -> NDArray[np.float64]:
        """Returns where cells lie in the unit cube, shape `(len(cells), len(axes))`."""


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


class OneCell:
    """All of measure space in one cell: only the best program is kept.

    Args:
        axes: The measures.
    """

    def __init__(self, axes: Sequence[Measure]) -> None:
        self.axes = tuple(axes)
        self.size = 1

    def cell_of(self, coordinates: Sequence[float]) -> int:  # noqa: ARG002 - of the protocol
        """Returns 0."""
        return 0

    def centers_of(self, cells: Sequence[int]) -> NDArray[np.float64]:
        """Returns the middle of the unit cube for each cell."""
        return np.full((len(cells), len(self.axes)), 0.5)


class VoronoiCells:
    """Cells of about equal size around centroids, in any number of measures.

    Vassiliades 2018, Using centroidal Voronoi tessellations to scale up the multidimensional
    archive of phenotypic elites algorithm.

    Args:
        axes: The measures; ranges and scales say what is far.
        count: How many cells.
    """

    def __init__(self, axes: Sequence[Measure], count: int = 200) -> None:
        self.axes = tuple(axes)
        self.size = count
        self.centroids = _find_centroids(count, len(self.axes))
        self._offsets = (self.centroids**2).sum(axis=1) / 2.0

    def cell_of(self, coordinates: Sequence[float]) -> int:
        """Returns the number of the cell of a point: that of the nearest centroid."""
        pairs = zip(self.axes, coordinates, strict=True)
        point = np.array([share_of(axis, value) for axis, value in pairs])
        return int((self._offsets - self.centroids @ point).argmin())

    def centers_of(self, cells: Sequence[int]) -> NDArray[np.float64]:
        """Returns the centroids of cells, shape `(len(cells), len(axes))`."""
        return self.centroids[np.asarray(cells, np.int64)]


# How measure space is cut, by the value of `search.archive`.
KINDS: Mapping[str, Callable[[Sequence[Measure]], Cells]] = MappingProxyType(
    {"grid": GridCells, "cvt": VoronoiCells, "single": OneCell}
)


def make_cells(kind: str, axes: Sequence[Measure]) -> Cells:
    """Returns the cells of one of `KINDS`; a single one where there are no measures."""
    return KINDS[kind if axes else "single"](axes)


@lru_cache(maxsize=8)
def _find_centroids(count: int, dimensions: int) -> NDArray[np.float64]:
    """Returns centroids in the unit cube by Lloyd's algorithm, shape `(count, dimensions)`.

    They depend on the arguments alone, so that runs with other seeds have the same cells.
    """
    rng = np.random.default_rng([count, dimensions])
    samples = rng.random((max(_SAMPLES_PER_CELL * count, _FEWEST_SAMPLES), dimensions))
    centroids = samples[:count].copy()
    for _ in range(_ROUNDS):
        nearest = ((centroids**2).sum(axis=1) / 2.0 - samples @ centroids.T).argmin(axis=1)
        held = np.bincount(nearest, minlength=count)
        sums = [np.bincount(nearest, column, minlength=count) for column in samples.T]
        centroids[held > 0] = (np.array(sums).T[held > 0].T / held[held > 0]).T
    return centroids


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
