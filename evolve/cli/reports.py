"""Runs on a page, side by side, and in a browser: `report`, `compare`, `view`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from evolve.cli.command import Result, command
from evolve.cli.options import RUNS, Run, argument, option, switch
from evolve.display import TextTable, say
from evolve.errors import UsageError
from evolve.problem import COOPERATIVE
from evolve.report.contents import write_report
from evolve.report.figures import draw_comparison, standalone
from evolve.runs.run_folder import find_run, load_run, write_text
from evolve.search.curves import RunGroup, Trace, trace_run
from evolve.search.curves import compare as group_runs
from evolve.store import Store

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
            *(part for axis in groups[0].curves for part in (_tabulate(groups, axis), "")),
            *([COOPERATIVE] if any(trace.cooperative for trace in traces) else []),
        ],
        [_describe(group) for group in groups],
    )


def _trace(run: str) -> Trace:
    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        return trace_run(store, problem, settings)


def _tabulate(groups: list[RunGroup], axis: str) -> TextTable:
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


def _describe(group: RunGroup) -> dict[str, Any]:
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
