"""Operators that change numeric constants and nothing else.

Constants are rewritten in place, so that the rest of the text stays as it is, and programs that
differ in constants only can be combined number by number (Storn and Price 1997, Differential
evolution).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from numpy.random import Generator

from evolve.operators.syntax import Number, Syntax

_LARGEST = 1e12
# Powers of ten between which the relative size of a step is drawn. Two ranges, so that the choice
# of operators learns which one pays: early in a run the coarse one, late the fine one.
_FINE, _COARSE = (-4.5, -2.0), (-2.0, -0.3)

Choice = Callable[[Syntax, Generator], list[int]]


def step_constant(parent: Syntax, rng: Generator) -> str | None:
    """Moves one whole number up or down by a few."""
    whole = [i for i, number in enumerate(parent.numbers) if isinstance(number.value, int)]
    if not whole:
        return None
    weights = [parent.numbers[i].weight for i in whole]
    index = whole[_draw(weights, rng)]
    step = int(rng.geometric(0.6)) * _sign(rng)
    return _rewrite(parent, {index: parent.numbers[index].value + step})


def flip_sign(parent: Syntax, rng: Generator) -> str | None:
    """Turns one constant into its opposite."""
    signed = [i for i, number in enumerate(parent.numbers) if number.value]
    if not signed:
        return None
    index = signed[int(rng.integers(len(signed)))]
    return _rewrite(parent, {index: -parent.numbers[index].value})


def follow_difference(parent: Syntax, mates: Sequence[Syntax], rng: Generator) -> str | None:
    """Adds a multiple of the difference of two programs that differ in constants only."""
    alike = _find_alike(parent, mates)
    if not alike:
        return None
    order = rng.permutation(len(alike))
    first = alike[int(order[0])]
    # One mate alone gives a step on the line through it and the parent.
    second = alike[int(order[1])] if len(alike) > 1 else parent
    factor = rng.uniform(0.2, 1.2) * (_sign(rng) if len(alike) == 1 else 1)
    keep = rng.uniform(0.3, 1.0)
    changes = {}
    for i, number in enumerate(parent.numbers):
        difference = first.numbers[i].value - second.numbers[i].value
        if difference and rng.random() < keep:
            changes[i] = _like(number.value, number.value + factor * difference)
    return _rewrite(parent, changes)


def mix_constants(parent: Syntax, mates: Sequence[Syntax], rng: Generator) -> str | None:
    """Takes some constants from a program that differs in constants only."""
    alike = _find_alike(parent, mates)
    if not alike:
        return None
    mate = alike[int(rng.integers(len(alike)))]
    share = rng.uniform(0.1, 0.9)
    changes = {}
    for i, (ours, theirs) in enumerate(zip(parent.numbers, mate.numbers, strict=True)):
        if ours.value != theirs.value and rng.random() < share:
            changes[i] = theirs.value
    return _rewrite(parent, changes)


def format_number(value: float) -> str:
    """Writes a number as source: whole numbers in full, others with ten digits."""
    if isinstance(value, int):
        return str(value)
    text = repr(float(f"{min(max(value, -_LARGEST), _LARGEST):.10g}"))
    # YAML takes `1e-05` for a text.
    return text if "." in text else text.replace("e", ".0e")


def draw_offset(rng: Generator) -> float:
    """Draws a number of either sign on a scale from 0.001 to 0.3."""
    return float(10.0 ** rng.uniform(-3.0, -0.5) * rng.standard_normal())


def _draw(weights: Sequence[float], rng: Generator) -> int:
    total = sum(weights)
    return int(rng.choice(len(weights), p=[weight / total for weight in weights]))


def _sign(rng: Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _shift(value: float, scale: float, rng: Generator) -> float:
    """Moves a number by the scale relative to its size; small ones as if they were 0.3."""
    if isinstance(value, int):
        return value + max(1, round(abs(value) * scale)) * _sign(rng)
    return value + max(abs(value), 0.3) * scale * float(rng.standard_normal())


def _jump(index: int, numbers: Sequence[Number], rng: Generator) -> float:
    value = numbers[index].value
    # Whole numbers often count turns of a loop: a thousand times as many would only take time.
    largest, spread = (1.0, 0.4) if isinstance(value, int) else (3.0, 1.0)
    match int(rng.integers(4)):
        case 0:
            new = value * 10.0 ** (spread * rng.standard_normal())
        case 1:
            new = 10.0 ** rng.uniform(-3.0, largest) * (-1 if value < 0 else 1)
        case 2:
            new = numbers[int(rng.integers(len(numbers)))].value
        case _:
            simple = (0.0, 1.0, 2.0, 0.5, 1.0 - value, 1.0 / value if value else 1.0, value / 2.0)
            new = simple[int(rng.integers(len(simple)))]
    return _like(value, new)


def _like(value: float, new: float) -> float:
    """Returns the new number in the kind of the old one."""
    if isinstance(value, int):
        return round(min(max(new, -_LARGEST), _LARGEST))
    return float(new)


def _find_alike(parent: Syntax, mates: Sequence[Syntax]) -> list[Syntax]:
    return [mate for mate in mates if mate.skeleton == parent.skeleton and mate.text != parent.text]


def _rewrite(parent: Syntax, values: dict[int, float]) -> str | None:
    if not values:
        return None
    edits = []
    for index, value in values.items():
        number = parent.numbers[index]
        text = format_number(value)
        if number.guarded and text.startswith("-"):
            text = f"({text})"
        edits.append((number.start, number.end, text))
    return parent.replace(edits)


def _choose_named(parent: Syntax, _rng: Generator) -> list[int]:
    """Chooses the constants that are most meant to be tuned."""
    heaviest = max((number.weight for number in parent.numbers), default=0.0)
    return [i for i, number in enumerate(parent.numbers) if number.weight == heaviest]


def _choose_one(parent: Syntax, rng: Generator) -> list[int]:
    return _choose(parent, rng, 1)


def _choose_several(parent: Syntax, rng: Generator) -> list[int]:
    return _choose(parent, rng, int(rng.integers(2, 5)))


def _choose(parent: Syntax, rng: Generator, count: int) -> list[int]:
    weights = [number.weight for number in parent.numbers]
    if not weights:
        return []
    total = sum(weights)
    size = min(count, len(weights))
    shares = [weight / total for weight in weights]
    return [int(i) for i in rng.choice(len(weights), size=size, replace=False, p=shares)]


def _make_move(choose: Choice, powers: tuple[float, float]) -> Callable[..., str | None]:
    """Returns an operator that moves chosen constants a little, on one scale drawn anew."""

    def move(parent: Syntax, rng: Generator) -> str | None:
        chosen = choose(parent, rng)
        # Many small steps at once go about as far as one large one.
        scale = 10.0 ** rng.uniform(*powers) / math.sqrt(max(len(chosen), 1))
        return _rewrite(parent, {i: _shift(parent.numbers[i].value, scale, rng) for i in chosen})

    return move


def _make_jump(choose: Choice) -> Callable[..., str | None]:
    """Returns an operator that moves each of some constants far, in a way of its own."""

    def jump(parent: Syntax, rng: Generator) -> str | None:
        chosen = choose(parent, rng)
        return _rewrite(parent, {i: _jump(i, parent.numbers, rng) for i in chosen})

    return jump


# By name: `tune` moves by very little, `nudge` by a noticeable amount, `jump` far; one constant,
# two to four, or all that somebody named.
MOVES: Mapping[str, Callable[[Syntax, Generator], str | None]] = MappingProxyType(
    {
        "tune_constant": _make_move(_choose_one, _FINE),
        "nudge_constant": _make_move(_choose_one, _COARSE),
        "tune_several": _make_move(_choose_several, _FINE),
        "nudge_several": _make_move(_choose_several, _COARSE),
        "tune_all": _make_move(_choose_named, _FINE),
        "nudge_all": _make_move(_choose_named, _COARSE),
        "jump_constant": _make_jump(_choose_one),
        "jump_several": _make_jump(_choose_several),
    }
)
