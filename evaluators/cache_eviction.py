"""Scores rules for cache eviction by their hit ratio on seeded traces."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

import numpy as np
from instances import (
    HOLDOUT,
    TRAINING,
    VALIDATION,
    name_values,
    open_stream,
    play_together,
    renew_seed,
)

from evolve.scoring import ProgramHandle, Score, as_floats

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

# A full cache makes room for so many objects at once.
BATCH = 20

_TRAINING, _VALIDATION, _HOLDOUT = 4, 2, 12
_MAX_PRIORITY = 1e300

# How often each kind of request comes: popular objects, a scan that never returns, a loop, and
# what was asked for just before.
_SHARES = (0.62, 0.15, 0.13, 0.10)
_POPULAR, _EXPONENT, _LOOP, _RECENT = 3000, 0.9, 400, 60
_SHIFT_EVERY, _SHIFT_SHARE = 1500, 0.15

Outcome = tuple[float, float]


def evaluate(program: ProgramHandle, *, seed: int, capacity: int, requests: int) -> Score:
    """Scores `priority(age, count, stay, gap)`: the objects with the lowest ones leave."""
    traces = [draw_trace(TRAINING, seed, number, requests) for number in range(_TRAINING)]
    checks = [draw_trace(VALIDATION, seed, number, requests) for number in range(_VALIDATION)]
    games = [play(trace, capacity) for trace in (*traces, *checks)]
    outcomes = play_together(program, "priority", games)
    return _score(outcomes[:_TRAINING], [ratio for ratio, _ in outcomes[_TRAINING:]])


def evaluate_holdout(program: ProgramHandle, *, seed: int, capacity: int, requests: int) -> Score:
    """Scores the rule on traces that the search never sees."""
    seed = renew_seed(seed)
    traces = [draw_trace(HOLDOUT, seed, number, requests) for number in range(_HOLDOUT)]
    games = [play(trace, capacity) for trace in traces]
    return _score(play_together(program, "priority", games))


def draw_trace(split: str, seed: int, number: int, requests: int) -> list[int]:
    """Draws the numbers of the requested objects in their order."""
    stream = open_stream("cache_eviction", split, seed, number)
    kinds = np.searchsorted(np.cumsum(_SHARES), stream.random(requests)).clip(max=3)
    shares = np.cumsum((1.0 + np.arange(_POPULAR)) ** -_EXPONENT)
    ranks = np.searchsorted(shares, stream.random(requests) * shares[-1])
    objects = np.argsort(stream.random(_POPULAR))
    back = np.floor(stream.random(requests) * _RECENT).astype(int)
    trace: list[int] = []
    scanned = looped = 0
    for step, kind in enumerate(kinds.tolist()):
        if step % _SHIFT_EVERY == 0:
            # What is popular changes: some objects swap their places.
            moved = np.flatnonzero(stream.random(_POPULAR) < _SHIFT_SHARE)
            objects[moved] = np.roll(objects[moved], 1)
        if kind == 0 or (kind == 3 and not trace):
            trace.append(int(objects[ranks[step]]))
        elif kind == 1:
            trace.append(_POPULAR + _LOOP + scanned)
            scanned += 1
        elif kind == 2:
            trace.append(_POPULAR + looped % _LOOP)
            looped += 1
        else:
            trace.append(trace[max(len(trace) - 1 - int(back[step]), 0)])
    return trace


def play(trace: Sequence[int], capacity: int) -> Generator[tuple[Any, ...], Any, Outcome]:
    """Serves the requests; asks the program whenever the cache is full.

    It is told, for each object in the cache, the requests since its last one, how often it was
    asked for since it came, the requests since then, and those between its last two (as long as
    it has been here where there was one only).

    Returns:
        The share of requests that were hits, and the mean age of what was evicted over the
        capacity.
    """
    # Columns: last request, count, first request, gap.
    known: dict[int, list[int]] = {}
    hits, ages = 0, []
    for now, item in enumerate(trace):
        if item in known:
            hits += 1
            row = known[item]
            row[0], row[1], row[3] = now, row[1] + 1, now - row[0]
            continue
        if len(known) >= capacity:
            names = list(known)
            rows = np.array([known[name] for name in names], dtype=np.float64)
            age, stay = now - rows[:, 0], now - rows[:, 2]
            gap = np.where(rows[:, 1] > 1, rows[:, 3], stay)
            reply = yield age, rows[:, 1], stay, gap
            where = f"priority at request {now}"
            priorities = as_floats(reply, (len(names),), where=where, magnitude=_MAX_PRIORITY)
            for index in np.argsort(priorities, kind="stable")[:BATCH].tolist():
                del known[names[index]]
                ages.append(age[index])
        known[item] = [now, 1, now, 0]
    return hits / len(trace), float(np.mean(ages)) / capacity if ages else 0.0


def bound_hits(trace: Sequence[int], capacity: int) -> float:
    """Returns the hit ratio of a cache that knows the future (Belady 1966), which none exceeds."""
    following = [len(trace)] * len(trace)
    seen: dict[int, int] = {}
    for now in range(len(trace) - 1, -1, -1):
        following[now] = seen.get(trace[now], len(trace))
        seen[trace[now]] = now
    hits = 0
    held: dict[int, int] = {}
    farthest: list[tuple[int, int]] = []
    for now, item in enumerate(trace):
        hits += item in held
        if item not in held and len(held) >= capacity:
            while True:
                negative, name = heapq.heappop(farthest)
                if held.get(name) == -negative:
                    del held[name]
                    break
        held[item] = following[now]
        heapq.heappush(farthest, (-following[now], item))
    return hits / len(trace)


def _score(outcomes: list[Outcome], validation: list[float] | None = None) -> Score:
    metrics = {"validation": float(np.mean(validation))} if validation else {}
    ratios: NDArray[np.float64] = np.array([ratio for ratio, _ in outcomes])
    return Score(
        float(ratios.mean()),
        metrics={"lowest": float(ratios.min()), "highest": float(ratios.max()), **metrics},
        measures={
            "evicted_age": float(np.mean([age for _, age in outcomes])),
            "spread": float(np.ptp(ratios)),
        },
        artifacts={"hits": "\n".join(f"trace {n}: {x:.4f}" for n, x in enumerate(ratios))},
        instances=name_values(ratios),
        validation=name_values(validation or ()),
    )
