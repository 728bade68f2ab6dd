"""Operators: changes of a program's source without a model, all by name, and their choice.

Some change constants and nothing else. These are rewritten in place, so that the rest of the text
stays as it is, and programs that differ in constants only can be combined number by number (Storn
and Price 1997, Differential evolution). The others change expressions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from numpy.random import Generator

from evolve.archive.credit import Credit
from evolve.operators.expressions import EXPRESSIONS, Change
from evolve.operators.syntax import LARGEST, Number, Syntax, edit_text, pick, read_syntax
from evolve.records import Program, Rejected, SourceFile
from evolve.source.analysis import fingerprint, is_python
from evolve.source.parsing import evolvable_text, find_fault, is_text

Operator = Callable[[Syntax, Iterable[Syntax], Generator], str | None]
"""A change that may take from the same file of other programs."""

MAX_CHARACTERS = 60_000
NO_PLACE = "found no place in the evolvable code"
_TRIES = 5
# Of the chances of operators, this share is shared out evenly.
_FLOOR = 0.2
# Powers of ten between which the relative size of a step is drawn. Two ranges, so that the choice
# of operators learns which one pays: early in a run the coarse one, late the fine one.
_FINE, _COARSE = (-4.5, -2.0), (-2.0, -0.3)


def _rewriting(
    choose: Callable[[Syntax, Generator], Sequence[Number]],
    change: Callable[[Syntax, Sequence[Number], Generator], list[float]],
) -> Change:
    """Returns a change that gives new values to the constants that are chosen."""

    def operator(parent: Syntax, rng: Generator) -> str | None:
        chosen = choose(parent, rng)
        return _write(parent, zip(chosen, change(parent, chosen, rng), strict=True))

    return operator


def _write(parent: Syntax, values: Iterable[tuple[Number, float]]) -> str | None:
    edits = [number.write(value) for number, value in values]
    return edit_text(parent.text, edits) if edits else None


def _draw(numbers: Sequence[Number], count: int, rng: Generator) -> Sequence[Number]:
    """Draws different numbers, heavy ones more often."""
    if not numbers:
        return []
    total = sum(number.weight for number in numbers)
    shares = [number.weight / total for number in numbers]
    drawn = rng.choice(len(numbers), size=min(count, len(numbers)), replace=False, p=shares)
    return [numbers[int(place)] for place in drawn]


def _choose_one(parent: Syntax, rng: Generator) -> Sequence[Number]:
    return _draw(parent.numbers, 1, rng)


def _choose_several(parent: Syntax, rng: Generator) -> Sequence[Number]:
    return _draw(parent.numbers, int(rng.integers(2, 5)), rng)


def _choose_named(parent: Syntax, _rng: Generator) -> Sequence[Number]:
    """Chooses the constants that are most meant to be tuned."""
    heaviest = max((number.weight for number in parent.numbers), default=0.0)
    return [number for number in parent.numbers if number.weight == heaviest]


def _choose_whole(parent: Syntax, rng: Generator) -> Sequence[Number]:
    return _draw([one for one in parent.numbers if isinstance(one.value, int)], 1, rng)


def _choose_signed(parent: Syntax, rng: Generator) -> Sequence[Number]:
    signed = [number for number in parent.numbers if number.value]
    return [pick(signed, rng)] if signed else []


def _shift_by(low: float, high: float) -> Callable[..., list[float]]:
    """Returns what moves constants a little, on one scale drawn anew."""

    def shift(_parent: Syntax, chosen: Sequence[Number], rng: Generator) -> list[float]:
        # Many small steps at once go about as far as one large one.
        scale = 10.0 ** rng.uniform(low, high) / math.sqrt(max(len(chosen), 1))
        return [_shift(number.value, scale, rng) for number in chosen]

    return shift


def _shift(value: float, scale: float, rng: Generator) -> float:
    """Moves a number by the scale relative to its size; small ones as if they were 0.3."""
    if isinstance(value, int):
        return value + max(1, round(abs(value) * scale)) * _sign(rng)
    return value + max(abs(value), 0.3) * scale * float(rng.standard_normal())


def _jump(parent: Syntax, chosen: Sequence[Number], rng: Generator) -> list[float]:
    """Moves each constant far, in a way of its own."""
    return [_like(one.value, _leap(one.value, parent.numbers, rng)) for one in chosen]


def _leap(value: float, numbers: Sequence[Number], rng: Generator) -> float:
    # Whole numbers often count turns of a loop: a thousand times as many would only take time.
    largest, spread = (1.0, 0.4) if isinstance(value, int) else (3.0, 1.0)
    match int(rng.integers(4)):
        case 0:
            return float(value * 10.0 ** (spread * rng.standard_normal()))
        case 1:
            return float(10.0 ** rng.uniform(-3.0, largest)) * (-1 if value < 0 else 1)
        case 2:
            return pick(numbers, rng).value
        case _:
            inverse = 1.0 / value if value else 1.0
            return pick((0.0, 1.0, 2.0, 0.5, 1.0 - value, inverse, value / 2.0), rng)


def _step(_parent: Syntax, chosen: Sequence[Number], rng: Generator) -> list[float]:
    return [number.value + int(rng.geometric(0.6)) * _sign(rng) for number in chosen]


def _flip(_parent: Syntax, chosen: Sequence[Number], _rng: Generator) -> list[float]:
    return [-number.value for number in chosen]


def _like(value: float, new: float) -> float:
    """Returns the new number in the kind of the old one."""
    if isinstance(value, int):
        return round(min(max(new, -LARGEST), LARGEST))
    return float(new)


def _sign(rng: Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


# `tune` moves by very little, `nudge` by a noticeable amount, `jump` far: one constant, two to
# four, or all that somebody named. `step` moves a whole number by a few.
_CONSTANTS: dict[str, Change] = {
    "tune_constant": _rewriting(_choose_one, _shift_by(*_FINE)),
    "nudge_constant": _rewriting(_choose_one, _shift_by(*_COARSE)),
    "tune_several": _rewriting(_choose_several, _shift_by(*_FINE)),
    "nudge_several": _rewriting(_choose_several, _shift_by(*_COARSE)),
    "tune_all": _rewriting(_choose_named, _shift_by(*_FINE)),
    "nudge_all": _rewriting(_choose_named, _shift_by(*_COARSE)),
    "jump_constant": _rewriting(_choose_one, _jump),
    "jump_several": _rewriting(_choose_several, _jump),
    "step_constant": _rewriting(_choose_whole, _step),
    "flip_sign": _rewriting(_choose_signed, _flip),
}


def follow_difference(parent: Syntax, mates: Iterable[Syntax], rng: Generator) -> str | None:
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
    changes = []
    for number, one, other in zip(parent.numbers, first.numbers, second.numbers, strict=True):
        difference = one.value - other.value
        if difference and rng.random() < keep:
            changes.append((number, _like(number.value, number.value + factor * difference)))
    return _write(parent, changes)


def mix_constants(parent: Syntax, mates: Iterable[Syntax], rng: Generator) -> str | None:
    """Takes some constants from a program that differs in constants only."""
    alike = _find_alike(parent, mates)
    if not alike:
        return None
    mate = pick(alike, rng)
    share = rng.uniform(0.1, 0.9)
    pairs = zip(parent.numbers, mate.numbers, strict=True)
    different = ((ours, theirs.value) for ours, theirs in pairs if ours.value != theirs.value)
    return _write(parent, [change for change in different if rng.random() < share])


def _find_alike(parent: Syntax, mates: Iterable[Syntax]) -> list[Syntax]:
    skeleton = parent.skeleton
    return [mate for mate in mates if mate.skeleton == skeleton and mate.text != parent.text]


def _without_mates(change: Change) -> Operator:
    return lambda parent, _mates, rng: change(parent, rng)


OPERATORS: Mapping[str, Operator] = {
    **{name: _without_mates(change) for name, change in (_CONSTANTS | EXPRESSIONS).items()},
    "follow_difference": follow_difference,
    "mix_constants": mix_constants,
}
"""All operators by name."""


def operator_chances(credit: Credit | None) -> Mapping[str, float]:
    """Returns the chance of each operator to be chosen next, by name; even without credit."""
    if credit is None:
        return dict.fromkeys(OPERATORS, 1.0 / len(OPERATORS))
    return credit.chances(OPERATORS, floor=_FLOOR)


def choose_operator(chances: Mapping[str, float], rng: Generator) -> str:
    """Draws the next operator."""
    return list(chances)[int(rng.choice(len(chances), p=list(chances.values())))]


def apply_operator(
    name: str, parent: Program, mates: Sequence[Program], rng: Generator
) -> Program | Rejected:
    """Changes one file of a program inside its evolvable blocks.

    Args:
        name: One of `OPERATORS`.
        parent: The program to change.
        mates: Other programs of the same problem, for operators that combine programs.
        rng: Source of all randomness.

    Returns:
        A program whose Python parses and whose normal form differs from the parent's, or why
        there is none.

    Raises:
        KeyError: There is no operator of that name.
    """
    operator = OPERATORS[name]
    known = [(i, syntax) for i, file in enumerate(parent.files) if (syntax := read_syntax(*file))]
    if not known:
        return Rejected(f"{name}: no file of the program can be read")
    reason = NO_PLACE
    for _ in range(_TRIES):
        index, syntax = known[int(rng.integers(len(known)))]
        old = parent.files[index]
        # Parsing is most of an operator's time: spared where nothing is taken from mates.
        alike = (file for mate in mates for file in mate.files if file.path == old.path)
        text = operator(syntax, (one for file in alike if (one := read_syntax(*file))), rng)
        if text is None:
            continue
        new = SourceFile(old.path, text)
        child = Program((*parent.files[:index], new, *parent.files[index + 1 :]))
        # What is frozen may be long: it does not grow.
        if len(evolvable_text(text)) > MAX_CHARACTERS:
            reason = f"the evolvable code grew beyond {MAX_CHARACTERS} characters"
        elif _breaks(old, text):
            reason = "the change does not parse"
        elif fingerprint(child) == fingerprint(parent):
            reason = "the change makes no difference"
        else:
            return child
    return Rejected(f"{name}: {reason}")


def _breaks(old: SourceFile, text: str) -> bool:
    if old.path.endswith(".py"):
        return not is_python(text)
    return is_text(old.path) and not find_fault(*old) and find_fault(old.path, text) is not None
