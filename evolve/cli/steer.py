"""What people ask of a run while it continues: `hint`, `inject`, `pin`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evolve.cli.command import Result, command
from evolve.cli.inspect import opened_run, show_date
from evolve.cli.options import RUNS, Run
from evolve.display import TextTable, one_line
from evolve.errors import UsageError

if TYPE_CHECKING:
    from evolve.records.steering import Steer, SteerKind
    from evolve.store import Store

_MOST_CHARACTERS = 4000
Drop = Annotated[
    int | None,
    typer.Option(help="Drop the hint or pin of this number instead.", metavar="N", min=1),
]


@command("Run")
def hint(
    run: Run,
    text: Annotated[
        str | None, typer.Argument(help="What to say; without it, list all.", metavar="TEXT")
    ] = None,
    *,
    drop: Drop = None,
) -> Result:
    """Say something to the models of a run, from its next generation on."""
    from evolve.records.steering import SteerKind
    from evolve.runs.run_folder import find_run, load_run

    folder = find_run(run, RUNS)
    with opened_run(run) as (store, _):
        asked = store.steering()
        _expect_begun(store)
    if text is None and drop is None:
        return _list(asked)
    if drop is not None:
        return _drop(folder, asked, drop, SteerKind.HINT, text)
    if not (text or "").strip() or len(text or "") > _MOST_CHARACTERS:
        raise UsageError(
            f"hint: expected 1 to {_MOST_CHARACTERS} characters of text, got {len(text or '')}"
        )
    if not load_run(folder)[1].models.is_configured:
        raise UsageError(
            f"hint: {folder}: the run has no model that would read it; `evolve inject` and "
            "`evolve pin` steer it, and `evolve resume --model NAME` gives it one"
        )
    return _ask(folder, SteerKind.HINT, one_line(text or ""))


@command("Run")
def inject(
    run: Run,
    path: Annotated[
        Path, typer.Argument(help="A file, a folder with all files, or a run.", metavar="PATH")
    ],
) -> Result:
    """Let a run evaluate a program of yours in its next generation."""
    from evolve.records.steering import SteerKind
    from evolve.runs.given import read_given
    from evolve.runs.run_folder import find_run, load_run

    folder = find_run(run, RUNS)
    with opened_run(run) as (store, _):
        _expect_begun(store)
    program = read_given(load_run(folder)[0], path, "inject")
    return _ask(folder, SteerKind.INJECT, f"{path.name}, put in by the user", program.files)


@command("Run")
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
    from evolve.records.steering import SteerKind
    from evolve.report.attempt_details import find_attempt
    from evolve.runs.run_folder import find_run

    folder = find_run(run, RUNS)
    with opened_run(run) as (store, state):
        asked, strategy = store.steering(), state.islands.strategy
        if drop is not None:
            return _drop(folder, asked, drop, SteerKind.PIN, program)
        if program is None:
            return _list(asked)
        if strategy.is_baseline:
            raise UsageError(f"pin: {folder}: the run's strategy changes {strategy.about}")
        attempt = find_attempt(store, state, program)
    if attempt.objective is None:
        raise UsageError(
            f"pin: expected a program with an objective, got attempt {attempt.key}: "
            f"{attempt.evaluation.status}"
        )
    return _ask(folder, SteerKind.PIN, str(attempt.key))


def _ask(folder: Path, kind: SteerKind, text: str, files: tuple[Any, ...] = ()) -> Result:
    """Records what is asked, and says when it will be followed."""
    from evolve.records.plain import to_plain
    from evolve.store import Store, is_locked

    with closing(Store.open_to_steer(folder)) as store:
        steer = store.add_steer(kind, text, files)
    shown = f"{steer.number}: {steer.describe()}; the next generation follows it"
    if not is_locked(folder):
        shown += f"\nthe run is not running: evolve resume {quote(str(folder))}"
    return Result(shown, to_plain(steer))


def _drop(
    folder: Path, asked: Sequence[Steer], number: int, kind: SteerKind, other: str | None
) -> Result:
    """Takes something back that was asked before."""
    from evolve.records.steering import SteerKind

    if other is not None:
        raise UsageError(f"--drop: expected nothing with it, got {other!r:.100}")
    known = [one.number for one in asked if one.kind is kind]
    if number not in known:
        listed = ", ".join(map(str, known)) or "none"
        raise UsageError(f"--drop: expected the number of a {kind} ({listed}), got {number}")
    return _ask(folder, SteerKind.DROP, str(number))


def _expect_begun(store: Store) -> None:
    if store.last_generation() is None:
        raise UsageError(f"{store.folder}: the run has not evaluated its starting program yet")


def _list(asked: Sequence[Steer]) -> Result:
    """Lists all that was asked, and since when it is followed."""
    from evolve.records.plain import to_plain

    if not asked:
        return Result("nothing was asked of this run", [])
    rows = [
        (one.number, show_date(one.time), one.generation, one_line(one.describe())) for one in asked
    ]
    return Result(TextTable(("", "asked", "generation", "what"), rows), to_plain(asked))
