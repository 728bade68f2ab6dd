"""What a reply holds: marked edits and fenced pieces of code, each with the file it names."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

_OPEN = re.compile(
    r"^\s*<{5,9}(?:[ \t]*(SEARCH|ORIGINAL|HEAD|OLD|BEFORE)\b[^<>=]{0,20})?\s*$", re.IGNORECASE
)
_DIVIDER = re.compile(r"^\s*={5,9}\s*$")
_CLOSE = re.compile(r"^\s*>{5,9}(?:[ \t]*\w[^<>=]{0,20})?\s*$")
_FENCE = re.compile(r"^[ \t]*(?P<bar>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")
_FILE_LINE = re.compile(
    r"^[\s#*>/`-]*(?:(?:new\s+)?(?:file(?:name|path)?|path)\s*[:=]\s*)[`*\"' ]*"
    r"(?P<path>[\w.@+-]+(?:/[\w.@+-]+)*)[`*\"': ]*$",
    re.IGNORECASE,
)
_BARE_PATH = re.compile(
    r"^[\s#*]*[`*\"']*(?P<path>(?:[\w.@+-]+/)*[\w@+-][\w.@+-]*\.[A-Za-z]\w{0,9})[`*\"']*[:\s]*$"
)
_SEARCH_TITLE = re.compile(
    r"^[\W_]*(search|original|before|old|find|current)\b[^`]{0,40}$", re.IGNORECASE
)
_REPLACE_TITLE = re.compile(
    r"^[\W_]*(replace|replacement|updated|after|new)\b[^`]{0,40}$", re.IGNORECASE
)
_LONGEST_TITLE = 300


class MalformedEditError(Exception):
    """A block of edits is cut off or lacks a mark."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines to find and the lines that replace them.

    Attributes:
        search: Lines without their ends.
        replacement: The same.
        path: The file it names; None when it names none.
        line: Where a unified diff says the lines begin, counted from 1; only a hint.
        is_diff: Whether it is from a unified diff.
    """

    search: tuple[str, ...]
    replacement: tuple[str, ...]
    path: str | None = None
    line: int | None = None
    is_diff: bool = False


@dataclass(frozen=True, slots=True)
class CodePiece:
    """A fenced piece of code.

    Attributes:
        text: What stands between the fences.
        language: First word of the opening fence, in lower case.
        path: The file it names; None when it names none.
        is_closed: False when the reply ends before the closing fence.
        first: Line of the reply where the opening fence stands, counted from 0.
    """

    text: str
    language: str
    path: str | None
    is_closed: bool
    first: int


def find_marked_edits(lines: list[str]) -> list[Edit]:
    """Finds SEARCH/REPLACE blocks, which are marked like conflicts of version control.

    Raises:
        MalformedEditError: A block lacks its divider or its end.
    """
    edits = []
    index = 0
    while index < len(lines):
        opening = _OPEN.match(lines[index])
        if opening is None:
            index += 1
            continue
        divider, close = _find_marks(lines, index + 1)
        if divider is not None and close is not None:
            search, replacement = lines[index + 1 : divider], lines[divider + 1 : close]
            path = _find_path(lines, index)
            edits.append(Edit(tuple(_unfence(search)), tuple(_unfence(replacement)), path))
            index = close
        elif opening[1] is not None or divider is not None:
            mark = "`=======`" if divider is None else "`>>>>>>> REPLACE`"
            raise MalformedEditError(f"the block that starts in line {index + 1} has no {mark}")
        # A single row of chevrons is not a block.
        index += 1
    return edits


def find_titled_edits(lines: list[str]) -> list[Edit]:
    """Finds edits written as two fenced pieces under headings such as `Search` and `Replace`."""
    edits = []
    for old, new in itertools.pairwise(find_pieces(lines)):
        titles = _title_of(lines, old.first), _title_of(lines, new.first)
        if _SEARCH_TITLE.match(titles[0]) and _REPLACE_TITLE.match(titles[1]) and new.is_closed:
            search, replacement = old.text.split("\n"), new.text.split("\n")
            edits.append(Edit(tuple(search), tuple(replacement), old.path))
    return edits


def find_pieces(lines: list[str]) -> list[CodePiece]:
    """Finds fenced pieces; a fence with a language always opens one."""
    pieces: list[CodePiece] = []
    opened: tuple[int, str, str] | None = None
    for index, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        bar, info = fence["bar"], fence["info"].strip()
        if opened is not None and bar[0] == opened[1][0] and len(bar) >= len(opened[1]):
            is_closed = not info
            pieces.append(_make_piece(lines, opened, index, is_closed=is_closed))
            opened = None if is_closed else (index, bar, info)
        elif opened is None:
            opened = (index, bar, info)
    if opened is not None:
        pieces.append(_make_piece(lines, opened, len(lines), is_closed=False))
    return pieces


def _find_marks(lines: list[str], start: int) -> tuple[int | None, int | None]:
    """Returns where the divider and the end of a block are, None for what it lacks."""
    divider = None
    for index in range(start, len(lines)):
        if _CLOSE.match(lines[index]):
            return divider, index
        if _OPEN.match(lines[index]):
            break
        if divider is None and _DIVIDER.match(lines[index]):
            divider = index
    return divider, None


def _make_piece(
    lines: list[str], opened: tuple[int, str, str], stop: int, *, is_closed: bool
) -> CodePiece:
    first, _, info = opened
    text = "\n".join(lines[first + 1 : stop])
    language = re.split(r"[\s:{]", info, maxsplit=1)[0].lower()
    path = _path_in_info(info) or _find_path(lines, first)
    return CodePiece(text, language, path, is_closed, first)


def _find_path(lines: list[str], index: int) -> str | None:
    """Returns the file named by the nearest line with text above line `index`, a fence skipped."""
    for line in reversed(lines[max(0, index - 3) : index]):
        if len(line) > _LONGEST_TITLE:
            return None
        found = _FILE_LINE.match(line) or _BARE_PATH.match(line)
        if found is not None:
            return found["path"]
        if (fence := _FENCE.match(line)) is not None:
            if (path := _path_in_info(fence["info"])) is not None:
                return path
        elif line.strip():
            return None
    return None


def _path_in_info(info: str) -> str | None:
    words = re.split(r"[\s:=]", info.strip()[:_LONGEST_TITLE])
    found = _BARE_PATH.match(words[-1])
    return found["path"] if found is not None else None


def _title_of(lines: list[str], index: int) -> str:
    above = reversed(lines[max(0, index - 5) : index])
    title = next((line for line in above if line.strip()), "")
    return title if len(title) <= _LONGEST_TITLE else ""


def _unfence(lines: list[str]) -> list[str]:
    """Returns the lines without fences just inside a block's marks."""
    kept = [index for index, line in enumerate(lines) if line.strip()]
    if len(kept) >= 2 and _FENCE.match(lines[kept[0]]) and _FENCE.match(lines[kept[-1]]):
        return lines[kept[0] + 1 : kept[-1]]
    return lines
