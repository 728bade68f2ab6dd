"""Scores penalty rules of a guided local search by their excess over reference tours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from instances import HOLDOUT, TRAINING, VALIDATION, name_values, open_stream, play_together
from travelling_salesman_references import REFERENCES

from evolve.scoring import ProgramHandle, Score, as_floats

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

CITIES = 100

_MAX_PENALTY = 1e6
# Over the longest distance: below any difference that matters, far above rounding errors, which
# could else lead in circles.
_LEAST_GAIN = 1e-9


def evaluate(program: ProgramHandle, *, rounds: int) -> Score:
    """Scores `penalize(lengths, uses)`, asked in each round about the edges of the current tour."""
    counts = {split: len(REFERENCES[split]) for split in (TRAINING, VALIDATION)}
    games = [
        play(draw_cities(split, number), rounds)
        for split, count in counts.items()
        for number in range(count)
    ]
    outcomes = play_together(program, "penalize", games)
    training = outcomes[: counts[TRAINING]]
    return _score(training, TRAINING, _excess(outcomes[counts[TRAINING] :], VALIDATION))


def evaluate_holdout(program: ProgramHandle, *, rounds: int) -> Score:
    """Scores the rule on instances that the search never sees."""
    count = len(REFERENCES[HOLDOUT])
    games = [play(draw_cities(HOLDOUT, number), rounds) for number in range(count)]
    return _score(play_together(program, "penalize", games), HOLDOUT)


def try_small(program: ProgramHandle, **_: Any) -> None:
    """Asks about a tour of three cities, before any instance is played up to the first question."""
    reply = program.call("penalize", np.array([0.5, 1.0, 1.5]), np.zeros(3))
    as_floats(reply, (3,), where="penalize", magnitude=_MAX_PENALTY)


def draw_cities(split: str, number: int) -> NDArray[np.float64]:
    """Draws the cities of an instance in the unit square, shape `(100, 2)`."""
    return open_stream("travelling_salesman", split, 0, number).random((CITIES, 2))


def play(
    cities: NDArray[np.float64], rounds: int
) -> Generator[tuple[Any, ...], Any, tuple[float, float, float]]:
    """Searches from a nearest-neighbour tour; in each round the program raises edges.

    Voudouris 1999, Guided local search and its application to the traveling salesman problem.

    Returns:
        The length of the best tour, that of the first local optimum, and the share of the rounds
        that found a tour other than the one before.
    """
    distances = np.hypot(*(cities[:, None] - cities).transpose(2, 0, 1))
    guided, uses = distances.copy(), np.zeros_like(distances)
    tour = improve(nearest_neighbours(distances), distances)
    first = best = measure(tour, distances)
    moved = 0
    mean = first / len(tour)
    for _ in range(rounds):
        ends = np.roll(tour, -1)
        reply = yield distances[tour, ends] / mean, uses[tour, ends]
        amounts = as_floats(reply, (len(tour),), where="penalize", magnitude=_MAX_PENALTY)
        raised = np.maximum(amounts, 0.0)
        for matrix, addend in ((guided, raised * mean), (uses, raised > 0.0)):
            matrix[tour, ends] += addend
            matrix[ends, tour] += addend
        found = improve(tour, guided)
        moved += not np.array_equal(found, tour)
        tour = found
        # What guided lengths lead to is polished with the true ones, and counts if it is better.
        best = min(best, measure(improve(tour, distances), distances))
    return best, first, moved / rounds


def nearest_neighbours(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the tour that goes to the nearest city left, from city 0 on."""
    tour, left = [0], set(range(1, len(distances)))
    while left:
        tour.append(min(left, key=lambda city: (distances[tour[-1], city], city)))
        left.remove(tour[-1])
    return np.array(tour)


def improve(tour: NDArray[np.int64], distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Takes the best exchange of two edges, or move of one city, until there is none."""
    tour = tour.copy()
    least = _LEAST_GAIN * float(distances.max())
    while True:
        ends = np.roll(tour, -1)
        edges = distances[tour, ends]
        between = distances[np.ix_(tour, tour)]
        # Exchange: edges behind places i and j become (i, j) and (i + 1, j + 1).
        gains = edges[:, None] + edges - between - np.roll(between, (-1, -1), (0, 1))
        places = np.arange(len(tour))
        gains[places, places] = -np.inf
        i, j = divmod(int(np.argmax(gains)), len(tour))
        # Move: the city at place k goes between places m and m + 1.
        removal = np.roll(edges, 1) + edges - distances[np.roll(tour, 1), ends]
        moves = removal[:, None] - (between + np.roll(between, -1, 1) - edges)
        moves[places, places] = moves[places, places - 1] = -np.inf
        k, m = divmod(int(np.argmax(moves)), len(tour))
        if max(gains[i, j], moves[k, m]) <= least:
            return tour
        if gains[i, j] >= moves[k, m]:
            low, high = sorted((i, j))
            tour[low + 1 : high + 1] = tour[low + 1 : high + 1][::-1]
        else:
            city, behind = tour[k], tour[m]
            rest = np.delete(tour, k)
            tour = np.insert(rest, int(np.flatnonzero(rest == behind)[0]) + 1, city)


def measure(tour: NDArray[np.int64], distances: NDArray[np.float64]) -> float:
    """Returns the length of a closed tour."""
    return float(distances[tour, np.roll(tour, -1)].sum())


def _score(
    outcomes: list[tuple[float, float, float]],
    split: str,
    validation: NDArray[np.float64] | None = None,
) -> Score:
    metrics = {} if validation is None else {"validation": float(validation.mean())}
    excesses = _excess(outcomes, split)
    first = 100.0 * (np.array([outcome[1] for outcome in outcomes]) / REFERENCES[split] - 1.0)
    return Score(
        float(excesses.mean()),
        metrics={
            "worst_excess": float(excesses.max()),
            "first_excess": float(first.mean()),
            "solved": float(np.mean(excesses < 1e-6)),
            **metrics,
        },
        measures={
            "moved": float(np.mean([outcome[2] for outcome in outcomes])),
            "evenness": float(excesses.min() / max(excesses.max(), 1e-12)),
        },
        artifacts={"excess": "\n".join(f"instance {n}: {x:.3f} %" for n, x in enumerate(excesses))},
        instances=name_values(excesses),
        validation=name_values(() if validation is None else validation),
    )


def _excess(outcomes: list[tuple[float, float, float]], split: str) -> NDArray[np.float64]:
    """Returns how much longer than the references the best tours are, in percent."""
    return 100.0 * (np.array([outcome[0] for outcome in outcomes]) / REFERENCES[split] - 1.0)
