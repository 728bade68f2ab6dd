"""`evolve report`: a run as one page to read or to send."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from evolve.cli.options import RUNS, Run
from evolve.display import say

REPORT = "report.html"


def report(
    run: Run,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write, .html or .md; by default report.html in the run folder.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Write a report of a run as one page, also while the run goes on."""
    from evolve.run.folder import find_run

    folder = find_run(run, RUNS)
    say(str(write_report(folder, output or folder / REPORT)))


def write_report(folder: Path, path: Path) -> Path:
    """Writes the report of a run in the form that the file's name asks for.

    Raises:
        UsageError: The name asks for no known form.
        StoreError: The run cannot be read, or the file not be written.
    """
    from evolve.errors import UsageError
    from evolve.population.snapshot import load_standing
    from evolve.report.contents import write_contents
    from evolve.report.html import render_html
    from evolve.report.markdown import render_markdown
    from evolve.run.folder import load_run, write_text
    from evolve.store import Store

    forms = {".html": render_html, ".md": render_markdown}
    if path.suffix not in forms:
        raise UsageError(f"{path}: expected a name that ends in .html or .md")
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        standing = load_standing(store, problem, settings.search)
        document = write_contents(store, standing, problem, settings)
    write_text(path, forms[path.suffix](document))
    return path
