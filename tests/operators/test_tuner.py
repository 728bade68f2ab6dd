from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evolve.operators import Tuner, is_spent
from evolve.records import Direction, Program, SourceFile

TEXT = "def point():\n    x, y = 1.25, 1.75\n    return x, y\n"


def program(text: str = TEXT) -> Program:
    return Program((SourceFile("initial.py", text),))


def distance(made: Program) -> float:
    assigned = ast.parse(made.entry.text).body[0].body[0]  # type: ignore[attr-defined]
    x, y = ast.literal_eval(assigned.value)
    return float((x - 3.0) ** 2 + 10.0 * (y + 2.0) ** 2)


def tune(tuner: Tuner, samples: int, batch: int = 64) -> list[str]:
    texts: list[str] = []
    while len(texts) < samples:
        made = tuner.ask(min(batch, samples - len(texts)))
        tuner.add([distance(one) for one in made])
        texts += [one.entry.text for one in made]
    return texts


def test_a_session_finds_the_best_constants() -> None:
    tuner = Tuner(program(), Direction.MINIMIZE, seed=[1])
    assert tuner.constants == 2
    tune(tuner, 300)
    assert min(one for one in tuner.objectives if one is not None) < 1e-6


def test_the_scale_of_objectives_and_its_direction_do_not_matter() -> None:
    up = Tuner(program(), Direction.MAXIMIZE, seed=[2])
    down = Tuner(program(), Direction.MINIMIZE, seed=[2])
    for _ in range(40):
        (one,), (other,) = up.ask(1), down.ask(1)
        assert one == other
        up.add([-(distance(one) ** 3)])
        down.add([distance(other)])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(0, 40))
def test_a_session_goes_on_from_what_was_told_however_it_was_cut(
    seed: int, batch: int, cut: int
) -> None:
    whole = Tuner(program(), Direction.MINIMIZE, seed=[seed])
    texts = tune(whole, 60)
    first = Tuner(program(), Direction.MINIMIZE, seed=[seed])
    begun = tune(first, cut, batch) if cut else []
    again = Tuner(program(), Direction.MINIMIZE, seed=[seed], known=first.objectives)
    assert begun + tune(again, 60 - cut, batch) == texts


def test_where_small_steps_tell_nothing_larger_ones_are_taken() -> None:
    # Whoever moves `y` by less than half of its size sees no difference.
    tuner = Tuner(program(), Direction.MINIMIZE, seed=[5])
    for _ in range(12):
        made = tuner.ask(8)
        tuner.add([float(distance(one) // 60.0) for one in made])
    best = min(one for one in tuner.objectives if one is not None)
    assert tuner.objectives[0] == 2.0
    assert best == 0.0


def test_failures_alone_do_not_make_steps_larger() -> None:
    tuner = Tuner(program(), Direction.MINIMIZE, seed=[6])
    for _ in range(6):
        tuner.add([None] * len(tuner.ask(8)))
    assert max(distance(one) for one in tuner.ask(8)) < 1000.0


def test_programs_that_fail_are_the_worst() -> None:
    tuner = Tuner(program(), Direction.MINIMIZE, seed=[3])
    for _ in range(40):
        made = tuner.ask(8)
        tuner.add([distance(one) if distance(one) < 120 else None for one in made])
    assert min(one for one in tuner.objectives if one is not None) < 1e-3


@pytest.mark.parametrize("direction", Direction)
def test_a_session_is_spent_when_its_later_half_brings_next_to_nothing(
    direction: Direction,
) -> None:
    def told(*values: float) -> list[float]:
        return [direction.sign * value for value in values]

    assert not is_spent(told(*range(50)), 2, direction)
    assert not is_spent(told(*range(200)), 2, direction)
    assert is_spent(told(*range(100), *[99.5] * 100), 2, direction)
    assert is_spent([0.0, *[None] * 100], 2, direction)
    assert not is_spent([0.0, *[None] * 100], 9, direction)
