"""What a reply holds: marked or titled edits, and fenced code, each with the file it names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_OPEN = re.compile(
    r"^\s*<{5,9}(?:[ \t]*(SEARCH|ORIGINAL|HEAD|OLD|BEFORE)\b[^<>=]{0,20})?\s*$", re.IGNORECASE
)
_DIVIDER = re.compile(r"^\s*={5,9}\s*$")
_CLOSE = re.compile(
    r"^\s*>{5,9}(?:[ \t]*(?:(REPLACE|REPLACEMENT|UPDATED|NEW|AFTER)\b|\w)[^<>=]{0,20})?\s*$",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^[ \t]*(?P<bar>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$")
_FILE_LINE = re.compile(
    r"^[\s#*>/`-]*(?:new\s+)?(?:file(?:name|path)?|path)(?:\s*[:=]\s*[`*\"' ]*|\s+[`*\"']+)"
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
_MOST_DIVIDERS = 50
_USUAL = "======="


class MalformedEditError(Exception):
    """A block of edits is cut off or lacks a mark."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines to find and the lines that replace them.

    Attributes:
        search: Lines without their ends.
        replacement: The same.
        path: The file it names; None when it names none.
        readings: Where text may be taken for marks: all searches and replacements that may be
            meant, the likeliest and those with the most lines to find first.
    """

    search: tuple[str, ...]
    replacement: tuple[str, ...]
    path: str | None = None
    readings: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()

    @property
    def changes_something(self) -> bool:
        """Returns whether the two sides differ."""
        return bool(self.readings) or self.search != self.replacement


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
    return [_read_block(lines, *block) for block in _find_blocks(lines)]


def blank_blocks(lines: list[str]) -> list[str]:
    """Returns the lines of a reply with those of blocks marked `SEARCH` or so left empty.

    Raises:
        MalformedEditError: A block lacks its divider or its end.
    """
    left = list(lines)
    for start, _, close in _find_blocks(lines):
        if _is_named(lines[start]):
            left[start : close + 1] = [""] * (close + 1 - start)
    return left


def _find_blocks(lines: list[str]) -> Iterator[tuple[int, list[int], int]]:
    """Yields the first line, what may be the dividers, and the last line of each block."""
    index = 0
    while index < len(lines):
        opening = _OPEN.match(lines[index])
        if opening is not None:
            dividers, close = _find_marks(lines, index)
            if dividers and close is not None:
                yield index, dividers, close
                index = close
            elif opening[1] is not None or dividers:
                mark = "`>>>>>>> REPLACE`" if dividers else "`=======`"
                raise MalformedEditError(f"the block that starts in line {index + 1} has no {mark}")
        # A single row of chevrons is not a block.
        index += 1


def is_fence(line: str) -> bool:
    """Returns whether a line begins or ends a fenced piece."""
    return _FENCE.match(line) is not None


def is_divider(line: str) -> bool:
    """Returns whether a line looks like what stands between the sides of an edit."""
    return _DIVIDER.match(line) is not None


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


def find_outer_piece(lines: list[str]) -> CodePiece | None:
    """Returns the piece from the first fence of a reply to its last, which holds fences itself.

    Raises:
        MalformedEditError: It cannot be told whether it holds them or they are pieces beside it.
    """
    fences = [(at, found) for at, line in enumerate(lines) if (found := _FENCE.match(line))]
    infos = [found["info"].strip() for _, found in fences]
    is_simple = len(fences) < 3 or len({found["bar"] for _, found in fences}) > 1
    if is_simple or (all(infos[::2]) and not any(infos[1::2])):
        return None
    inner = infos[1:-1]
    if not infos[0] or infos[-1] or len(inner) % 2 or not all(inner[::2]) or any(inner[1::2]):
        raise MalformedEditError(
            "fences in the program look like the ends of the fence around it; put the whole"
            " program between lines of four backticks"
        )
    (first, opening), last = fences[0], fences[-1][0]
    return _make_piece(lines, (first, opening["bar"], infos[0]), last, is_closed=True)


def _find_marks(lines: list[str], start: int) -> tuple[list[int], int | None]:
    """Returns what may be the dividers of a block, and its end; None where it has none.

    Between `SEARCH` and `REPLACE`, chevrons with other words are text.
    """
    is_named = _is_named(lines[start])
    dividers: list[int] = []
    end = None
    for index in range(start + 1, len(lines)):
        line = lines[index]
        if _OPEN.match(line) and not (is_named and "HEAD" in line):
            break
        if (close := _CLOSE.match(line)) is not None:
            end = end if end is not None and close[1] is None else index
            if close[1] is not None or not is_named:
                break
        elif is_divider(line):
            dividers.append(index)
    return [index for index in dividers if end is None or index < end], end


def _is_named(line: str) -> bool:
    opening = _OPEN.match(line)
    return opening is not None and opening[1] is not None and opening[1].upper() != "HEAD"


def _read_block(lines: list[str], start: int, dividers: list[int], close: int) -> Edit:
    """Returns the edit in a block; rows of `=` may also be text, and fences may be a part of it."""
    if len(dividers) > _MOST_DIVIDERS:
        raise MalformedEditError(
            f"the block that starts in line {start + 1} has {len(dividers)} rows of `=`, at most"
            f" {_MOST_DIVIDERS} are read"
        )
    # Rows of another length are rather text.
    likely = sorted(dividers, key=lambda at: (lines[at].strip() == _USUAL, at), reverse=True)
    readings = [(lines[start + 1 : at], lines[at + 1 : close]) for at in likely]
    usual = next((at for at in dividers if lines[at].strip() == _USUAL), dividers[0])
    sides = lines[start + 1 : usual], lines[usual + 1 : close]
    search, replacement = map(unfence, sides)
    is_clear = len(dividers) == 1 and sides == (search, replacement)
    return Edit(
        tuple(search),
        tuple(replacement),
        _find_path(lines, start),
        readings=() if is_clear else tuple((tuple(old), tuple(new)) for old, new in readings),
    )


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


def unfence(lines: Sequence[str]) -> Sequence[str]:
    """Returns the lines without fences just inside a block's marks."""
    kept = [index for index, line in enumerate(lines) if line.strip()]
    if len(kept) < 2:
        return lines
    first, last = (_FENCE.match(lines[at]) for at in (kept[0], kept[-1]))
    is_fenced = first is not None and last is not None and not last["info"].strip()
    return lines[kept[0] + 1 : kept[-1]] if is_fenced else lines
