"""A report as HTML or Markdown: one file that needs nothing else."""

from __future__ import annotations

import re
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any

from evolve.display import TextTable, clean
from evolve.errors import UsageError
from evolve.population.snapshot import load_state
from evolve.report.contents import Block, Document, Picture, write_contents
from evolve.run.folder import load_run, write_text
from evolve.store import Store

_REPORT = "report.html"
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def write_report(folder: Path, path: Path | None = None) -> Path:
    """Writes the report of a run in the form that the file's name asks for.

    Args:
        folder: The run's folder.
        path: File to write, `.html` or `.md`; by default `report.html` in the run's folder.

    Raises:
        UsageError: The name asks for another form.
        StoreError: The run cannot be read, or the file cannot be written.
    """
    path = path or folder / _REPORT
    forms = {".html": render_html, ".md": render_markdown}
    if path.suffix not in forms:
        raise UsageError(f"{path}: expected a name that ends in .html or .md")
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        run_state = load_state(store, problem, settings.search)
        document = write_contents(store, run_state, problem, settings)
    write_text(path, forms[path.suffix](document))
    return path


def render_html(document: Document) -> str:
    """Returns the page; what programs and models wrote is text in it, never markup."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        return value if isinstance(value, Markup) else clean(str(value))

    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        finalize=finalize,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    template = (resources.files("evolve") / "report" / "page.html.jinja").read_text("utf-8")
    return environment.from_string(template).render(document=document)


def render_markdown(document: Document) -> str:
    """Returns the text; what programs and models wrote cannot leave its place in it."""
    parts = [f"# {_escape(document.title)}"]
    for section in document.sections:
        parts.append(f"## {_escape(section.title)}")
        parts += [_render_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _render_block(block: Block) -> str:
    if isinstance(block, TextTable):
        rule = f"| {' | '.join('---' for _ in block.head)} |"
        return "\n".join([_row(block.head), rule, *map(_row, block.rows)])
    if isinstance(block, Picture):
        # Markdown has no pictures of its own.
        return f"*{_escape(block.caption)}*"
    text = clean(block.text).rstrip()
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    title = f"{_escape(block.title)}\n\n" if block.title else ""
    return f"{title}{fence}{block.language}\n{text}\n{fence}"


def _row(cells: Any) -> str:
    return f"| {' | '.join(_escape(str(cell)) for cell in cells)} |"


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", clean(" ".join(text.split())))
