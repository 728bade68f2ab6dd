"""Commands that make files of runs, or change them: `fork`, `export`, `prune`, `repair`."""

from __future__ import annotations

from contextlib import closing
from shlex import quote
from typing import Annotated

import typer

from evolve.cli.command import Result, command
from evolve.cli.options import RUNS, Changes, OutputFolder, Run, RunDir, Trust
from evolve.runs.derived import export_run, fork_run, prune_run, repair_run
from evolve.runs.run_folder import find_run, load_run
from evolve.store import Store


@command(
    "Run",
    settings=("model", "api_base", "set"),
    examples=("evolve fork latest --generation 10 --set search.islands=4",),
)
def fork(
    run: Run,
    *,
    generation: Annotated[
        int | None, typer.Option(help="Last generation to take; by default all.", metavar="N")
    ] = None,
    run_dir: RunDir = None,
    trust: Trust = False,
    changes: Changes,
) -> Result:
    """Make a new run from a generation of another, with other settings."""
    source = find_run(run, RUNS)
    folder, last = fork_run(
        source, changes.apply, generation=generation, folder=run_dir, parent=RUNS, trusts=trust
    )
    shown = [
        f"run: {folder}: generations 0 to {last} of {source}",
        f"prompts may be changed in {folder / 'problem' / 'prompts'}",
        f"to continue: evolve resume {quote(str(folder))}",
    ]
    return Result(shown, {"run": str(folder), "source": str(source), "generation": last})


@command(
    "Prove",
    examples=("evolve export latest --output exported",),
)
def export(run: Run, *, output: OutputFolder) -> Result:
    """Write a run as JSON Lines, its curve as CSV, its champions."""
    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        written = [str(path) for path in export_run(store, problem, settings, output)]
    return Result(written, {"written": written})


@command("Machine")
def prune(
    run: Run,
    *,
    older_than: Annotated[
        int, typer.Option(help="Keep all of the last N generations.", metavar="N", min=0)
    ] = 0,
    larger_than: Annotated[
        int, typer.Option(help="Keep artifacts smaller than this.", metavar="BYTES", min=0)
    ] = 0,
) -> Result:
    """Drop what no prompt will show from a run; it can be resumed."""
    dropped = prune_run(find_run(run, RUNS), age=older_than, fewest_bytes=larger_than)
    return Result(
        f"dropped the artifacts of {dropped.artifacts} evaluations and the sources of "
        f"{dropped.sources} rejected programs: {dropped.bytes} bytes",
        dropped._asdict(),
    )


@command(
    "Machine",
    examples=("evolve repair broken --output repaired",),
)
def repair(run: Run, *, output: OutputFolder) -> Result:
    """Recover a damaged run, up to its last whole generation, as a new one."""
    folder = find_run(run, RUNS)
    saved = repair_run(folder, output)
    left_out = [f"left out: {what}, which cannot be read" for what in saved.lost]
    if saved.calls or saved.evaluations:
        left_out.insert(
            0,
            f"left out: {saved.calls} calls and {saved.evaluations} evaluations of later "
            "generations; a resumed run makes them again",
        )
    shown = [
        *(f"damage: {finding}" for finding in saved.findings),
        f"run: {output}: generations 0 to {saved.generation} of {folder}",
        *left_out,
        f"to continue: evolve resume {quote(str(output))}",
    ]
    return Result(shown, {"run": str(output), **saved._asdict()})
