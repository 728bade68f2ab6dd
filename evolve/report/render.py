"""Pages: sections of tables, texts and pictures, as HTML and as parts for a terminal."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from evolve.display import Heading, Listing, Part, TextTable, clean

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


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


_SCRIPTS = ("uPlot.iife.min.js", "page.js")
_STYLES = ("uPlot.min.css", "page.css")
# Colouring a text takes time in proportion to it.
_LONGEST_COLOURED = 100_000


def render_html(document: Document, data: dict[str, Any] | None = None) -> str:
    """Returns the page; what programs and models wrote is text in it, never markup.

    Args:
        document: What is on it.
        data: What its script draws; without any the page has no script.
    """
    script = "\n".join(map(read_static, _SCRIPTS)) if data is not None else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _render(
        "report.html.jinja",
        document=document,
        data=as_script_data(data),
        style="\n".join(map(read_static, _STYLES)) + highlight_style(),
        script=script,
        policy=f"'sha256-{digest}'" if script else "'none'",
    )


def render_page(document: Document, **facts: Any) -> str:
    """Returns a page of `evolve view`, which loads its scripts and styles from the server."""
    return _render("view.html.jinja", document=document, **facts)


def render_section(section: Section) -> str:
    """Returns one section as HTML, as it stands in its page."""
    return _render("section.html.jinja", section=section)


def as_script_data(data: Any) -> str:
    """Returns JSON that can stand in a script element: nothing in it ends the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return clean(text).replace("<", "\\u003c")


def read_static(name: str) -> str:
    """Returns a script or style sheet of the pages."""
    return (resources.files("evolve") / "report" / "static" / name).read_text("utf-8")


def highlight_style() -> str:
    """Returns the style sheet of coloured code, for light and dark pages."""
    from pygments.formatters import HtmlFormatter

    light, dark = (
        HtmlFormatter(style=style, cssclass="code").get_style_defs()  # type: ignore[no-untyped-call]
        for style in ("default", "monokai")
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        return value if isinstance(value, Markup) else clean(str(value))

    environment = Environment(
        autoescape=True,
        loader=PackageLoader("evolve", "report/templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    tests: dict[str, Any] = environment.tests
    tests["a"] = lambda value, name: type(value).__name__ == name
    environment.filters["colour"] = _colour
    return environment


def _colour(listing: Listing) -> str | Markup:
    """Returns a text with the colours of its language, where it is known."""
    from markupsafe import Markup
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
    from pygments.util import ClassNotFound

    text = clean(listing.text.rstrip())
    if len(text) > _LONGEST_COLOURED or listing.language == "text":
        return text
    try:
        if listing.language:
            lexer = get_lexer_by_name(listing.language, stripnl=False)
        else:
            lexer = get_lexer_for_filename(listing.title, stripnl=False)
    except ClassNotFound:
        return text
    # Pygments escapes whatever stands in the text.
    return Markup(highlight(text, lexer, HtmlFormatter(nowrap=True)))  # noqa: S704
