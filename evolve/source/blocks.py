"""The evolvable blocks of a file, and what stands outside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from evolve.errors import ProblemError

_MARKER = re.compile(r"^.*EVOLVE-BLOCK-(START|END)\b.*$\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EvolveBlock:
    """A stretch of text that may change: character offsets, `end` excluded."""

    start: int
    end: int


@lru_cache(maxsize=256)
def find_blocks(text: str) -> tuple[EvolveBlock, ...]:
    """Finds the evolvable blocks of a file, in order.

    A block lies between a line with `EVOLVE-BLOCK-START` and the next line with
    `EVOLVE-BLOCK-END`, in any language's comment syntax; the marker lines stay outside.

    Returns:
        The blocks, possibly empty ones; without any marker one block with the whole text.

    Raises:
        ProblemError: A marker has no partner, or blocks are nested; the line is named.
    """
    blocks: list[EvolveBlock] = []
    opened: re.Match[str] | None = None
    for marker in _MARKER.finditer(text):
        line = _line_number(text, marker)
        if marker[1] == "START":
            if opened is not None:
                raise ProblemError(
                    f"line {line}: expected `EVOLVE-BLOCK-END` for the block that starts in line "
                    f"{_line_number(text, opened)}, got another `EVOLVE-BLOCK-START`; "
                    "blocks cannot be nested"
                )
            opened = marker
        elif opened is None:
            raise ProblemError(
                f"line {line}: expected `EVOLVE-BLOCK-START` before this `EVOLVE-BLOCK-END`; "
                "add it, or remove this line"
            )
        else:
            blocks.append(EvolveBlock(opened.end(), marker.start()))
            opened = None
    if opened is not None:
        raise ProblemError(
            f"line {_line_number(text, opened)}: expected `EVOLVE-BLOCK-END` after this "
            "`EVOLVE-BLOCK-START`, got the end of the file; add it"
        )
    return tuple(blocks) or (EvolveBlock(0, len(text)),)


def evolvable_text(text: str) -> str:
    """Joins the text of all evolvable blocks of a file.

    Raises:
        ProblemError: As for `find_blocks`.
    """
    return "".join(text[block.start : block.end] for block in find_blocks(text))


def frozen_parts(text: str) -> list[str]:
    """Returns what stands outside the evolvable blocks of a file, one part more than blocks.

    Raises:
        ProblemError: As for `find_blocks`.
    """
    blocks = find_blocks(text)
    ends = [0, *(block.end for block in blocks)]
    starts = [*(block.start for block in blocks), len(text)]
    return [text[end:start] for end, start in zip(ends, starts, strict=True)]


def _line_number(text: str, marker: re.Match[str]) -> int:
    return text.count("\n", 0, marker.start()) + 1
