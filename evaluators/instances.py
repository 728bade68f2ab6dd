"""Seeded instances in three splits, played in lock-step with one program."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from evolve.scoring import Infeasible

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from numpy.typing import NDArray

    from evolve.scoring import ProgramHandle

TRAINING, VALIDATION, HOLDOUT = "training", "validation", "holdout"

# Stands here and not in a problem folder, so that no instance can be drawn beforehand.
_SECRET = 20_241_122
_SPLITS = (TRAINING, VALIDATION, HOLDOUT)

Outcome = TypeVar("Outcome")


def open_stream(problem: str, split: str, seed: int, number: int) -> np.random.Generator:
    """Returns the random numbers of one instance; only `random` is stable between releases.

    Args:
        problem: Name of the family of instances.
        split: `training` instances are selected on, those of `validation` are shown beside them,
            those of `holdout` are for champions only.
        seed: Of the problem.
        number: Of the instance in its split.
    """
    key = [_SECRET, *problem.encode(), 0, _SPLITS.index(split), seed, number]
    return np.random.default_rng(key)


def renew_seed(seed: int) -> int:
    """Returns another seed every time, for a hold-out: its instances are then known to nobody.

    A program that was tried on instances may have kept them somewhere, against all precautions.
    """
    return seed + (secrets.randbits(60) << 32)


def draw_normal(stream: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Draws about normal numbers from twelve uniform ones each, alike with every release."""
    uniform: NDArray[np.float64] = stream.random((12, *shape))
    total: NDArray[np.float64] = uniform.sum(axis=0) - 6.0
    return total


def play_together(
    program: ProgramHandle, function: str, games: Sequence[Generator[tuple[Any, ...], Any, Outcome]]
) -> list[Outcome]:
    """Plays games that ask the same function, with one round trip for each round of all.

    Args:
        program: It is asked.
        function: Its name.
        games: Each yields the arguments of a call, is sent the value, and returns its outcome.

    Returns:
        The outcomes, in the order of the games.

    Raises:
        Infeasible: A game did not accept a value; too few values came back.
    """
    outcomes: dict[int, Outcome] = {}
    waiting: dict[int, Any] = {}

    def go_on(index: int, value: Any) -> None:
        try:
            waiting[index] = games[index].send(value)
        except StopIteration as end:
            outcomes[index] = end.value

    for index in range(len(games)):
        go_on(index, None)
    while waiting:
        asked, waiting = waiting, {}
        replies = program.call_many(function, list(asked.values()))
        if len(replies) != len(asked):
            raise Infeasible(f"{function}: expected {len(asked)} replies, got {len(replies)}")
        for index, reply in zip(asked, replies, strict=True):
            go_on(index, reply)
    return [outcomes[index] for index in range(len(games))]


def name_values(values: Iterable[float]) -> dict[str, float]:
    """Returns numbers by the number of their instance."""
    return {str(number): float(value) for number, value in enumerate(values)}
