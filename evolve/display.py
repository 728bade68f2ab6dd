"""Printing: texts of programs, models and strangers are made harmless on their way out.

A terminal obeys control characters, a reader is misled by characters that reorder a line, and a
spreadsheet computes cells. Everything that is printed goes through `say` and its companions.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from evolve.keys import cut_keys

if TYPE_CHECKING:
    from rich.syntax import Syntax
    from rich.table import Table as RichTable

# Controls except line break and tab, C1, what reorders or hides text, other line ends, halves of
# characters, and tags, which only models see.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_BREAK = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
# A text is wrapped to no less than this.
_NARROW = 16
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_AMOUNT = re.compile(r"[+-]?\$?\d[\d.,]*(e[+-]?\d+)?( ?%| s)?")
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
    """Returns a text as one line of limited length, with three dots where it was cut."""
    line = one_line(text)
    return line if len(line) <= most else f"{line[: most - 3].rstrip()}..."


def count_of(number: int, noun: str) -> str:
    """Returns a number of things in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


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


class Styled(NamedTuple):
    """A cell whose colour has a meaning on a terminal.

    Attributes:
        value: Shown as any other cell.
        style: As Rich names it, such as `green`.
    """

    value: object
    style: str


class TextTable(NamedTuple):
    """Rows under a head, all of the same length; a head without names is not shown.

    Attributes:
        head: Names of the columns.
        rows: Cells, shown as text; None becomes a dash.
    """

    head: tuple[str, ...]
    rows: Sequence[Sequence[object]]

    def lines(self) -> list[str]:
        """Returns the table as text in columns; those of numbers end at the right."""
        rows = [self.head, *self.rows] if any(self.head) else self.rows
        cells = [[_cell(value) for value in row] for row in rows]
        columns = list(zip(*cells, strict=True))
        widths = [max(map(len, column)) for column in columns]
        align = [str.rjust if right else str.ljust for right in self.find_numbers()]
        return [
            "  ".join(
                put(cell, width) for cell, width, put in zip(row, widths, align, strict=True)
            ).rstrip()
            for row in cells
        ]

    def find_width(self) -> int:
        """Returns the least width at which no word has to be cut, and texts are not too narrow."""
        cells = [[_cell(value) for value in row] for row in (self.head, *self.rows)]
        columns = zip(*cells, strict=True)
        return sum(max(map(_find_least, one)) + 2 for one in columns) - 2

    def find_numbers(self) -> list[bool]:
        """Returns for each column whether it holds numbers alone."""
        if not any(self.head):
            return [False] * len(self.head)
        columns = zip(*([_cell(value) for value in row] for row in self.rows), strict=True)
        found = [all(cell == "-" or _AMOUNT.fullmatch(cell) for cell in one) for one in columns]
        return found or [False] * len(self.head)


@dataclass(frozen=True, slots=True)
class Listing:
    """A text as it is, such as a program: never markup.

    Attributes:
        text: Whatever a program or model wrote.
        language: Of its colours; empty to go by the title.
        title: Stands above it.
    """

    text: str
    language: str = ""
    title: str = ""


class Heading(NamedTuple):
    """A line above what belongs together."""

    text: str


Part = str | TextTable | Listing | Heading


def say_parts(parts: Iterable[Part], *, pages: bool = False) -> None:
    """Prints what a command found: in colour on a terminal, as plain text elsewhere.

    Args:
        parts: In order; they may come one by one.
        pages: Whether what does not fit a terminal is shown by the user's pager.
    """
    if not sys.stdout.isatty():
        for part in parts:
            say(_as_text(part))
        return
    drawn = _draw_parts(parts, wraps=pages)
    if pages and sys.stdin.isatty() and os.environ.get("TERM") != "dumb":
        drawn = _show_pages(drawn)
    for text in drawn:
        sys.stdout.write(text)
        sys.stdout.flush()


def _as_text(part: Part) -> str:
    if isinstance(part, TextTable):
        return "\n".join(part.lines())
    if isinstance(part, Listing):
        text = part.text.removesuffix("\n")
        return f"{one_line(part.title)}:\n{text}" if part.title else text
    return f"\n{one_line(part.text)}" if isinstance(part, Heading) else part


def _draw_parts(parts: Iterable[Part], *, wraps: bool) -> Iterator[str]:
    """Yields parts as a terminal takes them; nothing in them is markup.

    Args:
        parts: In order.
        wraps: Whether texts are wrapped by words; commands in them can then not be copied.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for part in parts:
        with console.capture() as drawn:
            if isinstance(part, TextTable):
                console.print(_draw_table(part, console.width))
            elif isinstance(part, Listing):
                if part.title:
                    console.print(Text(f"{one_line(part.title)}:", style="dim"))
                console.print(_draw_listing(part))
            elif isinstance(part, Heading):
                console.print(Text(f"\n{one_line(part.text)}", style="bold"))
            else:
                console.print(Text(clean(part)), soft_wrap=not wraps)
        yield drawn.get()


def _draw_table(table: TextTable, width: int) -> RichTable:
    """Returns a table, or its rows below each other where they would have to be cut."""
    from rich.table import Table
    from rich.text import Text

    def draw(cell: object) -> Text:
        return Text(_cell(cell), cell.style if isinstance(cell, Styled) else "")

    has_head = any(table.head)
    if has_head and table.find_width() > width:
        drawn = Table.grid(padding=(0, 2, 0, 0))
        drawn.add_column(style="bold cyan", no_wrap=True)
        for row in table.rows:
            for name, cell in zip(table.head, row, strict=True):
                drawn.add_row(Text(_cell(name)), draw(cell))
            drawn.add_row()
        return drawn
    drawn = Table(
        box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold cyan",
        show_header=has_head,
    )  # fmt: skip
    for name, is_number in zip(table.head, table.find_numbers(), strict=True):
        drawn.add_column(Text(_cell(name)), justify="right" if is_number else "left")
    for row in table.rows:
        drawn.add_row(*map(draw, row))
    return drawn


def _draw_listing(listing: Listing) -> Syntax:
    from rich.syntax import Syntax

    text = clean(listing.text)
    language = listing.language or Syntax.guess_lexer(listing.title, text)
    # The terminal's own colours, so that they can be read on light and dark ones.
    return Syntax(text, language, theme="ansi_light", background_color="default", word_wrap=True)


def _show_pages(texts: Iterator[str]) -> Iterator[str]:
    """Hands texts to the user's pager if they do not fit the terminal, else returns them."""
    from click import echo_via_pager

    lines, first = shutil.get_terminal_size().lines - 1, []
    for text in texts:
        first.append(text)
        lines -= text.count("\n")
        if lines < 0:
            echo_via_pager(itertools.chain(first, texts))
            return iter(())
    return iter(first)


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


def _find_least(cell: str) -> int:
    """Returns the least width of a cell whose words can be wrapped."""
    return max(*map(len, cell.split(" ")), min(len(cell), _NARROW))


def _cell(value: object) -> str:
    value = value.value if isinstance(value, Styled) else value
    return "-" if value is None else one_line(value)
