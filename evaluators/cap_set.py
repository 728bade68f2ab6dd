"""Scores priority functions by the cap set that they lead a greedy construction to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evolve.scoring import ProgramHandle, Score, as_floats

if TYPE_CHECKING:
    from numpy.typing import NDArray


def evaluate(program: ProgramHandle, *, dimensions: int) -> Score:
    """Scores `priority(vector, n)`: the vector with the highest one that fits comes next."""
    vectors = list_vectors(dimensions)
    replies = program.call_many("priority", [(row, dimensions) for row in vectors.tolist()])
    priorities = as_floats(replies, (len(vectors),), where="priority", magnitude=1e300)
    chosen = build_cap_set(vectors, priorities)
    cap = vectors[chosen]
    return Score(
        float(len(chosen)),
        metrics={"levels": float(len(np.unique(priorities)))},
        measures={
            "zero_share": float(np.mean(cap == 0)),
            "level_share": len(np.unique(priorities)) / len(priorities),
        },
        artifacts={"first_vectors": "\n".join("".join(map(str, row)) for row in cap[:12].tolist())},
    )


def list_vectors(dimensions: int) -> NDArray[np.int64]:
    """Returns all vectors over the integers modulo 3 in lexicographic order, one a row."""
    numbers = np.arange(3**dimensions)
    return numbers[:, None] // 3 ** np.arange(dimensions)[::-1] % 3


def build_cap_set(vectors: NDArray[np.int64], priorities: NDArray[np.float64]) -> list[int]:
    """Adds vectors by falling priority unless three would lie on a line.

    Three different vectors lie on a line when their sum is 0 modulo 3. Ties go to the vector
    that comes first.

    Returns:
        Numbers of the chosen rows, in the order of choice.
    """
    powers = 3 ** np.arange(vectors.shape[1])[::-1]
    is_blocked = np.zeros(len(vectors), dtype=bool)
    chosen: list[int] = []
    for index in np.argsort(-priorities, kind="stable").tolist():
        if not is_blocked[index]:
            thirds = (-vectors[chosen] - vectors[index]) % 3
            is_blocked[thirds @ powers] = True
            chosen.append(index)
            is_blocked[index] = True
    return chosen
