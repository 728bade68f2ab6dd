"""Runs on a page, and side by side: `report`, `compare`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from evolve.cli.command import Result, command
from evolve.cli.options import RUNS, Run
from evolve.display import TextTable
from evolve.errors import UsageError
from evolve.population.curves import RunGroup, Trace, trace_run
from evolve.population.curves import compare as group_runs
from evolve.problem import COOPERATIVE
from evolve.report.comparison import draw_comparison, format_csv
from evolve.report.figures import standalone
from evolve.report.render import write_report
from evolve.runs.run_folder import find_run, load_run, write_text
from evolve.store import Store

_ROWS = 8


@command(
    "Look",
    examples=(
        "evolve report latest",
        "evolve report latest --figures figures",
    ),
)
def report(
    run: Run,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write, .html or .md; by default report.html in the run folder.",
            metavar="FILE",
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Write each figure here, too, as SVG and PNG.", metavar="DIR"),
    ] = None,
) -> Result:
    """Write a report of a run as one page, also of a run in progress."""
    path = write_report(find_run(run, RUNS), output, figures)
    return Result(str(path), {"report": str(path)})


@command(
    "Look",
    examples=("evolve compare first second --output curve.svg",),
)
def compare(
    runs: Annotated[list[str], typer.Argument(help="Run folders or names.", metavar="RUN...")],
    *,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the curves here, as .svg or .csv.", metavar="FILE"),
    ] = None,
) -> Result:
    """Compare runs of a problem: medians over seeds against what was spent."""
    forms = {".svg": lambda found: standalone(draw_comparison(found)), ".csv": format_csv}
    if output is not None and output.suffix not in forms:
        raise UsageError(
            f"--output: expected a file that ends in .svg or .csv, got {str(output)!r}"
        )
    traces = [_trace(run) for run in dict.fromkeys(runs)]
    groups = group_runs(traces)
    if output is not None:
        write_text(output, forms[output.suffix](groups))
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
