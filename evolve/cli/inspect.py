"""Commands that look at whole runs: `ls`, `show`, `archive`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evolve.cli.command import Result, command
from evolve.cli.options import RUNS, Run
from evolve.display import TextTable, show_number
from evolve.errors import EvolveError

if TYPE_CHECKING:
    from evolve.population import RunState
    from evolve.run.outcome import Outcome
    from evolve.store import Store


@command("Look")
def ls() -> Result:
    """List the runs in ./runs."""
    from evolve.report.state import describe_run
    from evolve.run.folder import list_runs

    described: list[dict[str, Any]] = []
    for folder in list_runs(RUNS):
        try:
            with opened_run(str(folder)) as (store, population):
                described.append(describe_run(folder, store, population))
        except EvolveError as error:
            # The others are still worth listing.
            described.append({"run": folder.name, "status": "unreadable", "error": str(error)})
    if not described:
        return Result(f"no runs in {RUNS.resolve()}; start one with `evolve run PROBLEM`", [])
    return Result(
        TextTable(
            ("run", "status", "generations", "evaluations", "champion"),
            [_list_run(run) for run in described],
        ),
        described,
    )


def _list_run(run: dict[str, Any]) -> list[object]:
    if "error" in run:
        return [run["run"], f"{run['status']}: {run['error']}", None, None, None]
    from evolve.report.state import describe_status

    champion = run["champion"] and show_number(run["champion"]["objective"])
    if champion and run["cooperative"]:
        champion += " (cooperative evaluator: can be forged)"
    return [run["run"], describe_status(run), run["generations"], run["evaluations"], champion]


@command("Look")
def show(run: Run) -> Result:
    """Show the state of a run."""
    from evolve.report.state import describe_run, describe_state

    with opened_run(run) as (store, population):
        state = describe_run(store.folder, store, population)
        rows = describe_state(state, store.usage())
    return Result(TextTable(("", ""), rows), state)


@command("Look")
def archive(run: Run) -> Result:
    """List the elites of a run."""
    from evolve.report.state import describe_elites

    with opened_run(run) as (store, population):
        elites = describe_elites(store, population)
    names = list(elites[0]["measures"]) if elites else []
    head = ("program", "island", "cell", "objective", *names, "plan")
    rows = [
        [
            elite["id"],
            elite["island"],
            elite["cell"],
            show_number(elite["objective"]),
            *map(show_number, elite["measures"].values()),
            (elite["plan"] or "the starting program")[:60],
        ]
        for elite in elites
    ]
    return Result(TextTable(head, rows), elites)


def show_end(outcome: Outcome, folder: Path) -> Result:
    """Returns what the command of a run prints at its end; as data, what `show` prints."""
    from evolve.report.ending import describe_end, exit_code

    lines = describe_end(outcome, folder)
    return Result(lines, lambda: show(str(folder)).data, exit_code(outcome))


@contextmanager
def opened_run(run: str) -> Iterator[tuple[Store, RunState]]:
    """Opens a run to read it, and yields it with what it has reached.

    Raises:
        UsageError: There is no such run.
    """
    from evolve.population.snapshot import load_state
    from evolve.run.folder import find_run, load_run
    from evolve.store import Store

    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        yield store, load_state(store, problem, settings.search)
