"""Printing: texts of programs, models and strangers are made harmless on their way out.

A terminal obeys control characters, a reader is misled by characters that reorder a line, and a
spreadsheet computes cells. Everything that is printed goes through `say` and its companions.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

from evolve.keys import cut_keys

# Controls except line break and tab, C1, what reorders or hides text, other line ends, halves of
# characters, and tags, which only models see.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_BREAK = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def clean(text: str) -> str:
    """Returns a text in which nothing is obeyed, hidden or reordered but all of that spelt out.

    Line breaks and tabs stay. Keys of the environment are cut out.
    """
    text = cut_keys(text.replace("\r\n", "\n"))
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: object) -> str:
    """Returns a text as one line, to be put into a line of ours."""
    return clean(_BREAK.sub(" ", str(text)))


def shorten(text: object, most: int) -> str:
    """Returns a text as one line of at most so many characters, three dots where it was cut."""
    line = one_line(text)
    return line if len(line) <= most else f"{line[: most - 3].rstrip()}..."


def as_cell(value: Any) -> Any:
    """Returns a cell of a CSV file, in which no spreadsheet computes anything.

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


class TextTable(NamedTuple):
    """Rows under a head, all of the same length; a head without names is not shown.

    Attributes:
        head: Names of the columns.
        rows: Cells, shown as text; None becomes a dash.
    """

    head: tuple[str, ...]
    rows: Sequence[Sequence[object]]

    def lines(self) -> list[str]:
        """Returns the table as text in columns."""
        rows = [self.head, *self.rows] if any(self.head) else self.rows
        cells = [[_cell(value) for value in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        ]


def say_table(table: TextTable) -> None:
    """Prints a table: in colour on a terminal, as text in columns elsewhere."""
    if not sys.stdout.isatty():
        say("\n".join(table.lines()))
        return
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold cyan",
        show_header=any(table.head),
    )  # fmt: skip
    for name in table.head:
        shown.add_column(Text(_cell(name)))
    for row in table.rows:
        shown.add_row(*(Text(_cell(value)) for value in row))
    Console().print(shown)


def show_number(value: float | None) -> str:
    """Returns a number for people; a dash stands for none."""
    return "-" if value is None else f"{value:.10g}"


def say_json(value: Any, *, indent: int | None = 2) -> None:
    """Prints plain data for other programs, in characters that no terminal obeys."""
    text = json.dumps(value, indent=indent, allow_nan=False)
    say(text.replace("\x7f", "\\u007f"))


def say_error(text: object) -> None:
    """Prints lines on standard error; when nobody reads it, the exit code has to do."""
    with suppress(BrokenPipeError):
        say(text, err=True)


def say_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints the traceback of an unexpected error; replaces `sys.excepthook`."""
    say_error("".join(traceback.format_exception(kind, error, trace)).rstrip())


def _cell(value: object) -> str:
    return "-" if value is None else one_line(value)
