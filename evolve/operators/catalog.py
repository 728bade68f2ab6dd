"""All operators by name, and how one is applied to a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from numpy.random import Generator

from evolve.archive.credit import Credit
from evolve.operators import constants, expressions
from evolve.operators.syntax import Syntax, read_syntax, read_tokens
from evolve.records import Program, Rejected, SourceFile
from evolve.source import evolvable_text, find_fault, fingerprint, is_python, is_text

MAX_CHARACTERS = 60_000
NO_PLACE = "found no place in the evolvable code"
_TRIES = 5


Change = Callable[[Syntax, Generator], str | None]
Operator = Callable[[Syntax, Sequence[Syntax], Generator], str | None]


def _without_mates(change: Change) -> Operator:
    def operator(parent: Syntax, _mates: Sequence[Syntax], rng: Generator) -> str | None:
        return change(parent, rng)

    return operator


_CHANGES: tuple[Change, ...] = (
    constants.step_constant,
    constants.flip_sign,
    expressions.change_operator,
    expressions.swap_operands,
    expressions.change_call,
    expressions.change_range,
    expressions.replace_expression,
    expressions.lift_expression,
    expressions.scale_expression,
    expressions.single_out,
    expressions.use_loop_variable,
)
_COMBINATIONS: tuple[Operator, ...] = (constants.follow_difference, constants.mix_constants)

_COMBINING = frozenset(operator.__name__ for operator in _COMBINATIONS)

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {name: _without_mates(change) for name, change in constants.MOVES.items()}
    | {change.__name__: _without_mates(change) for change in _CHANGES}
    | {operator.__name__: operator for operator in _COMBINATIONS}
)


# Of the chances of operators, this share is shared out evenly.
_FLOOR = 0.2


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
    known = [(i, syntax) for i, file in enumerate(parent.files) if (syntax := _read(*file))]
    if not known:
        return Rejected(f"{name}: no file of the program can be read")
    reason = NO_PLACE
    for _ in range(_TRIES):
        index, syntax = known[int(rng.integers(len(known)))]
        text = operator(syntax, _read_mates(name, mates, parent.files[index].path), rng)
        if text is None:
            continue
        child = _replace_text(parent, index, text)
        # What is frozen may be long: it does not grow.
        if len(evolvable_text(text)) > MAX_CHARACTERS:
            reason = f"the evolvable code grew beyond {MAX_CHARACTERS} characters"
        elif _breaks(parent.files[index], text):
            reason = "the change does not parse"
        elif fingerprint(child) == fingerprint(parent):
            reason = "the change makes no difference"
        else:
            return child
    return Rejected(f"{name}: {reason}")


def can_change(program: Program) -> bool:
    """Returns whether any operator may find a place in a program."""
    known = filter(None, (_read(*file) for file in program.files))
    return any(one.numbers or one.symbols or one.places for one in known)


def _breaks(old: SourceFile, text: str) -> bool:
    if old.path.endswith(".py"):
        return not is_python(text)
    return is_text(old.path) and not find_fault(*old) and find_fault(old.path, text) is not None


def _read_mates(name: str, mates: Sequence[Program], path: str) -> list[Syntax]:
    # Parsing is most of an operator's time: spared where nothing is taken from mates.
    if name not in _COMBINING:
        return []
    texts = [file.text for mate in mates for file in mate.files if file.path == path]
    return [syntax for text in texts if (syntax := _read(path, text))]


def _read(path: str, text: str) -> Syntax | None:
    return read_syntax(text) if path.endswith(".py") else read_tokens(text, path)


def _replace_text(parent: Program, index: int, text: str) -> Program:
    files = list(parent.files)
    files[index] = SourceFile(files[index].path, text)
    return Program(tuple(files))
