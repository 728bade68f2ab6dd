"""A curve as a picture: steps over a count, with its axes named."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    _Place = Callable[[float, float], tuple[float, float]]

_WIDTH, _HEIGHT = 720, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 20, 30, 40
_TICKS = 4


def draw_steps(points: Sequence[tuple[float, float]], *, across: str, up: str) -> str:
    """Draws values that hold until the next point.

    Args:
        points: Pairs of count and value; counts do not fall.
        across: Name of the count.
        up: Name of the value.

    Returns:
        An SVG element; empty without two different counts.
    """
    if not points or points[0][0] == points[-1][0]:
        return ""
    start, end = points[0][0], points[-1][0]
    low = min(value for _, value in points)
    high = max(value for _, value in points)
    span = (high - low) or abs(high) or 1.0

    def at(count: float, value: float) -> tuple[float, float]:
        x = _LEFT + (count - start) / (end - start) * (_WIDTH - _LEFT - _RIGHT)
        return x, _HEIGHT - _BOTTOM - (value - low) / span * (_HEIGHT - _TOP - _BOTTOM)

    path = "M {:.1f} {:.1f}".format(*at(*points[0]))
    for (_, before), (count, value) in pairwise(points):
        path += " L {:.1f} {:.1f} L {:.1f} {:.1f}".format(*at(count, before), *at(count, value))
    marks = [_mark_across(at, start, end, low), _mark_up(at, start, low, span)]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-size="12" fill="#555">'
        f'{"".join(marks)}<path d="{path}" fill="none" stroke="#2563a8" stroke-width="2"/>'
        f'<text x="{_WIDTH / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{across}</text>'
        f'<text x="4" y="14">{up}</text></svg>'
    )


def _mark_across(at: _Place, start: float, end: float, low: float) -> str:
    text = ""
    for tick in range(_TICKS + 1):
        count = start + (end - start) * tick / _TICKS
        x, y = at(count, low)
        text += f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{count:.6g}</text>'
    return text


def _mark_up(at: _Place, start: float, low: float, span: float) -> str:
    text = ""
    for tick in range(_TICKS + 1):
        value = low + span * tick / _TICKS
        x, y = at(start, value)
        line = f'<path d="M {x:.1f} {y:.1f} H {_WIDTH - _RIGHT}" stroke="#e4e4e0"/>'
        text += f'{line}<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:.6g}</text>'
    return text
