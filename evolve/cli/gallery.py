"""`evolve gallery`: the problems that come with the package."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from evolve.cli.options import AsJson
from evolve.display import one_line, say, say_json


def gallery(
    name: Annotated[
        str | None, typer.Argument(help="Problem to copy; without it all are listed.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Argument(help="Where to; by default a folder of its name.", metavar="FOLDER"),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the problems that come with the package, or copy one to change it."""
    from evolve.problem.gallery import copy_problem, list_gallery

    if name is not None:
        target = folder or Path(name)
        for path in copy_problem(name, target):
            say(str(path))
        say(f"next: evolve check {quote(str(target))}, then evolve run {quote(str(target))}")
        return
    problems = list_gallery()
    if as_json:
        say_json(
            [
                {
                    "name": problem.name,
                    "summary": problem.summary,
                    "direction": str(problem.direction),
                    "references": {name: known.value for name, known in problem.references.items()},
                    "folder": str(problem.folder),
                }
                for problem in problems
            ]
        )
        return
    width = max(len(problem.name) for problem in problems)
    for problem in problems:
        say(f"{problem.name:{width}}  {one_line(problem.summary)}")
    say("evolve run NAME runs one; evolve gallery NAME copies it, to be changed")
