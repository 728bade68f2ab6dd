"""How measure space is cut into cells: a grid over declared ranges, or a single cell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evolve.measures import Measure


class Cells(Protocol):
    """The cells of measure space; the same for all islands.

    Attributes:
        axes: The measures.
        size: How many cells there are.
    """

    axes: tuple[Measure, ...]
    size: int

    def cell_of(self, coordinates: Sequence[float]) -> int:
        """Gives the number of the cell of a point of shape `(len(axes),)`, from 0."""


class GridCells:
    """A grid, numbered row-major over the axes; what lies outside falls into the edge cell.

    Args:
        axes: The measures with their ranges; without any there is a single cell.
    """

    def __init__(self, axes: Sequence[Measure]) -> None:
        self.axes = tuple(axes)
        self.size = math.prod(axis.cells for axis in self.axes)

    def cell_of(self, coordinates: Sequence[float]) -> int:
        """Gives the number of the cell of a point, from 0."""
        cell = 0
        for axis, value in zip(self.axes, coordinates, strict=True):
            index = int(share_of(axis, value) * axis.cells)
            cell = cell * axis.cells + min(index, axis.cells - 1)
        return cell


class OneCell:
    """All of measure space in one cell: only the best program is kept.

    Args:
        axes: The measures.
    """

    def __init__(self, axes: Sequence[Measure]) -> None:
        self.axes = tuple(axes)
        self.size = 1

    def cell_of(self, coordinates: Sequence[float]) -> int:  # noqa: ARG002 - of the protocol
        """Gives 0."""
        return 0


def share_of(axis: Measure, value: float) -> float:
    """Gives the place of a value in an axis' range, from 0 to 1; the ends for what is outside."""
    if value <= axis.low:
        return 0.0
    if value >= axis.high:
        return 1.0
    if axis.scale == "log":
        return math.log(value / axis.low) / math.log(axis.high / axis.low)
    return (value - axis.low) / (axis.high - axis.low)


def locate(axes: Sequence[Measure], measures: Mapping[str, float]) -> tuple[float, ...]:
    """Gives the coordinates of an evaluation's measures, shape `(len(axes),)`.

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
    """Tells whether any coordinate lies outside its range."""
    pairs = zip(axes, coordinates, strict=True)
    return any(not axis.low <= value <= axis.high for axis, value in pairs)
