"""Scores causal filters by how good the trade-offs are that they offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from instances import (
    HOLDOUT,
    TRAINING,
    VALIDATION,
    draw_normal,
    open_stream,
    play_together,
    renew_seed,
)

from evolve.scoring import ProgramHandle, Score, as_floats

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

WINDOW = 32
PREFERENCES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Samples that count as a lag of 1.
MAX_LAG = 8

_SIGNALS = {TRAINING: 4, VALIDATION: 2, HOLDOUT: 6}
_NAMES = ("error", "lag", "roughness")
_LARGEST = 1e6
_NOISE = 0.5


def evaluate(program: ProgramHandle, *, seed: int, samples: int) -> Score:
    """Scores `smooth(window, preference)`: the present value beneath the noise."""
    fronts = measure_fronts(program, (TRAINING, VALIDATION), seed, samples)
    return _score(fronts[TRAINING], {"validation": find_volume(fronts[VALIDATION])})


def evaluate_holdout(program: ProgramHandle, *, seed: int, samples: int) -> Score:
    """Scores the filter on signals that the search never sees."""
    return _score(measure_fronts(program, (HOLDOUT,), renew_seed(seed), samples)[HOLDOUT], {})


def measure_fronts(
    program: ProgramHandle, splits: tuple[str, ...], seed: int, samples: int
) -> dict[str, Floats]:
    """Returns mean error, lag and roughness over the signals of a split, by preference."""
    keys = [(s, n, p) for s in splits for n in range(_SIGNALS[s]) for p in PREFERENCES]
    games = [run(*draw_signal(s, seed, n, samples), preference) for s, n, preference in keys]
    rows = iter(play_together(program, "smooth", games))
    return {
        split: np.mean([[next(rows) for _ in PREFERENCES] for _ in range(_SIGNALS[split])], axis=0)
        for split in splits
    }


def draw_signal(split: str, seed: int, number: int, samples: int) -> tuple[Floats, Floats]:
    """Draws a clean signal and what is left of it under noise, shape `(WINDOW + samples,)`."""
    stream = open_stream("signal_filter", split, seed, number)
    count = WINDOW + samples
    time = np.arange(count)
    clean = 0.08 * np.cumsum(draw_normal(stream, (count,)))
    for _ in range(3):
        period, phase, size = stream.random(3)
        swell = 1.0 + 0.5 * np.sin(2.0 * np.pi * (time / count + phase))
        clean += (
            (0.4 + size) * swell * np.sin(2.0 * np.pi * (time / (25.0 + 75.0 * period) + phase))
        )
    jumps = (stream.random(count) < 0.01) * draw_normal(stream, (count,))
    clean += np.cumsum(jumps)
    return clean, clean + _NOISE * draw_normal(stream, (count,))


def run(
    clean: Floats, noisy: Floats, preference: float
) -> Generator[tuple[Any, ...], Any, tuple[float, float, float]]:
    """Asks for the present value at each sample, from the last `WINDOW` noisy ones alone.

    Returns:
        Error, lag and roughness; about 1 each for a filter that is of no use.
    """
    given = []
    for now in range(WINDOW, len(noisy)):
        reply = yield noisy[now - WINDOW + 1 : now + 1].copy(), preference
        where = f"smooth at sample {now - WINDOW}"
        given.append(float(as_floats([reply], (1,), where=where, magnitude=_LARGEST)[0]))
    output = np.array(given)
    error = _rms(output - clean[WINDOW:]) / _rms(noisy[WINDOW:] - clean[WINDOW:])
    roughness = _rms(np.diff(output, 2)) / _rms(np.diff(noisy[WINDOW:], 2))
    return error, find_lag(output, clean) / MAX_LAG, roughness


def find_lag(output: Floats, clean: Floats) -> float:
    """Returns by how many samples the output comes late, from 0 to `MAX_LAG`.

    The delay at which the clean signal fits best, with a parabola through its neighbours.
    """
    misfits = np.array(
        [
            np.mean((output - clean[WINDOW - delay : len(clean) - delay]) ** 2)
            for delay in range(MAX_LAG + 2)
        ]
    )
    best = int(misfits.argmin())
    if not 0 < best <= MAX_LAG:
        return float(min(best, MAX_LAG))
    before, here, behind = misfits[best - 1 : best + 2]
    bend = before - 2.0 * here + behind
    shift = (before - behind) / (2.0 * bend) if bend > 0.0 else 0.0
    return float(np.clip(best + shift, 0.0, MAX_LAG))


def find_volume(points: Floats) -> float:
    """Returns the share of the unit cube in which some point is no worse in all coordinates."""
    cut = np.clip(points, 0.0, 1.0)
    edges = [np.unique(np.append(column, 1.0)) for column in cut.T]
    volume = 0.0
    for x, wide in zip(edges[0], np.diff(edges[0]), strict=False):
        for y, deep in zip(edges[1], np.diff(edges[1]), strict=False):
            good = cut[(cut[:, 0] <= x) & (cut[:, 1] <= y), 2]
            volume += float(wide * deep * (1.0 - good.min(initial=1.0)))
    return volume


def _score(front: Floats, metrics: dict[str, float]) -> Score:
    middle = front[len(front) // 2]
    return Score(
        find_volume(front),
        metrics={
            **{name: float(value) for name, value in zip(_NAMES, middle, strict=True)},
            **metrics,
        },
        measures={
            "middle_lag": float(middle[1]),
            "variety": float(np.ptp(front[:, 2])),
        },
        artifacts={
            "trade-offs": "\n".join(
                f"preference {preference}: error {error:.3f}, lag {lag:.3f}, roughness {rough:.3f}"
                for preference, (error, lag, rough) in zip(PREFERENCES, front.tolist(), strict=True)
            )
        },
    )


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2)))
