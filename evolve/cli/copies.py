"""Commands that make files of runs, or change them: `fork`, `export`, `prune`, `repair`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from evolve.cli.options import RUNS, ApiBase, Assignments, Model, Run, Trust
from evolve.display import say

Output = Annotated[Path, typer.Option(help="A new or empty folder.", metavar="DIR")]


def fork(
    run: Run,
    *,
    generation: Annotated[
        int | None, typer.Option(help="Last generation to take; by default all.", metavar="N")
    ] = None,
    model: Model = None,
    api_base: ApiBase = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Run folder; by default a new one in ./runs.", metavar="DIR")
    ] = None,
    assignments: Assignments = None,
    trust: Trust = False,
) -> None:
    """Make a new run of what another one had reached, to go on with other settings."""
    from evolve.run.folder import find_run, load_run
    from evolve.run.fork import fork_run
    from evolve.run.trust import expect_trust, find_addresses, read_mark, write_mark
    from evolve.run.wiring import complete_settings
    from evolve.settings import Settings, change_settings, parse_assignment

    source = find_run(run, RUNS)
    problem, settings = load_run(source)
    islands = settings.search.islands
    chosen = dict(parse_assignment(text) for text in assignments or [])
    options = {"models.model": model, "models.api_base": api_base}
    chosen |= {key: value for key, value in options.items() if value is not None}
    named = read_mark(source, settings)
    if trust:
        named = expect_trust(source, problem, settings, trusts=True)
    settings = complete_settings(change_settings(settings, chosen, where="--set"))
    folder, last = fork_run(
        source,
        problem,
        settings,
        generation=generation,
        islands=islands,
        folder=run_dir,
        parent=RUNS,
    )
    if named is not None:
        new = find_addresses(change_settings(Settings(), chosen, where="--set"))
        write_mark(folder, load_run(folder)[1], [*named, *new])
    say(f"run: {folder}: generations 0 to {last} of {source}")
    say(f"prompts may be changed in {folder / 'problem' / 'prompts'}")
    say(f"to go on: evolve resume {quote(str(folder))}")


def export(run: Run, *, output: Output) -> None:
    """Write everything in a run as JSON Lines, its curve as CSV, its champions as folders."""
    from evolve.run.export import export_run
    from evolve.run.folder import find_run, load_run
    from evolve.store import Store

    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        for path in export_run(store, problem, settings, output):
            say(str(path))


def prune(
    run: Run,
    *,
    older_than: Annotated[
        int, typer.Option(help="Keep all of the last N generations.", metavar="N", min=0)
    ] = 0,
    larger_than: Annotated[
        int, typer.Option(help="Keep artifacts smaller than this.", metavar="BYTES", min=0)
    ] = 0,
) -> None:
    """Drop artifacts and rejected sources that no prompt will show; the run can be resumed."""
    from evolve.run.folder import find_run, load_run
    from evolve.run.fork import prune_run

    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    dropped = prune_run(folder, problem, settings, age=older_than, fewest_bytes=larger_than)
    say(
        f"dropped the artifacts of {dropped.artifacts} evaluations and the sources of "
        f"{dropped.sources} rejected programs: {dropped.bytes} bytes"
    )


def repair(run: Run, *, output: Output) -> None:
    """Save what can be read of a damaged run, up to its last whole generation, as a new run."""
    from evolve.run.folder import find_run, load_run
    from evolve.run.fork import repair_run
    from evolve.run.trust import read_mark, write_mark

    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    named = read_mark(folder, settings)
    saved = repair_run(folder, problem, settings, output)
    if named is not None:
        write_mark(output, load_run(output)[1], named)
    for finding in saved.findings:
        say(f"damage: {finding}")
    say(f"run: {output}: generations 0 to {saved.generation} of {folder}")
    if saved.calls or saved.evaluations:
        say(
            f"left out: {saved.calls} calls and {saved.evaluations} evaluations of later "
            "generations; to go on pays for those again"
        )
    for what in saved.lost:
        say(f"left out: {what}, which cannot be read")
    say(f"to go on: evolve resume {quote(str(output))}")
