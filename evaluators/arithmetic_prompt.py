"""Scores a prompt by the sums that a language model gets right with it; no sum is ever shown."""

from __future__ import annotations

import random
from typing import Any

from evolve.scoring import Infeasible, Score

FILE = "prompt.txt"
MOST_CHARACTERS = 4000
FEWEST, MOST = 2, 7


def draw_sums(seed: int, count: int) -> list[tuple[str, int]]:
    """Draws sums as texts, each with its value."""
    rng = random.Random(seed)  # noqa: S311 - the same sums each time
    sums = []
    for _ in range(count):
        terms = [rng.randint(2, 99) for _ in range(rng.randint(FEWEST, MOST) + 1)]
        signs = [1, *(rng.choice((1, -1)) for _ in terms[1:])]
        text = str(terms[0]) + "".join(
            f" {'+' if sign > 0 else '-'} {term}"
            for sign, term in zip(signs[1:], terms[1:], strict=True)
        )
        sums.append((text, sum(sign * term for sign, term in zip(signs, terms, strict=True))))
    return sums


def evaluate(program: Any, *, seed: int, questions: int) -> Score:
    """Asks the model each question below the prompt."""
    prompt = program.files[FILE].strip()
    if not prompt or len(prompt) > MOST_CHARACTERS:
        raise Infeasible(f"{FILE}: expected a prompt of 1 to {MOST_CHARACTERS} characters")
    sums = draw_sums(seed, questions)
    answers = program.ask_all([f"{prompt}\n\n{text}" for text, _ in sums])
    right = {
        f"question {number}": float(answer.strip() == str(value))
        for number, (answer, (_, value)) in enumerate(zip(answers, sums, strict=True), start=1)
    }
    is_number = sum(answer.strip().lstrip("-").isdigit() for answer in answers)
    return Score(
        sum(right.values()) / len(right),
        metrics={"numbers_alone": is_number / len(answers)},
        instances=right,
    )


def evaluate_holdout(program: Any, *, seed: int, questions: int) -> Score:
    """Asks questions that the search never sees."""
    return evaluate(program, seed=seed + 1_000_003, questions=questions)
