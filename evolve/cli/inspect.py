"""Commands that look at whole runs: `ls`, `archive`, `report`, `compare`, `view`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from evolve.cli.app import Result, command
from evolve.cli.options import RUNS, Run, argument, option, switch
from evolve.display import Heading, Part, Styled, TextTable, say, show_number
from evolve.errors import EvolveError, UsageError
from evolve.problem import COOPERATIVE
from evolve.report.contents import write_report
from evolve.report.figures import (
    draw_comparison,
    find_levels,
    map_objectives,
    show_map,
    standalone,
)
from evolve.report.overview import describe_elites, describe_run
from evolve.report.phrases import RUN_COLUMNS, list_cells
from evolve.runs.run_folder import find_run, list_runs, load_run, write_text
from evolve.search.curves import RunGroup, Trace, trace_run
from evolve.search.curves import compare as group_runs
from evolve.search.population import Population, load_population
from evolve.store import Store

# By what runs can be sorted, and where it is in their description.
_SORTS = {
    "date": "started",
    "run": "run",
    "problem": "problem",
    "champion": "champion",
    "cost": "cost_usd",
    "time": "seconds",
}


@command("Look")
def ls(
    *,
    sort: Annotated[str, option(f"{', '.join(_SORTS)}.", "BY")] = "date",
) -> Result:
    """List the runs in ./runs."""
    if sort not in _SORTS:
        raise UsageError(f"--sort: expected one of {', '.join(_SORTS)}, got {sort!r}")
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
    described.sort(key=partial(_rank_run, by=sort))
    rows = []
    for run in described:
        name, problem, started, status, *others = list_cells(run)
        style = {"running": "cyan", "finished": "green", "unreadable": "red"}.get(run["status"], "")
        rows.append([name, problem, started, Styled(status, style), *others])
    return Result(TextTable(RUN_COLUMNS, rows), described)


def _rank_run(run: dict[str, Any], by: str) -> tuple[bool, Any]:
    value = run.get(_SORTS[by])
    if isinstance(value, dict):
        value = value["objective"]
    return value is not None, value


@command("Look", "evolve archive latest --top 5")
def archive(
    run: Run,
    *,
    top: Annotated[int | None, option("Only the N best elites.", "N", least=1)] = None,
    cell: Annotated[int | None, option("Only this cell.", "N", least=0)] = None,
    on: Annotated[
        tuple[str, str] | None,
        option("Draw heat maps on two measures.", "MEASURE MEASURE", "--map"),
    ] = None,
) -> Result:
    """List the elites of a run, or draw its archives."""
    with opened_run(run) as (store, population):
        if on is not None:
            return _draw_archives(population, on)
        elites = describe_elites(store, population, cell=cell)
    if cell is not None and not elites:
        raise UsageError(f"--cell: no elite in cell {cell}; `evolve archive RUN` lists the cells")
    if top is not None:
        sign = population.direction.sign
        elites = sorted(elites, key=lambda elite: -sign * elite["objective"])[:top]
    others, names = (list(elites[0][key]) if elites else [] for key in ("others", "measures"))
    head = ("attempt", "island", "cell", "objective", *others, "gain", *names, "plan")
    rows = [
        [
            elite["attempt"],
            elite["island"],
            elite["cell"],
            show_number(elite["objective"]),
            *map(show_number, elite["others"].values()),
            style_gain(elite["gain"]),
            *(f"{value:.4g}" for value in elite["measures"].values()),
            elite["plan"] or "the starting program",
        ]
        for elite in elites
    ]
    return Result(TextTable(head, rows), elites)


def style_gain(gain: float | None) -> Styled | None:
    """Returns a gain on a parent as a cell of a table."""
    if gain is None:
        return None
    return Styled(f"{gain:+.6g}", "green" if gain > 0 else "red" if gain < 0 else "dim")


def _draw_archives(population: Population, names: tuple[str, str]) -> Result:
    """Returns the heat maps of all islands on two measures."""
    archives = population.islands.archives
    known = [axis.name for axis in archives[0].space.axes]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"--map: expected two of {', '.join(known)}, got {unknown[0]!r}")
    across, up = map(known.index, names)
    maps = [map_objectives(one, across, up) for one in archives]
    shown: list[Part] = []
    for number, levels in enumerate(find_levels(maps, population.direction.sign)):
        best = archives[number].best
        best_text = show_number(None if best is None else best.objective)
        shown += [
            Heading(f"island {number}: {len(archives[number])} elites, best {best_text}"),
            show_map(levels),
        ]
    shown.append(f"{names[0]} across, {names[1]} up; ◆ the best, then █ ▓ ▒ ░; · no elite")
    cells = [
        [[None if math.isnan(value) else value for value in row] for row in one.tolist()]
        for one in maps
    ]
    islands = [{"island": number, "objectives": rows} for number, rows in enumerate(cells)]
    return Result(shown, {"measures": list(names), "islands": islands})


@contextmanager
def opened_run(run: str) -> Iterator[tuple[Store, Population]]:
    """Opens a run to read it, and yields it with what it has reached.

    Raises:
        UsageError: There is no such run.
    """
    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        yield store, load_population(store, problem, settings.search)


# Counts of an axis at which runs are compared.
_ROWS = 8


@command("Look", "evolve report latest", "evolve report latest --figures figures")
def report(
    run: Run,
    output: Annotated[
        Path | None, option("HTML file to write; by default report.html in the run folder.", "FILE")
    ] = None,
    figures: Annotated[
        Path | None, option("Write each figure here, too, as SVG and PNG.", "DIR")
    ] = None,
) -> Result:
    """Write a report of a run as one page, also of a run in progress."""
    path = write_report(find_run(run, RUNS), output, figures)
    return Result(str(path), {"report": str(path)})


@command("Look", "evolve compare first second --output curve.svg")
def compare(
    runs: Annotated[list[str], argument("Run folders or names.", "RUN...")],
    *,
    output: Annotated[Path | None, option("Draw the curves into this SVG file.", "FILE")] = None,
) -> Result:
    """Compare runs of a problem: medians over seeds against what was spent."""
    if output is not None and output.suffix != ".svg":
        raise UsageError(f"--output: expected a file that ends in .svg, got {str(output)!r}")
    traces = [_trace(run) for run in dict.fromkeys(runs)]
    groups = group_runs(traces)
    if output is not None:
        write_text(output, standalone(draw_comparison(groups)))
    return Result(
        [
            *(part for axis in groups[0].curves for part in (_tabulate_curves(groups, axis), "")),
            *([COOPERATIVE] if any(trace.cooperative for trace in traces) else []),
        ],
        [_describe_group(group) for group in groups],
    )


def _trace(run: str) -> Trace:
    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        return trace_run(store, problem, settings)


def _tabulate_curves(groups: list[RunGroup], axis: str) -> TextTable:
    """Returns medians and intervals of every group at a few counts of an axis."""
    counts = groups[0].curves[axis].counts
    rows = []
    for at in (round(step * (len(counts) - 1) / _ROWS) for step in range(_ROWS + 1)):
        cells = [f"{counts[at]:.6g}"]
        for group in groups:
            curve = group.curves[axis]
            interval = f" [{curve.low[at]:.6g}, {curve.high[at]:.6g}]"
            cells.append(f"{curve.median[at]:.8g}{interval if len(group.traces) > 1 else ''}")
        rows.append(cells)
    return TextTable((axis, *(f"{group.name} ({len(group.traces)})" for group in groups)), rows)


def _describe_group(group: RunGroup) -> dict[str, Any]:
    return {
        "group": group.name,
        "runs": [trace.run for trace in group.traces],
        "cooperative": any(trace.cooperative for trace in group.traces),
        "final": [float(trace.best[-1]) for trace in group.traces],
        "curves": {
            axis: {
                name: getattr(curve, name).tolist() for name in ("counts", "median", "low", "high")
            }
            for axis, curve in group.curves.items()
        },
    }


@command("Look", "evolve view")
def view(
    runs: Annotated[
        list[str] | None, argument("Run folders or names; by default all in ./runs.", "[RUN...]")
    ] = None,
    *,
    port: Annotated[int, option("Port to listen on; 0 takes a free one.", "N", least=0)] = 8420,
    host: Annotated[
        str, option("Address to listen on; only this machine by default.", "ADDRESS")
    ] = "127.0.0.1",
    browser: Annotated[bool, switch("Open a browser where there is one.")] = True,
    allow_actions: Annotated[bool, switch("Let the page stop runs.", "--allow-actions")] = False,
) -> Result:
    """Show runs in a browser, live; Ctrl-C ends it."""
    try:
        from evolve.view.server import serve
    except ModuleNotFoundError as error:
        raise UsageError(
            f"`evolve view` needs the package {error.name}: pip install 'evolve[view]'"
        ) from error
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
