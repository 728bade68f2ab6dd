"""What programs print, made fit to be shown."""

from __future__ import annotations

import builtins
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evolve.records import Program

_FRAME = re.compile(r'^  File "([^"]+)", line (\d{1,6})\b', re.MULTILINE)
_SYNTAX = re.compile(r"\(line (\d{1,6})\)$")


def printable(text: str, most: int) -> str:
    """Returns the beginning and the end of a text, without control characters.

    Args:
        text: What a program wrote.
        most: Characters that are kept.
    """
    if len(text) > most:
        text = f"{text[: most // 2]}\n[...]\n{text[-most // 2 :]}"
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char)[0] != "C"
        else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def name_kind_and_line(reason: str, detail: str, program: Program) -> str:
    """Returns the kind of an exception and its line, in no word of the program's.

    Args:
        reason: What the program says it raised.
        detail: What it says is the traceback.
        program: Its files.
    """
    name = reason.partition(":")[0]
    kind = getattr(builtins, name, None)
    is_known = isinstance(kind, type) and issubclass(kind, BaseException)
    found = name if is_known else "an exception"
    lengths = {path: text.count("\n") + 1 for path, text in program.files}
    frames = [(path, int(line)) for path, line in _FRAME.findall(detail) if path in lengths]
    if not frames and (line := _SYNTAX.search(reason)):
        frames = [(program.entry.path, int(line[1]))]
    if frames and 0 < frames[-1][1] <= lengths[frames[-1][0]]:
        found += f" in line {frames[-1][1]} of {frames[-1][0]}"
    return found
