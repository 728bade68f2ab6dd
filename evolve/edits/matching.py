"""Finds the lines that an edit means, in a file whose text it may have copied badly."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_Form = TypeVar("_Form")

_TAB_WIDTH = 4
_MOST_PLACES_NAMED = 5
_MOST_LINES_SHOWN = 12
_LONGEST_COMPARED = 200


@dataclass(frozen=True, slots=True)
class Place:
    """Lines of a file: `first` counted from 0, `last` excluded."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file.

    Attributes:
        text: The line without its end.
        end: Its end: a line feed, with or without a carriage return; empty in the last line.
    """

    text: str
    end: str


def split_lines(text: str) -> list[Line]:
    """Splits at line feeds only, so that joining gives the text again."""
    lines = []
    for raw in text.split("\n"):
        body = raw.removesuffix("\r")
        lines.append(Line(body, raw[len(body) :] + "\n"))
    last = lines.pop()
    if last.text or last.end != "\n":
        lines.append(Line(last.text, last.end[:-1]))
    return lines


def join_lines(lines: Sequence[Line]) -> str:
    """Joins what `split_lines` split."""
    return "".join(line.text + line.end for line in lines)


def find_places(lines: Sequence[str], search: Sequence[str]) -> tuple[list[Place], int]:
    """Finds where the lines of an edit stand.

    Levels of likeness are tried in turn, and the first with any match decides: equal lines;
    spaces at line ends ignored; one indentation more or less throughout, tabs or spaces; the same
    with empty lines ignored; all spaces ignored.

    Returns:
        The places, and the level at which they were found, from 0.
    """
    if not any(line.strip() for line in search):
        return [], len(_LEVELS)
    for level, find in enumerate(_LEVELS):
        places = find(lines, search)
        if places:
            return places, level
    return [], len(_LEVELS)


def _find_equal(lines: Sequence[str], search: Sequence[str]) -> list[Place]:
    return _find_by(lambda line: line, lines, search)


def _find_without_ends(lines: Sequence[str], search: Sequence[str]) -> list[Place]:
    return _find_by(str.rstrip, lines, search)


def _find_by(
    form: Callable[[str], str], lines: Sequence[str], search: Sequence[str]
) -> list[Place]:
    wanted = [form(line) for line in search]
    formed = [form(line) for line in lines]
    size = len(wanted)
    return [
        Place(at, at + size)
        for at in range(len(formed) - size + 1)
        if formed[at] == wanted[0] and formed[at : at + size] == wanted
    ]


def _find_shifted(lines: Sequence[str], search: Sequence[str]) -> list[Place]:
    wanted = _relative(search)
    size = len(search)
    first = search[0].strip()
    return [
        Place(at, at + size)
        for at in range(len(lines) - size + 1)
        if lines[at].strip() == first and _relative(lines[at : at + size]) == wanted
    ]


def _find_without_blanks(lines: Sequence[str], search: Sequence[str]) -> list[Place]:
    wanted = _relative([line for line in search if line.strip()])
    return _find_dense(lines, search, wanted, _relative)


def _find_without_spaces(lines: Sequence[str], search: Sequence[str]) -> list[Place]:
    wanted = _squeeze([line for line in search if line.strip()])
    return _find_dense(lines, search, wanted, _squeeze)


def _find_dense(
    lines: Sequence[str],
    search: Sequence[str],
    wanted: list[_Form],
    form: Callable[[Sequence[str]], list[_Form]],
) -> list[Place]:
    dense = [index for index, line in enumerate(lines) if line.strip()]
    squeezed = _squeeze([lines[index] for index in dense])
    sought = _squeeze([line for line in search if line.strip()])
    size = len(sought)
    places = []
    for at in range(len(dense) - size + 1):
        if squeezed[at] != sought[0] or squeezed[at : at + size] != sought:
            continue
        chosen = dense[at : at + size]
        if form([lines[index] for index in chosen]) == wanted:
            places.append(Place(chosen[0], chosen[-1] + 1))
    return places


_LEVELS = (
    _find_equal,
    _find_without_ends,
    _find_shifted,
    _find_without_blanks,
    _find_without_spaces,
)


def _relative(lines: Sequence[str]) -> list[tuple[int, str]]:
    """Returns each line's indentation against the first one, and its text."""
    base = next((measure_indent(line) for line in lines if line.strip()), 0)
    return [
        (measure_indent(line) - base, line.strip()) if line.strip() else (0, "") for line in lines
    ]


def _squeeze(lines: Sequence[str]) -> list[str]:
    return ["".join(line.split()) for line in lines]


def indent_of(line: str) -> str:
    """Returns the white space before a line's text."""
    return line[: len(line) - len(line.lstrip(" \t"))]


def measure_indent(line: str) -> int:
    """Returns the width of a line's indentation, tabs counted as four columns."""
    return len(indent_of(line).expandtabs(_TAB_WIDTH))


def shift_lines(
    replacement: Sequence[str], search: Sequence[str], found: Sequence[str]
) -> list[str]:
    """Indents a replacement as the lines found are indented against those searched.

    An indentation that the search has is moved as it was there; others keep their distance to
    the nearest of those, stretched where the file indents by another width than the reply.
    """
    old = [line for line in search if line.strip()]
    new = [line for line in found if line.strip()]
    if all(indent_of(a) == indent_of(b) for a, b in zip(old, new, strict=False)):
        return list(replacement)
    moves: dict[int, int] = {}
    for a, b in zip(old, new, strict=False):
        moves.setdefault(measure_indent(a), measure_indent(b))
    low, high = min(moves), max(moves)
    stretch = (moves[high] - moves[low]) / (high - low) if high > low else 1.0
    uses_tabs = any(indent_of(line).startswith("\t") for line in found)
    return [
        _indent(line, _move(measure_indent(line), moves, stretch), uses_tabs=uses_tabs)
        for line in replacement
    ]


def _move(width: int, moves: dict[int, int], stretch: float) -> int:
    nearest = min(moves, key=lambda known: abs(known - width))
    return max(0, moves[nearest] + round((width - nearest) * stretch))


def _indent(line: str, width: int, *, uses_tabs: bool) -> str:
    body = line.lstrip(" \t")
    if not body:
        return ""
    tabs, spaces = divmod(width, _TAB_WIDTH) if uses_tabs else (0, width)
    return "\t" * tabs + " " * spaces + body


def name_places(places: Sequence[Place]) -> str:
    """Returns the first lines of places in words."""
    named = ", ".join(str(place.first + 1) for place in places[:_MOST_PLACES_NAMED])
    rest = len(places) - _MOST_PLACES_NAMED
    return f"lines {named}" + (f" and {rest} more" if rest > 0 else "")


def describe_nearest(lines: Sequence[str], search: Sequence[str]) -> str:
    """Returns the lines of a file that are most like those searched, numbered, or nothing."""
    wanted = [line.strip() for line in search if line.strip()]
    if not wanted or not lines:
        return ""
    size = min(len(search), len(lines))
    short = [line.strip()[:_LONGEST_COMPARED] for line in lines]
    likeness = _measure_likeness(short, [line[:_LONGEST_COMPARED] for line in wanted])
    totals = [sum(likeness[at : at + size]) for at in range(len(lines) - size + 1)]
    best = max(range(len(totals)), key=totals.__getitem__)
    if totals[best] < 0.5:
        return ""
    shown = range(best, min(best + size, best + _MOST_LINES_SHOWN))
    numbered = "\n".join(f"{index + 1}: {lines[index][:_LONGEST_COMPARED]}" for index in shown)
    return f"the closest lines are:\n{numbered}"


def _measure_likeness(lines: list[str], wanted: list[str]) -> list[float]:
    """Returns how much each line is like the most similar of those wanted, from 0 to 1."""
    known: dict[str, float] = {"": 0.0}
    exact = set(wanted)
    sample = wanted[:_MOST_LINES_SHOWN]
    for line in lines:
        if line in known:
            continue
        if line in exact:
            known[line] = 1.0
            continue
        matcher = difflib.SequenceMatcher(b=line, autojunk=False)
        best = 0.0
        for other in sample:
            matcher.set_seq1(other)
            if matcher.real_quick_ratio() > best and matcher.quick_ratio() > max(best, 0.6):
                best = max(best, matcher.ratio())
        known[line] = best if best >= 0.6 else 0.0
    return [known[line] for line in lines]
