"""Commands that do a run's work again: `replay` and `verify`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from evolve.cli.options import RUNS, AllowWeak, Run, Trust
from evolve.display import say
from evolve.errors import ExitCode

CERTIFICATE = "certificate.json"


def replay(run: Run) -> None:
    """Run again from recorded replies and evaluations, and compare every generation.

    Exit code 5 tells that something came out differently.
    """
    from evolve.run.folder import find_run, load_run
    from evolve.run.replay import Replay
    from evolve.store import Store

    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    differences: list[str] = []
    number = 0
    with closing(Store.open_to_read(folder)) as store:
        again = Replay(store, problem, settings)
        first = again.first
        for number, differences in again.compare():
            for line in differences:
                say(f"generation {number}: {line}")
    if differences:
        say(f"different: from generation {number} on")
        raise typer.Exit(ExitCode.DIFFERENT)
    if first > number:
        say(f"generations 0 to {number} are taken as recorded: forked or pruned")
        return
    say(f"equal: generations {first} to {number}, every attempt and every archive")
    if first:
        say(f"generations 0 to {first - 1} are taken as recorded: forked or pruned")


def verify(
    run: Run,
    *,
    repeats: Annotated[
        int, typer.Option(help="Evaluations of each program.", metavar="N", min=1)
    ] = 1,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="How far an objective may be from the recorded one; by default the problem's "
            "`noise`.",
            metavar="X",
            min=0,
        ),
    ] = None,
    allow_weak_sandbox: AllowWeak = False,
    trust: Trust = False,
    output: Annotated[
        Path | None, typer.Option(help="The certificate; by default in the run.", metavar="FILE")
    ] = None,
) -> None:
    """Evaluate the champion and all elites again, and write a certificate.

    Exit code 5 tells that a verdict came out differently.
    """
    from evolve.run.folder import find_run
    from evolve.run.opening import open_run
    from evolve.run.verify import Check, verify_run

    def tell(check: Check) -> None:
        if not check.agrees:
            again = ", ".join(str(item.objective) for item in check.again)
            recorded = check.attempt.objective
            say(f"differs: attempt {check.attempt.key}: recorded {recorded!r}, now {again}")

    changes = {"sandbox.allow_weak": allow_weak_sandbox}
    found = open_run(find_run(run, RUNS), changes, trusts=trust)
    path = output or found.folder / CERTIFICATE
    certificate = verify_run(
        found, repeats=repeats, tolerance=tolerance, output=path, on_check=tell
    )
    elites, champion = certificate["elites"], certificate["champion"]
    say(f"champion: {champion['program']}, {champion['again'][0]['objective']!r}")
    say(
        f"{certificate['verdict']}: {elites['agree']} of {elites['checked']} programs; "
        f"largest noise {elites['largest_noise']:g}"
    )
    say(f"certificate: {path}")
    if certificate["verdict"] != "agrees":
        raise typer.Exit(ExitCode.DIFFERENT)
