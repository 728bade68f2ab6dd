"""Exact autocorrelations of step functions with heights that are doubles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evolve.scoring import as_floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from evolve.scoring import ProgramHandle


def call_heights(program: ProgramHandle, steps: int) -> NDArray[np.float64]:
    """Returns what `heights(steps)` returns: exactly as many finite numbers as there are steps."""
    return as_floats(program.call("heights", steps), (steps,), where="heights", magnitude=1e9)


def convolve_with_itself(heights: Sequence[int]) -> list[int]:
    """Returns the sums of `heights[i] * heights[k - i]` for each k, `2 * len(heights) - 1` of them.

    In whole numbers: products of doubles near 1e-81 would vanish. All of them are put into one
    large number, far enough apart, and its square has the sums as its digits (Kronecker 1882).
    """
    count = 2 * len(heights) - 1
    largest = max(map(abs, heights))
    # One bit more than the largest sum, and one for its sign.
    width = ((len(heights) * largest**2).bit_length() + 2 + 7) // 8
    half = 1 << (8 * width - 1)
    packed = _pack([max(height, 0) for height in heights], width)
    packed -= _pack([max(-height, 0) for height in heights], width)
    digits = (packed**2 + _pack([half] * count, width)).to_bytes(width * count, "little")
    return [
        int.from_bytes(digits[start : start + width], "little") - half
        for start in range(0, width * count, width)
    ]


def measure_heights(heights: NDArray[np.float64]) -> dict[str, float]:
    """Returns where a step function's weight lies, and how much of it is hardly there."""
    weights = np.abs(heights)
    places = np.linspace(0.0, 1.0, len(heights))
    return {
        "low_share": float(np.mean(weights < 0.01 * weights.max())),
        "middle": float(np.sum(weights * places) / weights.sum()),
    }


def describe_heights(heights: NDArray[np.float64], parts: int = 20) -> str:
    """Lists the mean height of twenty parts of equal length."""
    return " ".join(f"{part.mean():.4g}" for part in np.array_split(heights, parts) if len(part))


def _pack(numbers: Sequence[int], width: int) -> int:
    """Returns the number whose digits, each of so many bytes, are the given ones, lowest first."""
    return int.from_bytes(
        b"".join(number.to_bytes(width, "little") for number in numbers), "little"
    )
