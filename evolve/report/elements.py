"""What pages consist of: sections of tables, texts and pictures, whatever form they are written in.

A page of HTML and a file of Markdown are written from the same blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from evolve.display import Listing, TextTable


@dataclass(frozen=True, slots=True)
class LinkCell:
    """A cell of a table that leads somewhere.

    Attributes:
        text: What is shown.
        address: Made by us.
    """

    text: str
    address: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Two texts with what differs, line by line.

    Attributes:
        title: Stands above them.
        rows: Kind of each row (`same`, `changed`, or `skipped` for lines left out), line of the old
            text, line of the new one.
    """

    title: str
    rows: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing, with a sentence for those who cannot see it.

    Attributes:
        svg: Made by us, from numbers and names.
        caption: What it shows.
        name: Of its file, and of the script that lets readers explore it.
    """

    svg: str
    caption: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class ForeignPicture:
    """A picture that an evaluator made; it is shown where nothing in it can run.

    Attributes:
        data: The image, encoded for an address.
        caption: What it shows.
        kind: Of the image.
    """

    data: str
    caption: str
    kind: str = "svg+xml"


@dataclass(frozen=True, slots=True)
class Cards:
    """The few numbers that matter: label, value, and a remark, as text."""

    cards: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks that open on demand.

    Attributes:
        title: Always shown.
        blocks: What it holds.
        anchor: Where links lead to; empty without any.
    """

    title: str
    blocks: tuple[Block, ...]
    anchor: str = ""


Block = TextTable | Listing | SideBySide | Picture | ForeignPicture | Cards | Fold


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it.

    Attributes:
        title: The heading.
        blocks: In order.
        is_drawn: Whether a script keeps its pictures up to date.
    """

    title: str
    blocks: tuple[Block, ...]
    is_drawn: bool = False

    @property
    def anchor(self) -> str:
        """Returns what identifies the section in its page."""
        return "".join(sign if sign.isalnum() else "-" for sign in self.title.lower())


@dataclass(frozen=True, slots=True)
class Document:
    """A whole page."""

    title: str
    sections: tuple[Section, ...]
