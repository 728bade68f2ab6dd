"""A report as Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from evolve.display import clean
from evolve.report.document import Listing, Paragraph, Picture, Table

if TYPE_CHECKING:
    from evolve.report.document import Block, Document

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def render_markdown(document: Document) -> str:
    """Returns the text; what programs and models wrote cannot leave its place in it."""
    parts = [f"# {_escape(document.title)}"]
    for section in document.sections:
        parts.append(f"## {_escape(section.title)}")
        parts += [_render(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _render(block: Block) -> str:
    match block:
        case Paragraph():
            return _escape(block.text)
        case Table():
            return "\n".join(
                [_row(block.head), _row(("---",) * len(block.head), escaped=True)]
                + [_row(row) for row in block.rows]
            )
        case Listing():
            text = clean(block.text).rstrip()
            longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
            fence = "`" * max(3, longest + 1)
            return f"{fence}{block.language}\n{text}\n{fence}"
        case Picture():
            # Markdown has no pictures of its own.
            return f"*{_escape(block.caption)}*"


def _row(cells: tuple[str, ...], *, escaped: bool = False) -> str:
    return f"| {' | '.join(cell if escaped else _escape(cell) for cell in cells)} |"


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", clean(" ".join(text.split())))
