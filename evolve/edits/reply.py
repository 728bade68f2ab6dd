"""Finds what a reply holds: edits and fenced pieces of code, each with the file it names."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

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
_INLINE_SEARCH = re.compile(r"^[\s*+-]*search\**\s*:\**\s*`(?P<code>[^`]+)`\s*$", re.IGNORECASE)
_INLINE_REPLACE = re.compile(
    r"^[\s*+-]*replace(?:\s+with)?\**\s*:\**\s*`(?P<code>[^`]+)`\s*$", re.IGNORECASE
)
_FARTHEST = 400
_LONGEST_TITLE = 300


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines to find and the lines that replace them.

    Attributes:
        search: Lines without their ends.
        replacement: The same.
        path: The file it names; `None` when it names none.
        line: Where a unified diff says the lines begin, counted from 1; only a hint.
        is_diff: Whether it is from a unified diff.
    """

    search: tuple[str, ...]
    replacement: tuple[str, ...]
    path: str | None = None
    line: int | None = None
    is_diff: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A fenced piece of code.

    Attributes:
        text: What stands between the fences.
        language: First word of the opening fence, in lower case.
        path: The file it names; `None` when it names none.
        is_closed: False when the reply ends before the closing fence.
        first: Line of the reply where the opening fence stands, counted from 0.
        last: Line after the closing fence.
    """

    text: str
    language: str
    path: str | None
    is_closed: bool
    first: int
    last: int


@dataclass(slots=True)
class Blocks:
    """What was found of SEARCH/REPLACE blocks.

    Attributes:
        edits: The complete ones.
        broken: One line for each that is cut off or malformed.
        outside: The lines of the reply outside them.
    """

    edits: list[Edit] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


def find_path(lines: list[str], index: int) -> str | None:
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


def find_blocks_of_edits(lines: list[str]) -> Blocks:
    """Finds blocks marked like the conflicts of version control."""
    found = Blocks()
    index = 0
    while index < len(lines):
        opening = _OPEN.match(lines[index])
        if opening is None:
            found.outside.append(lines[index])
            index += 1
            continue
        divider, close, stop = _find_marks(lines, index + 1)
        if divider is not None and close is not None:
            search = unfence(lines[index + 1 : divider])
            replacement = unfence(lines[divider + 1 : close])
            path = find_path(lines, index)
            found.edits.append(Edit(tuple(search), tuple(replacement), path))
            index = close + 1
        elif opening[1] is None and divider is None:
            found.outside.append(lines[index])  # a lone row of chevrons is no block
            index += 1
        elif close is not None:
            index = _read_untidy(lines, index, close, found)
        else:
            mark = "`=======`" if divider is None else "`>>>>>>> REPLACE`"
            found.broken.append(f"the block that starts in line {index + 1} has no {mark}")
            index = stop
    return found


def _find_marks(lines: list[str], start: int) -> tuple[int | None, int | None, int]:
    """Finds divider and close of a block, and where the next one starts."""
    divider = None
    for index in range(start, len(lines)):
        if _CLOSE.match(lines[index]):
            return divider, index, index + 1
        if _OPEN.match(lines[index]):
            return divider, None, index
        if divider is None and _DIVIDER.match(lines[index]):
            divider = index
    return divider, None, len(lines)


def _read_untidy(lines: list[str], first: int, close: int, found: Blocks) -> int:
    """Reads a block without a divider, whose replacement is fenced after its end."""
    after = lines[close + 1 : close + 1 + _FARTHEST]
    piece = next((piece for piece in find_pieces(after) if piece.is_closed), None)
    if piece is not None:
        lead = [line for line in after[: piece.first] if line.strip() and not _FENCE.match(line)]
        if all(_REPLACE_TITLE.match(line) for line in lead):
            search = tuple(unfence(lines[first + 1 : close]))
            path = find_path(lines, first)
            found.edits.append(Edit(search, tuple(piece.text.split("\n")), path))
            return close + 1 + piece.last
    found.broken.append(f"the block that starts in line {first + 1} has no `=======`")
    return close + 1


def find_titled_edits(lines: list[str], pieces: list[Piece]) -> list[Edit]:
    """Finds edits written as headings over two fenced pieces, or as pairs of inline code."""
    edits = []
    for old, new in itertools.pairwise(pieces):
        title, next_title = _title_of(lines, old.first), _title_of(lines, new.first)
        if _SEARCH_TITLE.match(title) and _REPLACE_TITLE.match(next_title) and new.is_closed:
            search, replacement = old.text.split("\n"), new.text.split("\n")
            edits.append(Edit(tuple(search), tuple(replacement), old.path))
    tight = [line for line in lines if line.strip() and len(line) <= _LONGEST_TITLE]
    for line, next_line in itertools.pairwise(tight):
        old_code, new_code = _INLINE_SEARCH.match(line), _INLINE_REPLACE.match(next_line)
        if old_code is not None and new_code is not None:
            edits.append(Edit((old_code["code"],), (new_code["code"],)))
    return edits


def find_pieces(lines: list[str]) -> list[Piece]:
    """Finds fenced pieces; a fence with a language always opens one."""
    pieces: list[Piece] = []
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


def _make_piece(
    lines: list[str], opened: tuple[int, str, str], stop: int, *, is_closed: bool
) -> Piece:
    first, _, info = opened
    text = "\n".join(lines[first + 1 : stop])
    language = re.split(r"[\s:{]", info, maxsplit=1)[0].lower()
    path = _path_in_info(info) or find_path(lines, first)
    return Piece(text, language, path, is_closed, first, stop + is_closed)


def _path_in_info(info: str) -> str | None:
    words = re.split(r"[\s:=]", info.strip()[:_LONGEST_TITLE])
    found = _BARE_PATH.match(words[-1])
    return found["path"] if found is not None else None


def _title_of(lines: list[str], index: int) -> str:
    above = reversed(lines[max(0, index - 5) : index])
    title = next((line for line in above if line.strip()), "")
    return title if len(title) <= _LONGEST_TITLE else ""


def unfence(lines: list[str]) -> list[str]:
    """Takes fences off that stand just inside a block's marks."""
    kept = [index for index, line in enumerate(lines) if line.strip()]
    if len(kept) >= 2 and _FENCE.match(lines[kept[0]]) and _FENCE.match(lines[kept[-1]]):
        return lines[kept[0] + 1 : kept[-1]]
    return lines
