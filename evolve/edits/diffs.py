"""Differences of texts, for people and prompts."""

from __future__ import annotations

import difflib
from itertools import zip_longest


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
