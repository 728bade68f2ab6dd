"""Scores rules for online bin packing by their mean excess over the lower bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from evolve.scoring import Infeasible, ProgramHandle, Score, as_floats

CAPACITY = 100

# Sizes follow a Weibull distribution, as in Romera-Paredes 2024 (FunSearch), table 1.
_SHAPE, _SCALE = 3.0, 45.0
# Stands here and not in the problem folder, so that no instance can be drawn beforehand.
_STREAM = 20_241_122
_MAX_PRIORITY = 1e300


@dataclass(slots=True)
class Packing:
    """The bins of one instance while its items arrive.

    Attributes:
        items: Sizes of all items in the order of their arrival.
        room: What is left in each open bin, in the order of opening.
    """

    items: tuple[int, ...]
    room: list[int] = field(default_factory=list)

    def choices(self, item: int) -> list[int]:
        """Lists the bins into which an item fits; the last one is a new bin."""
        fitting = [index for index, left in enumerate(self.room) if left >= item]
        return [*fitting, len(self.room)]

    def put(self, item: int, index: int) -> None:
        """Puts an item into a bin, which is opened if it is the new one."""
        if index == len(self.room):
            self.room.append(CAPACITY)
        self.room[index] -= item

    def excess(self) -> float:
        """Gives how many bins too many there are, in percent of the least that may suffice."""
        least = math.ceil(sum(self.items) / CAPACITY)
        return 100.0 * (len(self.room) / least - 1.0)


def evaluate(program: ProgramHandle, *, seed: int, instances: int, items: int) -> Score:
    """Scores `priority(item, bins)`: of the bins into which an item fits, the highest takes it."""
    packings = [Packing(draw_items(seed, number, items)) for number in range(instances)]
    for step in range(items):
        place_items(program, packings, step)
    excesses = [packing.excess() for packing in packings]
    room = np.array([left for packing in packings for left in packing.room])
    return Score(
        float(np.mean(excesses)),
        metrics={
            "bins": float(len(room)),
            "worst_excess": float(max(excesses)),
            "best_excess": float(min(excesses)),
        },
        measures={
            "full_share": float(np.mean(room == 0)),
            "awkward_share": float(np.mean((room > 0) & (room < 15))),
        },
        artifacts={"room_left": _describe(room)},
    )


def draw_items(seed: int, instance: int, count: int) -> tuple[int, ...]:
    """Draws the sizes of an instance: whole numbers from 1 to the capacity."""
    uniform = np.random.default_rng([_STREAM, seed, instance]).random(count)
    # By the inverse of the distribution, which no release of NumPy can change.
    sizes = _SCALE * (-np.log1p(-uniform)) ** (1.0 / _SHAPE)
    return tuple(np.clip(np.rint(sizes), 1, CAPACITY).astype(int).tolist())


def place_items(program: ProgramHandle, packings: list[Packing], step: int) -> None:
    """Places the next item of every instance, with one round trip to the sandbox."""
    choices = [packing.choices(packing.items[step]) for packing in packings]
    arguments = []
    for packing, indices in zip(packings, choices, strict=True):
        room = [*packing.room, CAPACITY]
        arguments.append((float(packing.items[step]), np.array([float(room[i]) for i in indices])))
    replies = program.call_many("priority", arguments)
    if len(replies) != len(packings):
        raise Infeasible(f"priority: expected {len(packings)} replies, got {len(replies)}")
    for packing, indices, reply in zip(packings, choices, replies, strict=True):
        where = f"priority at item {step}"
        priorities = as_floats(reply, (len(indices),), where=where, magnitude=_MAX_PRIORITY)
        packing.put(packing.items[step], indices[int(np.argmax(priorities))])


def _describe(room: np.ndarray) -> str:
    edges = (0, 1, 5, 10, 20, 40, CAPACITY + 1)
    counts, _ = np.histogram(room, edges)
    lines = [
        f"bins with {low} to {high - 1} left: {count}"
        for low, high, count in zip(edges, edges[1:], counts.tolist(), strict=False)
    ]
    return "\n".join(lines)
