"""Scores cross-sectional factors by their rank information coefficient on seeded markets."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from instances import (
    HOLDOUT,
    TRAINING,
    VALIDATION,
    draw_normal,
    name_values,
    open_stream,
    play_together,
    renew_seed,
)

from evolve.scoring import ProgramHandle, Score, as_floats

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ASSETS = 80
WINDOW = 60
# Days between two factors, and over which the return counts that follows.
HORIZON = 5

_MARKETS = {TRAINING: 3, VALIDATION: 2, HOLDOUT: 6}
_LARGEST = 1e12

# Strengths of what is planted, in daily returns for one standard deviation of the signal.
_REVERSAL, _TREND, _VALUE, _CALM, _SURPRISE = 8e-4, 6e-4, 5e-4, 4e-4, 7e-4
_VOLATILITY = 0.02
# Days that the planted signals look back.
_MEMORY = 42


def evaluate(program: ProgramHandle, *, seed: int, dates: int) -> Score:
    """Scores `factor(close, volume, book)`: one number for each asset, from the past alone."""
    markets = [
        draw_market(split, seed, number, dates)
        for split in (TRAINING, VALIDATION)
        for number in range(_MARKETS[split])
    ]
    outcomes = play_together(program, "factor", [trade(*market[:3]) for market in markets])
    count = _MARKETS[TRAINING]
    return _score(outcomes[:count], [float(np.mean(ranks)) for ranks, _ in outcomes[count:]])


def evaluate_holdout(program: ProgramHandle, *, seed: int, dates: int) -> Score:
    """Scores the factor on markets that the search never sees."""
    count = _MARKETS[HOLDOUT]
    seed = renew_seed(seed)
    markets = [draw_market(HOLDOUT, seed, number, dates) for number in range(count)]
    return _score(play_together(program, "factor", [trade(*market[:3]) for market in markets]))


@cache
def draw_market(
    split: str, seed: int, number: int, dates: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Draws a market in which five known signals move prices, and much noise.

    Short reversals, the stronger the more was traded; a trend of two months that skips the last
    week; book value over price; low volatility; and volume above its custom.

    Returns:
        Close, volume and book value by day and asset, and the daily returns that were expected,
        which nobody is told; shape `(days, assets)` each. Kept in this process, not to be changed.
    """
    stream = open_stream("alpha_factor", split, seed, number)
    days = WINDOW + HORIZON * dates + 1
    noise, bursts = draw_normal(stream, (days, ASSETS)), draw_normal(stream, (days, ASSETS))
    spread = _VOLATILITY * np.exp(0.4 * draw_normal(stream, (ASSETS,)))
    custom = 10.0 + draw_normal(stream, (ASSETS,))
    logs = np.cumsum(0.5 * draw_normal(stream, (1, ASSETS)), axis=0)
    books = np.cumsum(0.004 * draw_normal(stream, (days, ASSETS)), axis=0) + logs
    market = 0.008 * draw_normal(stream, (days,))
    closes, volumes, expected = [logs[0]], [custom + bursts[0]], [np.zeros(ASSETS)]
    for day in range(1, days):
        recent = (np.array(closes[-_MEMORY:]), np.array(volumes[-1:]))
        gain = expect(*recent, books[day - 1], custom)
        move = gain + market[day] + spread * noise[day]
        closes.append(closes[-1] + move)
        volumes.append(custom + 0.6 * bursts[day] + 0.5 * np.abs(noise[day]))
        expected.append(gain)
    return np.exp(closes), np.exp(volumes), np.exp(books), np.array(expected)


def expect(closes: Floats, volumes: Floats, book: Floats, custom: Floats) -> Floats:
    """Returns the planted part of the next returns, from logarithms of all days before."""
    if len(closes) < _MEMORY:
        return np.zeros(closes.shape[1])
    week = closes[-1] - closes[-6]
    surprise = volumes[-1] - custom
    returns = np.diff(closes[-21:], axis=0)
    gain: Floats = (
        -_REVERSAL * _standardise(week) * (1.0 + 0.5 * np.tanh(surprise))
        + _TREND * _standardise(closes[-6] - closes[-41])
        + _VALUE * _standardise(book - closes[-1])
        - _CALM * _standardise(returns.std(axis=0))
        + _SURPRISE * _standardise(surprise)
    )
    return gain


def trade(
    close: Floats, volume: Floats, book: Floats
) -> Generator[tuple[Any, ...], Any, tuple[list[float], list[float]]]:
    """Asks for a factor every `HORIZON` days, with what is known by then and nothing more.

    Returns:
        The rank information coefficient of each date, and the turnover from date to date.
    """
    coefficients, turnovers, before = [], [], None
    for day in range(WINDOW, len(close) - HORIZON, HORIZON):
        past = slice(day - WINDOW + 1, day + 1)
        reply = yield close[past].copy(), volume[past].copy(), book[past].copy()
        where = f"factor on day {day}"
        factor = as_floats(reply, (close.shape[1],), where=where, magnitude=_LARGEST)
        places = rank(factor)
        coefficients.append(correlate(places, rank(close[day + HORIZON] / close[day])))
        if before is not None:
            turnovers.append((1.0 - correlate(places, before)) / 2.0)
        before = places
    return coefficients, turnovers


def rank(values: Floats) -> Floats:
    """Returns the places of numbers in rising order; equal ones share their mean place."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    places: Floats = (last - (counts - 1) / 2.0)[inverse]
    return places


def correlate(first: Floats, second: Floats) -> float:
    """Returns the correlation of two rankings; 0 where one of them has equal places only."""
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / scale if scale else 0.0


def _standardise(values: Floats) -> Floats:
    scaled: Floats = (values - values.mean()) / (values.std() + 1e-12)
    return np.clip(scaled, -3.0, 3.0)


def _score(
    outcomes: list[tuple[list[float], list[float]]], validation: list[float] | None = None
) -> Score:
    metrics = {"validation": float(np.mean(validation))} if validation else {}
    coefficients = [np.array(ranks) for ranks, _ in outcomes]
    means = [float(ranks.mean()) for ranks in coefficients]
    together = np.concatenate(coefficients)
    turnover = float(np.mean([np.mean(changes) for _, changes in outcomes]))
    return Score(
        float(np.mean(means)),
        metrics={
            "stability": float(together.mean() / (together.std() + 1e-12)),
            "lowest": min(means),
            "hit_share": float(np.mean(together > 0.0)),
            **metrics,
        },
        measures={"turnover": turnover},
        artifacts={
            "rank information coefficient": "\n".join(
                f"market {n}: {mean:.4f}" for n, mean in enumerate(means)
            )
        },
        instances=name_values(means),
        validation=name_values(validation or ()),
    )
