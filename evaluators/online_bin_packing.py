"""Scores rules for online bin packing by their excess over the lower bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
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

# Sizes follow a Weibull distribution, as in Romera-Paredes 2024 (FunSearch), table 1, or are
# whole numbers from 20 to 100, as in the files `binpack1` to `binpack4` of Beasley's OR-Library.
CAPACITIES = {"weibull": 100, "uniform": 150}
_SHAPE, _SCALE = 3.0, 45.0
_LOW, _HIGH = 20, 100
_VALIDATION, _HOLDOUT = 2, 10
_MAX_PRIORITY = 1e300


@dataclass(slots=True)
class Packing:
    """The bins of one instance while its items arrive.

    Attributes:
        items: Sizes of all items in the order of their arrival.
        capacity: Of each bin.
        room: What is left in each open bin, in the order of opening.
    """

    items: tuple[int, ...]
    capacity: int
    room: list[int] = field(default_factory=list)

    @property
    def least(self) -> int:
        """The number of bins that may suffice, were items divisible."""
        return math.ceil(sum(self.items) / self.capacity)

    def excess(self) -> float:
        """Returns how many bins too many there are, in percent of the least that may suffice."""
        return find_excess([self])

    def play(self) -> Generator[tuple[Any, ...], Any, Packing]:
        """Asks for priorities, item by item, over the bins that the item fits into.

        These come in the order of opening; the last one is a new bin.
        """
        opened = len(self.room)
        room = np.full(opened + len(self.items) + 1, float(self.capacity))
        room[:opened] = self.room
        for step, item in enumerate(self.items):
            indices = np.flatnonzero(room[: opened + 1] >= item)
            reply = yield float(item), room[indices]
            where = f"priority at item {step}"
            priorities = as_floats(reply, (len(indices),), where=where, magnitude=_MAX_PRIORITY)
            index = int(indices[priorities.argmax()])
            room[index] -= item
            opened += index == opened
        self.room = room[:opened].astype(int).tolist()
        return self


def evaluate(
    program: ProgramHandle, *, distribution: str, seed: int, instances: int, items: int
) -> Score:
    """Scores `priority(item, bins)`: of the bins into which an item fits, the highest takes it."""
    packings = [draw_packing(distribution, TRAINING, seed, n, items) for n in range(instances)]
    checks = [draw_packing(distribution, VALIDATION, seed, n, items) for n in range(_VALIDATION)]
    pack(program, [*packings, *checks])
    return _score(packings, checks)


def evaluate_holdout(
    program: ProgramHandle, *, distribution: str, seed: int, instances: int, items: int
) -> Score:
    """Scores the rule on instances that the search never sees."""
    count = max(_HOLDOUT, instances)
    seed = renew_seed(seed)
    packings = [draw_packing(distribution, HOLDOUT, seed, n, items) for n in range(count)]
    pack(program, packings)
    return _score(packings)


def pack(program: ProgramHandle, packings: list[Packing]) -> None:
    """Packs all instances in turns, item by item."""
    play_together(program, "priority", [packing.play() for packing in packings])


def find_excess(packings: Sequence[Packing]) -> float:
    """Returns how many bins too many there are in all, in percent of the least that may suffice."""
    used = sum(len(packing.room) for packing in packings)
    return 100.0 * (used / sum(packing.least for packing in packings) - 1.0)


def draw_packing(distribution: str, split: str, seed: int, number: int, count: int) -> Packing:
    """Draws an instance: sizes are whole numbers from 1 to the capacity."""
    stream = open_stream(f"online_bin_packing {distribution}", split, seed, number)
    uniform, capacity = stream.random(count), CAPACITIES[distribution]
    # By inverse distributions, which no release of NumPy can change.
    if distribution == "weibull":
        sizes = np.rint(_SCALE * (-np.log1p(-uniform)) ** (1.0 / _SHAPE))
    else:
        sizes = _LOW + np.floor(uniform * (_HIGH - _LOW + 1))
    return Packing(tuple(np.clip(sizes, 1, capacity).astype(int).tolist()), capacity)


def _score(packings: list[Packing], checks: Sequence[Packing] = ()) -> Score:
    metrics = {"validation": find_excess(checks)} if checks else {}
    excesses = [packing.excess() for packing in packings]
    room = np.array([left for packing in packings for left in packing.room])
    return Score(
        find_excess(packings),
        metrics={
            "bins": float(len(room)),
            "worst_excess": float(max(excesses)),
            "best_excess": float(min(excesses)),
            **metrics,
        },
        measures={
            "full_share": float(np.mean(room == 0)),
            "awkward_share": float(np.mean((room > 0) & (room < 15))),
        },
        artifacts={"room_left": _describe(room)},
        instances=name_values(excesses),
        validation=name_values(packing.excess() for packing in checks),
    )


def _describe(room: np.ndarray) -> str:
    edges = (0, 1, 5, 10, 20, 40, max(CAPACITIES.values()) + 1)
    counts, _ = np.histogram(room, edges)
    lines = [
        f"bins with {low} to {high - 1} left: {count}"
        for low, high, count in zip(edges, edges[1:], counts.tolist(), strict=False)
    ]
    return "\n".join(lines)
