"""Applies edits to the text of a file, whose lines a reply may have copied badly; shows changes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from evolve.edits.reply import Edit, is_divider, is_fence, unfence
from evolve.errors import ProblemError
from evolve.source.parsing import MARKER, find_blocks, frozen_parts

_IMPORT = re.compile(r"(import \w|from [\w.]+ import )[^()\\]*$")
_TAB_WIDTH = 4
_MOST_PLACES_NAMED = 5
_MOST_LINES_SHOWN = 12
_LONGEST_COMPARED = 200
_LEAST_LIKENESS = 0.6


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


@dataclass(frozen=True, slots=True)
class LineRange:
    """Where an edit applies.

    Attributes:
        first: Its first line, counted from 0.
        last: The line behind it.
        is_dense: Whether blank lines were ignored to find it.
    """

    first: int
    last: int
    is_dense: bool = False


def edit_text(text: str, name: str, edits: Sequence[Edit], *, realign: bool = False) -> str:
    """Returns a file's text after its edits, one after another.

    Args:
        text: The file.
        name: Its path, for messages.
        edits: Edits whose two sides differ.
        realign: Whether replacements get the indentation of the lines that they replace.

    Raises:
        UnappliedEditError: An edit matches nowhere, in several places, or outside the blocks.
    """
    original = text.split("\n")
    new_text = text
    for number, edit in enumerate(edits, 1):
        try:
            new_text = _apply_edit(new_text, name, edit, realign=realign)
        except UnappliedEditError as error:
            meant = _choose_reading(original, edit)
            if number > 1 and find_lines(original, strip_blank_ends(meant.search)):
                raise UnappliedEditError(
                    f"edit {number} of {len(edits)} searches lines of {name} that an earlier one"
                    " replaces; join them into one edit",
                    error.detail,
                ) from error
            raise
    check_frozen(text, new_text, name)
    return new_text


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


def _apply_edit(text: str, name: str, edit: Edit, *, realign: bool) -> str:
    body = text.removesuffix("\n")
    lines = body.split("\n")
    edit = _choose_reading(lines, edit)
    place, edit = _aim(lines, edit, name)
    _expect_one_reading(lines, place, edit)
    found = [line.removesuffix("\r") for line in lines[place.first : place.last]]
    new = _make_replacement(found, place, edit, realign=realign)
    end = "\r" if "\r\n" in text else ""
    lines[place.first : place.last] = [line + end for line in new]
    edited = "\n".join(lines) + text[len(body) :]
    # The last line of a file may have no end.
    return edited if text.endswith("\n") else edited.removesuffix("\r")


def _choose_reading(lines: list[str], edit: Edit) -> Edit:
    """Returns the edit as it is meant: with the most lines to search for that are in the file."""
    is_fenced = any(map(is_fence, lines))
    for raw in edit.readings:
        bare = tuple(unfence(raw[0])), tuple(unfence(raw[1]))
        for search, replacement in (raw, bare) if is_fenced else (bare,):
            if find_lines(lines, search):
                return replace(edit, search=search, replacement=replacement)
    return edit


def _expect_one_reading(lines: list[str], place: LineRange, edit: Edit) -> None:
    """Refuses an edit where a row of `=` may as well be text as the divider.

    Raises:
        UnappliedEditError: The edit would double a row, or the row above its divider may be the
            divider itself.
    """
    if not edit.readings:
        return
    below, new = lines[place.last : place.last + 1], strip_blank_ends(edit.replacement)
    doubles = below == new[-1:] and any(map(is_divider, below))
    shorter = (edit.search[:-1], (*edit.search[-1:], *edit.replacement))
    if doubles or (shorter in edit.readings and new and new[-1] != edit.search[-1]):
        row = place.last + doubles
        raise UnappliedEditError(
            f"the row of `=` in line {row} may be text or the divider of the edit; search for that"
            " row as well, with the line below it"
        )


def _aim(lines: list[str], edit: Edit, name: str) -> tuple[LineRange, Edit]:
    """Returns where an edit applies; new imports next to frozen ones go into the first block."""
    place = _locate(lines, edit, name)
    imports = _added_imports(edit) if name.endswith(".py") else []
    if not imports or _keep_evolvable(lines, [place]):
        return place, edit
    text = "\n".join(lines)
    first = text.count("\n", 0, find_blocks(text)[0].start)
    indent = indent_of(lines[first]) if first < len(lines) else ""
    moved = tuple(indent + line for line in imports)
    return LineRange(first, first), replace(edit, search=(), replacement=moved)


def _added_imports(edit: Edit) -> list[str]:
    """Returns the imports that an edit adds, if it keeps all it searched and adds nothing else."""
    rest = [line.strip() for line in edit.replacement if line.strip()]
    for line in filter(None, (line.strip() for line in edit.search)):
        if line not in rest:
            return []
        rest.remove(line)
    return rest if all(_IMPORT.match(line) for line in rest) else []


def _locate(lines: list[str], edit: Edit, name: str) -> LineRange:
    search = strip_blank_ends(edit.search)
    if not search:
        raise UnappliedEditError("an edit has no lines to search for; copy those it replaces")
    places = find_lines(lines, edit.search)
    inside = _keep_evolvable(lines, places) or places
    if len(inside) == 1:
        return inside[0]
    if not places:
        raise UnappliedEditError(
            f"the lines to search for are not in {name}: {search[0].strip()[:80]!r}",
            describe_nearest(lines, search),
        )
    named = ", ".join(str(place.first + 1) for place in inside[:_MOST_PLACES_NAMED])
    rest = len(inside) - _MOST_PLACES_NAMED
    raise UnappliedEditError(
        f"the lines to search for are in {name} in {len(inside)} places"
        f" (lines {named}{f' and {rest} more' if rest > 0 else ''}); add lines around them"
    )


def _keep_evolvable(lines: list[str], places: list[LineRange]) -> list[LineRange]:
    """Returns the places that lie wholly in a block."""
    try:
        blocks = find_blocks("\n".join(lines))
    except ProblemError:
        return []
    offsets = [0]
    for line in lines:
        offsets.append(offsets[-1] + len(line) + 1)
    # The last line may have no end.
    offsets[-1] -= 1
    return [
        place
        for place in places
        if any(
            block.start <= offsets[place.first] and offsets[place.last] <= block.end
            for block in blocks
        )
    ]


def _make_replacement(
    found: list[str], place: LineRange, edit: Edit, *, realign: bool
) -> list[str]:
    search, replacement = list(edit.search), list(edit.replacement)
    if place.is_dense:
        search, replacement = strip_blank_ends(search), strip_blank_ends(replacement)
    if not any(MARKER.search(line) for line in search):
        replacement = [line for line in replacement if not MARKER.search(line)]
    shifted = _shift_lines(replacement, search, found)
    if realign:
        missing = base_indent(found).removeprefix(base_indent(shifted))
        shifted = [missing + line if line.strip() else line for line in shifted]
    return shifted


def find_lines(lines: Sequence[str], search: Sequence[str]) -> list[LineRange]:
    """Finds where the lines of an edit stand.

    Levels of likeness are tried in turn, and the first with any match decides: equal lines up to
    spaces at their ends; one indentation more or less throughout, in tabs or spaces, with blank
    lines ignored; all spaces ignored.
    """
    if not any(line.strip() for line in search):
        return []
    levels: tuple[tuple[Callable[[Sequence[str]], list[object]], bool], ...] = (
        (_trim_ends, False),
        (_indent_relatively, True),
        (_squeeze, True),
    )
    tight = _squeeze(lines)
    for form, is_dense in levels:
        rows = [at for at, line in enumerate(lines) if line.strip() or not is_dense]
        sought = [line for line in search if line.strip() or not is_dense]
        wanted, first = form(sought), _squeeze(sought[:1])[0]
        places = [
            LineRange(rows[at], rows[at + len(wanted) - 1] + 1, is_dense)
            for at in range(len(rows) - len(wanted) + 1)
            if tight[rows[at]] == first
            and form([lines[row] for row in rows[at : at + len(wanted)]]) == wanted
        ]
        if places:
            return places
    return []


def _trim_ends(lines: Sequence[str]) -> list[object]:
    return [line.rstrip() for line in lines]


def _indent_relatively(lines: Sequence[str]) -> list[object]:
    """Returns each line's indentation relative to the first one, and its text."""
    return [(measure_indent(line) - measure_indent(lines[0]), line.strip()) for line in lines]


def _squeeze(lines: Sequence[str]) -> list[object]:
    return ["".join(line.split()) for line in lines]


def indent_of(line: str) -> str:
    """Returns the white space before a line's text."""
    return line[: len(line) - len(line.lstrip(" \t"))]


def base_indent(lines: Sequence[str]) -> str:
    """Returns the white space before the first line with text."""
    return next((indent_of(line) for line in lines if line.strip()), "")


def measure_indent(line: str) -> int:
    """Returns the width of a line's indentation, tabs counted as four columns."""
    return len(indent_of(line).expandtabs(_TAB_WIDTH))


def strip_blank_ends(lines: Sequence[str]) -> list[str]:
    """Returns the lines without blank ones at either end."""
    kept = [index for index, line in enumerate(lines) if line.strip()]
    return list(lines[kept[0] : kept[-1] + 1]) if kept else []


def _shift_lines(
    replacement: Sequence[str], search: Sequence[str], found: Sequence[str]
) -> list[str]:
    """Returns a replacement indented as the lines found are indented relative to those searched.

    An indentation that the search has is moved as it was there; others keep their distance to
    the nearest of those, stretched where the file indents by another width than the reply.
    """
    pairs = list(zip(filter(str.strip, search), filter(str.strip, found), strict=False))
    if all(indent_of(old) == indent_of(new) for old, new in pairs):
        return list(replacement)
    moves: dict[int, int] = {}
    for old, new in pairs:
        moves.setdefault(measure_indent(old), measure_indent(new))
    low, high = min(moves), max(moves)
    stretch = (moves[high] - moves[low]) / (high - low) if high > low else 1.0
    tab_width = _TAB_WIDTH if any(indent_of(line).startswith("\t") for line in found) else 10**6
    shifted = []
    for line in replacement:
        width = measure_indent(line)
        nearest = min(moves, key=lambda known: abs(known - width))
        tabs, spaces = divmod(
            max(0, moves[nearest] + round((width - nearest) * stretch)), tab_width
        )
        shifted.append("\t" * tabs + " " * spaces + line.lstrip(" \t") if line.strip() else "")
    return shifted


def describe_nearest(lines: Sequence[str], search: Sequence[str]) -> str:
    """Returns the lines of a file that are most like those searched, numbered, or nothing."""
    wanted = [line.strip()[:_LONGEST_COMPARED] for line in search if line.strip()]
    size = min(len(search), len(lines))
    likeness = _measure_likeness([line.strip()[:_LONGEST_COMPARED] for line in lines], wanted)
    totals = [sum(likeness[at : at + size]) for at in range(len(lines) - size + 1)]
    best = max(range(len(totals)), key=totals.__getitem__)
    if not totals[best]:
        return ""
    shown = range(best, min(best + size, best + _MOST_LINES_SHOWN))
    numbered = "\n".join(f"{at + 1}: {lines[at].rstrip()[:_LONGEST_COMPARED]}" for at in shown)
    return f"the closest lines are:\n{numbered}"


def _measure_likeness(lines: list[str], wanted: list[str]) -> list[float]:
    """Returns how much each line is like the most similar of those wanted, from 0 to 1."""
    known = {"": 0.0} | dict.fromkeys(wanted, 1.0)
    for line in lines:
        if line not in known:
            close = difflib.get_close_matches(
                line, wanted[:_MOST_LINES_SHOWN], n=1, cutoff=_LEAST_LIKENESS
            )
            matcher = difflib.SequenceMatcher(None, close[0] if close else "", line)
            known[line] = matcher.ratio() if close else 0.0
    return [known[line] for line in lines]


def unified_diff(old: str, new: str, old_name: str, new_name: str = "") -> str:
    """Returns how a file changed, empty where it did not; the new name is the old by default."""
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), old_name, new_name or old_name, lineterm=""
    )
    return "\n".join(lines)


def align_lines(old: str, new: str) -> list[tuple[str, str, str]]:
    """Returns both texts line by line: what a line is (`same`, `changed`, `skipped`), old, new."""
    before, after = old.splitlines(), new.splitlines()
    rows: list[tuple[str, str, str]] = []
    for number, group in enumerate(
        difflib.SequenceMatcher(a=before, b=after).get_grouped_opcodes()
    ):
        if number:
            rows.append(("skipped", "", ""))
        for tag, start, end, new_start, new_end in group:
            pairs = zip_longest(before[start:end], after[new_start:new_end], fillvalue="")
            kind = "same" if tag == "equal" else "changed"
            rows += [(kind, left, right) for left, right in pairs]
    return rows
