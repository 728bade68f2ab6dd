"""Pictures of constructions as SVG, drawn from numbers alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evolve.scoring import Score

_SIZE = 480
_MARGIN = 0.03


def add_picture(
    score: Score, parts: Iterable[str], low: tuple[float, float], high: tuple[float, float]
) -> Score:
    """Returns a score with a picture as its only artifact; see `frame`."""
    return replace(score, artifacts={"picture.svg": frame(parts, low, high)})


def frame(parts: Iterable[str], low: tuple[float, float], high: tuple[float, float]) -> str:
    """Puts shapes into a picture.

    Args:
        parts: From the functions below; in the construction's own units, y upwards.
        low: Lower left corner of what is to be seen.
        high: Upper right corner.
    """
    width, height = high[0] - low[0], high[1] - low[1]
    margin = _MARGIN * max(width, height)
    box = (low[0] - margin, -high[1] - margin, width + 2 * margin, height + 2 * margin)
    view = " ".join(f"{value:.9g}" for value in box)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}" width="{_SIZE}" '
        f'stroke-width="{box[2] / _SIZE:.3g}" stroke="#333">{"".join(parts)}</svg>'
    )


def circle(x: float, y: float, radius: float, *, fill: str = "#9bbfe0") -> str:
    """Returns a disc."""
    return f'<circle cx="{x:.9g}" cy="{-y:.9g}" r="{radius:.9g}" fill="{fill}"/>'


def polygon(corners: Sequence[Sequence[float]], *, fill: str = "none") -> str:
    """Returns a closed polygon; `corners` has one row `(x, y)` each."""
    points = " ".join(f"{x:.9g},{-y:.9g}" for x, y in corners)
    return f'<polygon points="{points}" fill="{fill}"/>'


def dots(points: Sequence[Sequence[float]], size: float) -> list[str]:
    """Returns a disc of the radius `size` for each row `(x, y)`."""
    return [circle(x, y, size, fill="#2563a8") for x, y in points]


def steps(heights: Sequence[float]) -> list[str]:
    """Returns the area under a step function over the range from 0 to 1, scaled to heights of 1."""
    highest = max(map(abs, heights)) or 1.0
    width = 1.0 / len(heights)
    corners = [(0.0, 0.0)]
    for place, height in enumerate(heights):
        top = height / highest
        corners += [(place * width, top), ((place + 1) * width, top)]
    return [polygon([*corners, (1.0, 0.0)], fill="#9bbfe0")]


def draw_points(score: Score, points: Sequence[Sequence[float]]) -> Score:
    """Adds a picture of points, given as rows `(x, y)`, in a frame that they fill."""
    low = min(x for x, _ in points), min(y for _, y in points)
    high = max(x for x, _ in points), max(y for _, y in points)
    size = 0.01 * (max(high[0] - low[0], high[1] - low[1]) or 1.0)
    return add_picture(score, dots(points, size), low, high)
