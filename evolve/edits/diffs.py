"""Unified diffs: written for people and prompts, and read as edits from replies."""

from __future__ import annotations

import difflib
import re
from itertools import zip_longest

from evolve.edits.reply import Edit

_OLD_FILE = re.compile(r"^--- (?:a/)?(?P<path>[^\s]+)")
_NEW_FILE = re.compile(r"^\+\+\+ (?:b/)?(?P<path>[^\s]+)")
_HUNK = re.compile(r"^@@+(?: -(?P<line>\d+)(?:,\d+)? \+\d+(?:,\d+)?)?(?: @@.*| *\.*|.*@@.*)$")
_GIT = re.compile(r"^(diff --git |index [0-9a-f]+\.\.|new file mode|similarity index)")


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


def find_diff_edits(lines: list[str]) -> list[Edit]:
    """Finds the hunks of unified diffs, fenced or not; their line numbers are only hints."""
    edits: list[Edit] = []
    path: str | None = None
    for index, line in enumerate(lines):
        if (new_file := _NEW_FILE.match(line)) is not None and index > 0:
            if _OLD_FILE.match(lines[index - 1]):
                path = new_file["path"]
        elif (hunk := _HUNK.match(line)) is not None:
            number = int(hunk["line"]) if hunk["line"] else None
            edit = _make_edit(lines[index + 1 : _find_end(lines, index + 1)], path, number)
            if edit is not None:
                edits.append(edit)
    return edits


def _find_end(lines: list[str], start: int) -> int:
    for index in range(start, len(lines)):
        line = lines[index]
        if _HUNK.match(line) or line.startswith("```") or _GIT.match(line):
            return index
        if _OLD_FILE.match(line) and any(map(_NEW_FILE.match, lines[index + 1 : index + 2])):
            return index
    return len(lines)


def _make_edit(hunk: list[str], path: str | None, number: int | None) -> Edit | None:
    while hunk and not hunk[-1].strip():
        hunk = hunk[:-1]
    body = [line for line in hunk if not line.startswith("\\ No newline")]
    if not any(line.startswith(("+", "-")) for line in body):
        return None
    # Models forget the space before a line of context; without any, context has no column.
    context = [line for line in body if line and not line.startswith(("+", "-"))]
    cut = 1 if all(line.startswith(" ") for line in context) else 0
    search = [line[1:] if line.startswith("-") else line[cut:] for line in body if line[:1] != "+"]
    new = [line[1:] if line.startswith("+") else line[cut:] for line in body if line[:1] != "-"]
    return Edit(tuple(search), tuple(new), path, number)
