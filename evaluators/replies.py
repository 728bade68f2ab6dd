"""Strict checks of returned whole numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evolve.scoring import Infeasible, as_floats

if TYPE_CHECKING:
    from numpy.typing import NDArray


def as_integers(value: object, longest: int, *, where: str, magnitude: int) -> list[int]:
    """Checks a returned list of whole numbers, of any length up to `longest`.

    Lists, tuples and arrays of whole numbers count; floats do not, not even 2.0.

    Raises:
        Infeasible: Another type, too many, or too large; the message names the place.
    """
    if isinstance(value, np.ndarray):
        if value.ndim != 1 or value.dtype.kind not in "iu":
            raise Infeasible(
                f"{where}: expected whole numbers, got an array of type {value.dtype} and shape "
                f"{value.shape}"
            )
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise Infeasible(f"{where}: expected a list of whole numbers, got a {type(value).__name__}")
    if len(value) > longest:
        raise Infeasible(f"{where}: expected at most {longest} numbers, got {len(value)}")
    for index, number in enumerate(value):
        # Exact types: booleans are none, and a subclass may answer comparisons as it likes.
        if type(number) is not int and not isinstance(number, np.integer):
            raise Infeasible(
                f"{where}[{index}]: expected a whole number, got a {type(number).__name__}"
            )
        if not -magnitude <= int(number) <= magnitude:
            raise Infeasible(f"{where}[{index}]: expected at most {magnitude} in size, got more")
    return [int(number) for number in value]


def as_indices(
    value: object, shape: tuple[int | None, ...], below: int, *, where: str
) -> NDArray[np.int64]:
    """Checks returned whole numbers from 0 to `below - 1`, in an array of shape `shape`.

    Floats count where they are whole numbers exactly.

    Raises:
        Infeasible: Another shape or type, a fraction, or out of range.
    """
    floats = as_floats(value, shape, where=where)
    indices = floats.astype(np.int64)
    if not np.array_equal(indices, floats) or ((indices < 0) | (indices >= below)).any():
        raise Infeasible(f"{where}: expected whole numbers from 0 to {below - 1}")
    return indices
