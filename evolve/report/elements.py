"""What pages consist of: sections of tables, texts and pictures, for browsers and terminals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from evolve.display import Heading, Listing, Part, TextTable


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


def list_parts(document: Document, instead: Mapping[str, Sequence[Part]]) -> Iterator[Part]:
    """Yields the parts of a page; of what only a page can show there is the title.

    Args:
        document: The page.
        instead: What stands in a terminal in place of a section's contents, by its title.
    """
    for section in document.sections:
        yield Heading(section.title)
        yield from instead.get(section.title, _list_blocks(section.blocks))


def _list_blocks(blocks: Iterable[Block]) -> Iterator[Part]:
    for block in blocks:
        if isinstance(block, Fold):
            yield Heading(block.title)
            yield from _list_blocks(block.blocks)
        elif isinstance(block, SideBySide):
            yield block.title
        elif isinstance(block, Cards):
            yield TextTable(("", "", ""), block.cards)
        elif isinstance(block, TextTable | Listing):
            yield block
        else:
            yield block.caption
