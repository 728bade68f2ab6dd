"""A page as parts that a terminal or a pipe takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from evolve.display import Heading, Listing, Part, TextTable
from evolve.report.elements import Block, Cards, Document, Fold, SideBySide


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
