"""What programs print, made fit to be shown."""

from __future__ import annotations

import unicodedata


def printable(text: str, most: int) -> str:
    """Gives the beginning and the end of a text, without control characters.

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
