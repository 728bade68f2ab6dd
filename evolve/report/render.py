"""Pages as HTML: one file that needs nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evolve.display import Listing, clean, say_error
from evolve.errors import UsageError
from evolve.files import writing
from evolve.report.contents import write_contents
from evolve.report.elements import Document, Picture, Section
from evolve.report.figures import standalone
from evolve.report.timeline import RunHistory
from evolve.runs.run_folder import load_run, write_text
from evolve.store import Store

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_REPORT = "report.html"
_SCRIPTS = ("uPlot.iife.min.js", "page.js")
_STYLES = ("uPlot.min.css", "page.css")
# Colouring a text takes time in proportion to it.
_LONGEST_COLOURED = 100_000


def write_report(folder: Path, path: Path | None = None, figures: Path | None = None) -> Path:
    """Writes the report of a run.

    Args:
        folder: The run's folder.
        path: File to write, `.html`; by default `report.html` in the run's folder.
        figures: Folder for each figure as SVG and PNG.

    Raises:
        UsageError: The name has another ending.
        StoreError: The run cannot be read, or the file cannot be written.
    """
    path = path or folder / _REPORT
    if path.suffix != ".html":
        raise UsageError(f"{path}: expected a name that ends in .html")
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        history = RunHistory(problem, settings)
        history.advance(store)
        document = write_contents(store, history, problem, settings)
    write_text(path, render_html(document, history.as_data()))
    if figures is not None:
        _write_figures(document, figures)
    return path


def _write_figures(document: Document, folder: Path) -> None:
    """Writes each picture as SVG, and as PNG where the package for that is installed.

    Raises:
        StoreError: A file cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    blocks = [block for section in document.sections for block in section.blocks]
    pictures = {block.name: standalone(block.svg) for block in blocks if isinstance(block, Picture)}
    for name, svg in pictures.items():
        write_text(folder / f"{name}.svg", svg)
    try:
        from resvg_py import svg_to_bytes
    except ModuleNotFoundError:
        say_error(f"{folder}: has the figures as SVG; for PNG, too: pip install 'evolve[view]'")
        return
    for name, svg in pictures.items():
        path = folder / f"{name}.png"
        with writing(path):
            path.write_bytes(svg_to_bytes(svg_string=svg, zoom=2))


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
