"""Commands that do a run's work again: `replay` and `verify`."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from evolve.cli.options import RUNS, AllowWeak, Run, Trust
from evolve.display import say
from evolve.errors import ExitCode, UsageError

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
    from evolve.population.snapshot import load_standing
    from evolve.run.folder import expect_writable, find_run, trust_programs
    from evolve.run.trust import load_trusted
    from evolve.run.verify import Check, certify, verify_run, write_certificate
    from evolve.store import Store

    # Nothing agrees within NaN, and everything within infinity.
    if tolerance is not None and not math.isfinite(tolerance):
        raise UsageError(f"--tolerance: expected a finite number, got {tolerance}")
    folder = find_run(run, RUNS)
    problem, settings = load_trusted(folder, trusts=trust)
    settings = trust_programs(settings, trusts=allow_weak_sandbox)
    allowed = problem.noise if tolerance is None else tolerance
    path = expect_writable(output or folder / CERTIFICATE)

    def tell(check: Check) -> None:
        if not check.agrees:
            again = ", ".join(str(item.objective) for item in check.again)
            say(
                f"differs: attempt {check.attempt.key}: recorded {check.attempt.objective!r}, "
                f"now {again}"
            )

    with closing(Store.open_to_read(folder)) as store:
        standing = load_standing(store, problem, settings.search)
        checks, isolation = verify_run(
            store, standing, problem, settings, repeats=repeats, tolerance=allowed, tell=tell
        )
    certificate = certify(folder, checks, isolation, tolerance=allowed)
    write_certificate(path, certificate)
    elites = certificate["elites"]
    champion = f"champion: {checks[0].attempt.program_or_fail.id}, {checks[0].again[0].objective!r}"
    say(champion)
    say(
        f"{certificate['verdict']}: {elites['agree']} of {elites['checked']} programs; "
        f"largest noise {elites['largest_noise']:g}"
    )
    say(f"certificate: {path}")
    if certificate["verdict"] != "agrees":
        raise typer.Exit(ExitCode.DIFFERENT)
