"""Pictures of constructions as SVG, drawn from numbers alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SIZE = 480
_MARGIN = 0.03


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
    """Gives a disc."""
    return f'<circle cx="{x:.9g}" cy="{-y:.9g}" r="{radius:.9g}" fill="{fill}"/>'


def polygon(corners: Sequence[Sequence[float]], *, fill: str = "none") -> str:
    """Gives a closed polygon; `corners` has one row `(x, y)` each."""
    points = " ".join(f"{x:.9g},{-y:.9g}" for x, y in corners)
    return f'<polygon points="{points}" fill="{fill}"/>'
