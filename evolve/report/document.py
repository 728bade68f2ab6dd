"""A report before it has a form: sections of paragraphs, tables, texts and pictures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A few sentences of ours."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head, all of the same length."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """A text as it is, such as a program: never markup.

    Attributes:
        text: Whatever a program or model wrote.
        language: For the fence of Markdown.
    """

    text: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing, with a sentence for those who do not see it.

    Attributes:
        svg: Made by us, from numbers alone.
        caption: What it shows.
    """

    svg: str
    caption: str


Block = Paragraph | Table | Listing | Picture


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report."""

    title: str
    sections: tuple[Section, ...]
