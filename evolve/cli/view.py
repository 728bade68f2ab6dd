"""Runs in a browser: `view`."""

from __future__ import annotations

from typing import Annotated

import typer

from evolve.cli.command import Result, command
from evolve.cli.options import RUNS
from evolve.display import say
from evolve.errors import UsageError


@command(
    "Look",
    examples=("evolve view",),
)
def view(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="Run folders or names; by default all in ./runs.", metavar="[RUN...]"),
    ] = None,
    *,
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", metavar="N", min=0)
    ] = 8420,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address to listen on; only this machine by default."),
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open a browser where there is one.")] = True,
    allow_actions: Annotated[
        bool, typer.Option("--allow-actions", help="Let the page stop runs.")
    ] = False,
) -> Result:
    """Show runs in a browser, live; Ctrl-C ends it."""
    try:
        from evolve.view.server import serve
    except ModuleNotFoundError as error:
        raise UsageError(
            f"`evolve view` needs the package {error.name}: pip install 'evolve[view]'"
        ) from error
    from evolve.runs.run_folder import find_run

    named = [find_run(run, RUNS) for run in runs or ()]
    address = serve(
        named,
        RUNS,
        host=host,
        port=port,
        allows_actions=allow_actions,
        opens_browser=browser,
        announce=say,
    )
    return Result([], {"address": address.partition("?")[0]})
