"""Chooses the code in a reply that stands for the new program."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from evolve.edits.syntax import loaded_names, needed_names
from evolve.source import list_names, parse_python
from evolve.source.parsing import bound_names, list_statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from evolve.edits.reply import Piece

_CODE_START = re.compile(r"(import |from \w|def |class |@\w|async def |#|\"\"\"|[A-Za-z_]\w* = )")
_MARKER = re.compile(r"EVOLVE-BLOCK-(START|END)\b")
_NO_PROGRAM = frozenset({"bash", "sh", "shell", "console", "text", "txt", "json", "diff"})
_WORD = re.compile(r"[A-Za-z_]\w+")
_MOST_PIECES_READ = 100
_MOST_RANKED = 8
_MOST_ENDS_TRIED = 40
_LEAST_SHARE = 0.3


def rank_python(old: str, frozen: str, pieces: list[Piece]) -> list[str]:
    """Ranks the fenced pieces that can stand for a Python program, the best one first.

    Those with everything that the block must define come first, and later before earlier ones.
    Definitions that a reply spreads over several pieces are brought together.

    Args:
        old: Text of the parent's evolvable block.
        frozen: Text of the parent's file outside it.
        pieces: Pieces in the order of the reply.
    """
    defined = defined_names(old, frozen)
    needed = needed_names(old, frozen)
    texts = [textwrap.dedent(piece.text) for piece in pieces[-_MOST_PIECES_READ:]]
    # A text that comes twice counts where it comes last.
    names = {text: _defined_in(text) for text in dict.fromkeys(reversed(texts))}
    telling = [text for text, own in names.items() if own & defined]
    telling.sort(key=lambda text: needed <= names[text], reverse=True)
    return [_join_parts(text, names, defined) for text in telling[:_MOST_RANKED]]


def defined_names(old: str, frozen: str) -> set[str]:
    """Returns the names of which a rewrite must define one.

    A block inside a function defines none at the top level: then it is those around it.
    """
    return _defined_in(old) or _defined_in(frozen)


def _defined_in(text: str) -> set[str]:
    return bound_names(list_statements(text), imports=False)


def _join_parts(base: str, names: Mapping[str, set[str]], defined: set[str]) -> str:
    """Adds pieces that define other parts of the program, or what the base lacks."""
    chosen = {base}
    have = set(names[base])
    wanted = defined | loaded_names(list_statements(base))
    for text, own in names.items():
        if not own & have and own & wanted:
            chosen.add(text)
            have |= own
    return "\n\n\n".join(text.strip("\n") for text in reversed(list(names)) if text in chosen)


def find_bare_python(lines: list[str], defined: set[str]) -> str | None:
    """Finds a program that stands in a reply without fences, with words around it or not."""
    starts = [0, *(i for i, line in enumerate(lines) if _CODE_START.match(line))][:2]
    for start in starts:
        for stop in _ends(lines, start):
            text = "\n".join(lines[start:stop])
            if parse_python(text) is not None:
                if list_names(text) & defined:
                    return text
                break
    return None


def _ends(lines: list[str], start: int) -> Iterator[int]:
    """Returns the end of the reply, and from there backwards the ends of its paragraphs."""
    yield len(lines)
    blank = [index for index in range(start, len(lines)) if not lines[index].strip()]
    yield from reversed(blank[-_MOST_ENDS_TRIED:])


def rank_other(old: str, pieces: list[Piece]) -> list[str]:
    """Ranks the pieces that can stand for a program in another language, the longest first.

    Many of the words of a piece must be the parent's, unless it has markers.
    """
    known = set(_WORD.findall(old))
    texts = [piece.text for piece in pieces if piece.language not in _NO_PROGRAM]
    alike = [
        text
        for text in texts
        if _MARKER.search(text) or _share_of(known, set(_WORD.findall(text))) > _LEAST_SHARE
    ]
    return sorted(alike, key=len, reverse=True)


def _share_of(known: set[str], words: set[str]) -> float:
    return len(known & words) / len(words) if words else 0.0


def find_bare_block(lines: list[str]) -> str | None:
    """Finds what a reply without fences has between the markers, markers included."""
    marks = [index for index, line in enumerate(lines) if _MARKER.search(line)]
    return "\n".join(lines[marks[0] : marks[-1] + 1]) if len(marks) >= 2 else None
