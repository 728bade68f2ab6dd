"""Applies edits that name lines by their numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from evolve.edits.apply import finish_program
from evolve.edits.matching import Line, indent_of, join_lines, split_lines
from evolve.edits.splice import UnappliedEditError, check_frozen
from evolve.records import Program, Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence


class LineEdit(NamedTuple):
    """Lines of a program's first file, counted from 1, both ends included, and what replaces them.

    An empty range, with `last` before `first`, puts lines in before `first`.
    """

    first: int
    last: int
    lines: tuple[str, ...]


def apply_line_edits(parent: Program, edits: Sequence[LineEdit]) -> Program | Rejected:
    """Applies edits to the first file of a program, all to its lines as they were.

    Where the outcome does not parse, the new lines are indented as those that they replace.
    """
    path, text = parent.entry
    lines = split_lines(text)
    ordered = sorted(edits, key=lambda edit: edit.first)
    for edit in ordered:
        if not 1 <= edit.first <= len(lines) or not edit.first - 1 <= edit.last <= len(lines):
            return Rejected(
                f"an edit names the lines {edit.first} to {edit.last} of {path}, "
                f"which has {len(lines)}"
            )
    for index, (before, after) in enumerate(pairwise(ordered)):
        if before.first < after.first == before.last < after.last:
            # The line between two ranges goes either way, and small models often name it twice.
            ordered[index] = before._replace(last=before.last - 1)
        elif before.last >= after.first:
            return Rejected(f"two edits of {path} name the line {after.first}; join them")
    outcome: Program | Rejected = Rejected("the reply holds no edit")
    for realign in (False, True):
        new = _splice_all(lines, ordered, realign=realign)
        try:
            check_frozen(text, new, path)
        except UnappliedEditError as error:
            return Rejected(error.reason)
        made = finish_program(parent, {path: new})
        if isinstance(made, Program):
            return made
        outcome = made if not realign else outcome
    return outcome


def _splice_all(lines: list[Line], edits: Sequence[LineEdit], *, realign: bool) -> str:
    newline = lines[0].end or "\n"
    spliced = list(lines)
    for edit in reversed(edits):
        old = lines[edit.first - 1 : edit.last]
        texts = [part for line in edit.lines for part in line.rstrip("\r\n").split("\n")]
        if realign and old and texts:
            missing = indent_of(old[0].text).removeprefix(indent_of(texts[0]))
            texts = [missing + line if line.strip() else line for line in texts]
        new = [Line(line, newline) for line in texts]
        if new and edit.last == len(lines):
            new[-1] = Line(new[-1].text, lines[-1].end)
        spliced[edit.first - 1 : edit.last] = new
    return join_lines(spliced)
