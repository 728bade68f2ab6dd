"""A report as one HTML file that needs nothing else: no script, no network."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from evolve.display import clean
from evolve.report.document import Listing, Paragraph, Picture, Table

if TYPE_CHECKING:
    from evolve.report.document import Block, Document

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c1c1c; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .25rem .8rem .25rem 0;
  border-bottom: 1px solid #ddd; vertical-align: top; font-variant-numeric: tabular-nums; }
pre { background: #f5f5f3; padding: .8rem; overflow-x: auto; font-size: 13px; }
figure { margin: 0; } figcaption { color: #666; font-size: .9rem; } svg { max-width: 100%; }
"""
# Nothing may be loaded or run, whatever a program or model wrote.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render_html(document: Document) -> str:
    """Returns the page; what programs and models wrote is text in it, never markup."""
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{escape(document.title)}</h1>",
    ]
    for section in document.sections:
        parts.append(f"<h2>{escape(section.title)}</h2>")
        parts += [_render(block) for block in section.blocks]
    return "\n".join([*parts, "</body>\n</html>\n"])


def escape(text: str) -> str:
    """Returns a text as it stands in the page: no markup, and nothing that reorders a line."""
    return html.escape(clean(text))


def _render(block: Block) -> str:
    match block:
        case Paragraph():
            return f"<p>{escape(block.text)}</p>"
        case Table():
            head = "".join(f"<th>{escape(cell)}</th>" for cell in block.head)
            rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in block.rows]
            body = "\n".join(f"<tr>{row}</tr>" for row in rows)
            return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"
        case Listing():
            return f"<pre>{escape(block.text.rstrip())}</pre>"
        case Picture():
            caption = escape(block.caption)
            return f"<figure>{block.svg}<figcaption>{caption}</figcaption></figure>"
