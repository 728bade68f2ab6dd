"""What people see: texts of programs, models and strangers, made harmless on their way out.

A terminal obeys control characters, a reader is misled by characters that reorder a line, and a
spreadsheet computes cells. All that is printed goes through `say`.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from evolve.keys import cut_keys

if TYPE_CHECKING:
    from types import TracebackType

# Controls but line break and tab, C1, what reorders or hides text, other ends of lines, halves of
# characters, and tags, which are seen by models alone.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_BREAK = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def clean(text: str) -> str:
    """Returns a text in which nothing is obeyed, hidden or reordered; what would be is spelt out.

    Line breaks and tabs stay. Keys of the environment are cut out.
    """
    text = cut_keys(text.replace("\r\n", "\n"))
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: object) -> str:
    """Returns a text as one line, for a place in a line of ours, which it cannot end."""
    return clean(_BREAK.sub(" ", str(text)))


def as_cell(value: Any) -> Any:
    """Returns what stands in a cell of a table for other programs, in which nothing is computed.

    Numbers stay numbers; a text that a spreadsheet would compute begins with an apostrophe.
    """
    if not isinstance(value, str):
        return value
    text = clean(value)
    is_formula = value.lstrip(" ").startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


def say(text: object = "", *, end: str = "\n", err: bool = False) -> None:
    """Prints a text for people, on standard output or standard error."""
    stream = sys.stderr if err else sys.stdout
    stream.write(clean(str(text)) + end)
    stream.flush()


def say_json(value: Any, *, indent: int | None = 2) -> None:
    """Prints plain data for other programs, in characters that no terminal obeys."""
    text = json.dumps(value, indent=indent, allow_nan=False)
    say(text.replace("\x7f", "\\u007f"))


def say_error(text: object) -> None:
    """Prints lines on standard error, if anybody reads it: else only the exit code tells."""
    with suppress(BrokenPipeError):
        say(text, err=True)


def say_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints the traceback of what nobody expected; takes the place of `sys.excepthook`."""
    say_error("".join(traceback.format_exception(kind, error, trace)).rstrip())
