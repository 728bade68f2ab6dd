"""What people ask of a run while it continues: `hint`, `inject`, `pin`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from evolve.cli.command import Result, command
from evolve.cli.inspect import opened_run, show_date
from evolve.cli.options import RUNS, Run
from evolve.display import TextTable, one_line
from evolve.errors import UsageError
from evolve.records.plain import to_plain
from evolve.records.steering import Steer, SteerKind
from evolve.report.attempt_details import find_attempt
from evolve.runs.given import drop_asked, hint_run, inject_program, list_asked, pin_attempt
from evolve.runs.run_folder import find_run
from evolve.store import is_locked

Drop = Annotated[
    int | None,
    typer.Option(help="Drop the hint or pin of this number instead.", metavar="N", min=1),
]


@command(
    "Run",
    examples=('evolve hint latest "Try simulated annealing."',),
)
def hint(
    run: Run,
    text: Annotated[
        str | None, typer.Argument(help="What to say; without it, list all.", metavar="TEXT")
    ] = None,
    *,
    drop: Drop = None,
) -> Result:
    """Say something to the models of a run, from its next generation on."""
    folder = find_run(run, RUNS)
    if text is None or drop is not None:
        return _list_or_drop(folder, drop, SteerKind.HINT, text)
    return _show(folder, hint_run(folder, text))


@command(
    "Run",
    examples=("evolve inject latest better.py",),
)
def inject(
    run: Run,
    path: Annotated[
        Path, typer.Argument(help="A file, a folder with all files, or a run.", metavar="PATH")
    ],
) -> Result:
    """Let a run evaluate a program of yours in its next generation."""
    folder = find_run(run, RUNS)
    return _show(folder, inject_program(folder, path))


@command(
    "Run",
    examples=("evolve pin latest 3.1.0",),
)
def pin(
    run: Run,
    program: Annotated[
        str | None,
        typer.Argument(help="Program id or attempt; without it, list all.", metavar="ID"),
    ] = None,
    *,
    drop: Drop = None,
) -> Result:
    """Let every further generation of a run work on a program, too."""
    folder = find_run(run, RUNS)
    if program is None or drop is not None:
        return _list_or_drop(folder, drop, SteerKind.PIN, program)
    with opened_run(run) as (store, state):
        attempt = find_attempt(store, state, program)
    return _show(folder, pin_attempt(folder, attempt))


def _show(folder: Path, steer: Steer) -> Result:
    """Says what was recorded, and when it will be followed."""
    shown = f"{steer.number}: {steer.describe()}; the next generation follows it"
    if not is_locked(folder):
        shown += f"\nthe run is not running: evolve resume {quote(str(folder))}"
    return Result(shown, to_plain(steer))


def _list_or_drop(folder: Path, drop: int | None, kind: SteerKind, other: str | None) -> Result:
    """Lists all that was asked, and since when it is followed; or takes something back."""
    if drop is not None:
        if other is not None:
            raise UsageError(f"--drop: expected nothing with it, got {other!r:.100}")
        return _show(folder, drop_asked(folder, drop, kind))
    asked = list_asked(folder)
    rows = [
        (one.number, show_date(one.time), one.generation, one_line(one.describe())) for one in asked
    ]
    table = TextTable(("", "asked", "generation", "what"), rows)
    return Result(table if rows else "nothing was asked of this run", to_plain(asked))
