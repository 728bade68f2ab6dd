"""Scores agents that add with the help of a language model, by right sums and questions asked."""

from __future__ import annotations

import random
from typing import Any

from evolve.scoring import Infeasible, Score

TERMS = 16
PRICE, MOST = 0.02, 40


def draw_lists(seed: int, count: int) -> list[list[int]]:
    """Draws the lists to add."""
    rng = random.Random(seed)  # noqa: S311 - the same lists each time
    return [[rng.choice((1, -1)) * rng.randint(2, 99) for _ in range(TERMS)] for _ in range(count)]


def evaluate(program: Any, *, seed: int, questions: int) -> Score:
    """Asks the agent for the sum of each list."""
    scores, asked = {}, 0
    for number, terms in enumerate(draw_lists(seed, questions), start=1):
        found = program.call("solve", terms)
        if type(found) is not int:
            raise Infeasible(f"solve: expected a whole number, got a {type(found).__name__}")
        used, asked = program.asked - asked, program.asked
        is_right = found == sum(terms) and 0 < used <= MOST
        scores[f"list {number}"] = is_right - PRICE * min(used, MOST) if used else 0.0
        # What one list has left in the program shall not help with the next.
        program.restart()
    mean = sum(scores.values()) / len(scores)
    return Score(mean, measures={"questions": asked / len(scores)}, instances=scores)


def evaluate_holdout(program: Any, *, seed: int, questions: int) -> Score:
    """Asks for sums of lists that the search never sees."""
    return evaluate(program, seed=seed + 1_000_003, questions=questions)
