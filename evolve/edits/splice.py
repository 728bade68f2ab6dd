"""Applies the edits of one file to its text."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from evolve.edits.matching import (
    Line,
    Place,
    describe_nearest,
    find_places,
    indent_of,
    join_lines,
    name_places,
    shift_lines,
    split_lines,
)
from evolve.errors import ProblemError
from evolve.source import find_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.edits.reply import Edit

MARKER = re.compile(r"EVOLVE-BLOCK-(START|END)\b")
_IMPORT = re.compile(r"(import \w|from [\w.]+ import )[^()\\]*$")
# From here on empty lines do not count, so those at the ends of an edit are not its own.
_DENSE_LEVEL = 3
_SHORTEST_FRAGMENT = 4


class UnappliedEditError(Exception):
    """An edit cannot be applied.

    Args:
        reason: One line that says why.
        detail: The closest lines.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def edit_text(text: str, name: str, edits: Sequence[Edit], *, realign: bool = False) -> str:
    """Applies the edits of one file: all to the text as it was, or else one after another.

    Args:
        text: The file.
        name: Its path, for messages.
        edits: Edits whose two sides differ.
        realign: Whether replacements get the indentation of the lines that they replace.

    Raises:
        UnappliedEditError: An edit matches nowhere, in several places, or outside the blocks.
    """
    lines = split_lines(text)
    spots = _locate_all(lines, name, edits)
    if spots is None:
        lines = _splice_in_turn(lines, name, edits, realign=realign)
    else:
        for spot, edit in reversed(spots):
            lines = _splice(lines, spot, edit, realign=realign)
    new_text = join_lines(lines)
    check_frozen(text, new_text, name)
    return new_text


def _splice_in_turn(
    lines: list[Line], name: str, edits: Sequence[Edit], *, realign: bool
) -> list[Line]:
    original = [line.text for line in lines]
    for number, edit in enumerate(edits, 1):
        try:
            spot, aimed = _aim(lines, edit, name)
        except UnappliedEditError as error:
            if number > 1 and find_places(original, _strip_blank_ends(edit.search))[0]:
                raise UnappliedEditError(
                    f"edit {number} of {len(edits)} searches lines of {name} that an earlier one"
                    " replaces; join them into one edit",
                    error.detail,
                ) from error
            raise
        lines = _splice(lines, spot, aimed, realign=realign)
    return lines


def frozen_parts(text: str) -> list[str]:
    """Returns what stands outside the evolvable blocks of a file, one part more than blocks."""
    ends = [0, *(block.end for block in find_blocks(text))]
    starts = [*(block.start for block in find_blocks(text)), len(text)]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]


def check_frozen(old: str, new: str, name: str) -> None:
    """Checks that nothing outside the evolvable blocks of a file has changed.

    Raises:
        UnappliedEditError: Something has.
    """
    try:
        is_same = frozen_parts(old) == frozen_parts(new)
    except ProblemError:
        is_same = False
    if not is_same:
        raise UnappliedEditError(
            f"the edit changes {name} outside its evolvable block; only lines between"
            " EVOLVE-BLOCK-START and EVOLVE-BLOCK-END may change"
        )


def _locate_all(
    lines: list[Line], name: str, edits: Sequence[Edit]
) -> list[tuple[_Spot, Edit]] | None:
    """Finds all edits in the text as it is, in its order; None when only a sequence can work."""
    try:
        spots = [_aim(lines, edit, name) for edit in edits]
    except UnappliedEditError:
        if len(edits) == 1:
            raise
        return None
    spots.sort(key=lambda spot: spot[0].place.first)
    for (before, _), (after, _) in itertools.pairwise(spots):
        if before.place.last > after.place.first:
            return None
    return spots


class _Spot:
    """Where an edit applies, and how: on whole lines or on a fragment of one."""

    def __init__(self, place: Place, level: int, fragment: str = "") -> None:
        self.place = place
        self.level = level
        self.fragment = fragment


def _aim(lines: list[Line], edit: Edit, name: str) -> tuple[_Spot, Edit]:
    """Finds where an edit applies; new imports beside frozen ones go into the first block."""
    spot = _locate(lines, edit, name)
    imports = _added_imports(edit) if name.endswith(".py") else []
    if not imports or _keep_evolvable(lines, [spot.place]):
        return spot, edit
    text = join_lines(lines)
    start = find_blocks(text)[0].start
    first = text.count("\n", 0, start)
    indent = indent_of(lines[first].text) if first < len(lines) else ""
    moved = tuple(indent + line for line in imports)
    return _Spot(Place(first, first), 0), replace(edit, search=(), replacement=moved)


def _added_imports(edit: Edit) -> list[str]:
    """Returns the imports that an edit adds, if it keeps all it searched and adds nothing else."""
    rest = [line.strip() for line in edit.replacement if line.strip()]
    for line in filter(None, (line.strip() for line in edit.search)):
        if line not in rest:
            return []
        rest.remove(line)
    return rest if all(_IMPORT.match(line) for line in rest) else []


def _locate(lines: list[Line], edit: Edit, name: str) -> _Spot:
    search = _strip_blank_ends(edit.search)
    if not search:
        raise UnappliedEditError("an edit has no lines to search for; copy those it replaces")
    texts = [line.text for line in lines]
    places, level = find_places(texts, edit.search)
    if not places:
        places, level = find_places(texts, search)
        level = max(level, _DENSE_LEVEL)
    inside = _keep_evolvable(lines, places)
    if len(inside) == 1 or (not inside and len(places) == 1):
        return _Spot((inside or places)[0], level)
    if not places:
        spot = _locate_fragment(texts, search)
        if spot is not None:
            return spot
        raise UnappliedEditError(
            f"the lines to search for are not in {name}: {search[0].strip()[:80]!r}",
            describe_nearest(texts, search),
        )
    hinted = [place for place in inside if place.first + 1 == edit.line]
    if hinted:
        return _Spot(hinted[0], level)
    raise UnappliedEditError(
        f"the lines to search for are in {name} in {len(inside or places)} places"
        f" ({name_places(inside or places)}); add lines around them"
    )


def _locate_fragment(texts: list[str], search: Sequence[str]) -> _Spot | None:
    """Finds a piece of a line that occurs exactly once."""
    fragment = search[0].strip()
    if len(search) > 1 or len(fragment) < _SHORTEST_FRAGMENT:
        return None
    if sum(text.count(fragment) for text in texts) != 1:
        return None
    index = next(index for index, text in enumerate(texts) if fragment in text)
    return _Spot(Place(index, index + 1), 0, fragment)


def _keep_evolvable(lines: list[Line], places: list[Place]) -> list[Place]:
    """Keeps the places that lie wholly in a block."""
    if not places:
        return []
    text = join_lines(lines)
    try:
        blocks = find_blocks(text)
    except ProblemError:
        return []
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line.text) + len(line.end))
    return [
        place
        for place in places
        if any(
            block.start <= offsets[place.first] and offsets[place.last] <= block.end
            for block in blocks
        )
    ]


def _splice(lines: list[Line], spot: _Spot, edit: Edit, *, realign: bool) -> list[Line]:
    place = spot.place
    found = [line.text for line in lines[place.first : place.last]]
    new = _make_replacement(found, spot, edit, realign=realign)
    newline = lines[0].end or "\n"
    last_end = lines[place.last - 1].end
    spliced = [Line(text, newline) for text in new]
    # Lines that stay as they were keep their own ends.
    for index, text in enumerate(new):
        if index < len(found) and text == found[index]:
            spliced[index] = lines[place.first + index]
    if spliced and place.last == len(lines):
        spliced[-1] = Line(spliced[-1].text, last_end)
    elif spliced and not spliced[-1].end:
        spliced[-1] = Line(spliced[-1].text, newline)
    return [*lines[: place.first], *spliced, *lines[place.last :]]


def _make_replacement(found: list[str], spot: _Spot, edit: Edit, *, realign: bool) -> list[str]:
    if spot.fragment:
        new = " ".join(line.strip() for line in edit.replacement if line.strip())
        return [found[0].replace(spot.fragment, new)]
    search, replacement = list(edit.search), list(edit.replacement)
    if spot.level >= _DENSE_LEVEL:
        search, replacement = _strip_blank_ends(search), _strip_blank_ends(replacement)
    if not any(MARKER.search(line) for line in search):
        replacement = [line for line in replacement if not MARKER.search(line)]
    shifted = shift_lines(replacement, search, found)
    if realign:
        first = next((line for line in shifted if line.strip()), "")
        target = next((line for line in found if line.strip()), "")
        missing = indent_of(target).removeprefix(indent_of(first))
        shifted = [missing + line if line.strip() else line for line in shifted]
    return shifted


def _strip_blank_ends(lines: Sequence[str]) -> list[str]:
    kept = [index for index, line in enumerate(lines) if line.strip()]
    return list(lines[kept[0] : kept[-1] + 1]) if kept else []
