"""The places in a file that operators may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ast
    from collections.abc import Sequence

Edit = tuple[int, int, str]

# Constants that someone named or put into a table are meant to be tuned, more than the 1 in
# `1 - x`: they are drawn that much more often.
NAMED_WEIGHT = 4.0


@dataclass(frozen=True, slots=True)
class Place:
    """An expression that may be replaced.

    Attributes:
        node: The expression.
        parent: The node that holds it.
        start: Offset of its first character.
        end: Offset behind its last character.
        function: Name of the innermost function around it, empty outside of functions.
        loops: Names of the variables of the loops around it.
    """

    node: ast.expr
    parent: ast.AST
    start: int
    end: int
    function: str
    loops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric constant, its sign included.

    Attributes:
        start: Offset of its first character.
        end: Offset behind its last character.
        value: What it stands for.
        weight: How readily it is chosen.
        guarded: Whether a minus sign in its place needs parentheses.
    """

    start: int
    end: int
    value: int | float
    weight: float
    guarded: bool

    @property
    def is_named(self) -> bool:
        """Returns whether someone gave it a name or put it into a table."""
        return self.weight > 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """A statement that fills whole lines.

    Attributes:
        node: The statement.
        start: Offset of the beginning of its first line.
        end: Offset of the beginning of the line behind it.
        indent: White space before it.
        function: Name of the innermost function around it, empty outside of functions.
        siblings: How many statements stand in the same body.
        body: Number of that body in the file.
        index: Place in that body.
    """

    node: ast.stmt
    start: int
    end: int
    indent: str
    function: str
    siblings: int
    body: int
    index: int


class Symbol(NamedTuple):
    """An arithmetic, comparison or boolean operator in a language that is not parsed.

    Attributes:
        start: Offset of its first character.
        end: Offset behind its last character.
        group: Those that may stand in its place, itself included.
    """

    start: int
    end: int
    group: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Syntax:
    """What operators know of a file; everything lies in its evolvable blocks.

    Attributes:
        text: The whole file.
        places: Expressions that are read, outermost first.
        numbers: Numeric constants in the order of the text.
        lines: Statements.
        skeleton: The text with its numbers taken out; equal for files that differ in numbers only.
        symbols: Operators of a file in another language than Python.
    """

    text: str
    places: tuple[Place, ...]
    numbers: tuple[Number, ...]
    lines: tuple[Line, ...]
    skeleton: tuple[str, ...]
    symbols: tuple[Symbol, ...] = ()

    def cut(self, place: Place | Line | Number) -> str:
        """Returns the text of a place."""
        return self.text[place.start : place.end]

    def replace(self, edits: Sequence[Edit]) -> str:
        """Returns the text with some stretches replaced; they must not overlap."""
        text = self.text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text


def make_syntax(
    text: str,
    numbers: tuple[Number, ...],
    places: tuple[Place, ...] = (),
    lines: tuple[Line, ...] = (),
    symbols: tuple[Symbol, ...] = (),
) -> Syntax:
    """Makes what operators know of a file out of its places; adds the skeleton."""
    ends = [0, *(end for number in numbers for end in (number.start, number.end)), len(text)]
    skeleton = tuple(text[a:b] for a, b in zip(ends[::2], ends[1::2], strict=True))
    kinds = tuple(type(number.value).__name__ for number in numbers)
    return Syntax(text, places, numbers, lines, skeleton + kinds, symbols)
