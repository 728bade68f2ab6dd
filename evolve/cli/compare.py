"""`evolve compare`: runs side by side."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from evolve.cli.options import RUNS, AsJson
from evolve.display import say, say_json
from evolve.errors import UsageError


def compare(
    runs: Annotated[list[str], typer.Argument(help="Run folders or names.", metavar="RUN...")],
    *,
    against: Annotated[
        str,
        typer.Option(
            help="Axis of the plot: evaluations, calls, money or seconds.", metavar="AXIS"
        ),
    ] = "evaluations",
    output: Annotated[
        Path | None,
        typer.Option(help="Write the curves here, as .svg or .csv.", metavar="FILE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs of a problem: medians over seeds against what was spent."""
    from evolve.population.comparison import AXES
    from evolve.population.comparison import compare as group_runs
    from evolve.report import contrast
    from evolve.run.folder import write_text

    if against not in AXES:
        raise UsageError(f"--against: expected one of {', '.join(AXES)}, got {against!r}")
    if output is not None and output.suffix not in {".svg", ".csv"}:
        raise UsageError(
            f"--output: expected a file that ends in .svg or .csv, got {str(output)!r}"
        )
    groups = group_runs([_trace(run) for run in dict.fromkeys(runs)])
    if output is not None:
        make = contrast.draw_picture if output.suffix == ".svg" else contrast.format_csv
        write_text(output, make(groups))
    if as_json:
        say_json([_describe(group) for group in groups])
        return
    axes = contrast.list_axes(groups)
    if against not in axes:
        raise UsageError(f"--against: nothing was spent on {against}; there is {', '.join(axes)}")
    for axis in axes:
        say(contrast.format_table(groups, axis) + "\n")
    say(contrast.draw_text(groups, against))


def _trace(run: str) -> Any:
    from evolve.population.comparison import trace_run
    from evolve.run.folder import find_run, load_run
    from evolve.store import Store

    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        return trace_run(store, problem, settings)


def _describe(group: Any) -> dict[str, Any]:
    return {
        "group": group.name,
        "runs": [trace.run for trace in group.traces],
        "final": [float(trace.best[-1]) for trace in group.traces],
        "curves": {
            axis: {
                name: getattr(curve, name).tolist() for name in ("counts", "median", "low", "high")
            }
            for axis, curve in group.curves.items()
        },
    }
