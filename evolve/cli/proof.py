"""Commands that put a run to the proof, or hand it on: `replay`, `verify`, `audit`, `export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

from evolve.cli.app import Result, command
from evolve.cli.options import RUNS, Changes, OutputFolder, Run, Trust, option, switch
from evolve.display import Part, say
from evolve.errors import ExitCode, UsageError
from evolve.problem import COOPERATIVE, Purpose
from evolve.records import Evaluation, Program
from evolve.report.audit import audit_run
from evolve.report.history import RunHistory
from evolve.report.overview import describe_gain
from evolve.runs.derived import export_run
from evolve.runs.opening import open_run
from evolve.runs.proving import Check, Replay, verify_run
from evolve.runs.run_folder import find_run, load_run
from evolve.runs.wiring import evaluating
from evolve.store import Store

_CERTIFICATE = "certificate.json"


@command("Prove", "evolve replay latest")
def replay(run: Run) -> Result:
    """Run again from recorded replies and evaluations, and compare.

    Exit code 5 means that something came out differently.
    """
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
    data = {"first": first, "last": number, "differences": differences}
    if differences:
        shown = [f"different: from generation {number} on"]
        return Result(shown, data, ExitCode.DIFFERENT)
    shown = []
    if first <= number:
        shown.append(f"equal: generations {first} to {number}, every attempt and every archive")
    if first:
        last = min(first - 1, number)
        shown.append(
            f"generations 0 to {last} are taken as recorded: forked, pruned or scored again"
        )
    return Result(shown, data)


@command("Prove", "evolve audit latest", settings=("allow_weak_sandbox",))
def audit(
    run: Run,
    *,
    evaluate: Annotated[bool, switch("Evaluate jumps on the hold-out now.", "--evaluate")] = False,
    trust: Trust = False,
    changes: Changes,
) -> Result:
    """List what deserves a second look before the champion is believed."""
    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    if evaluate and Purpose.HOLDOUT not in problem.functions:
        raise UsageError(f"--evaluate: {folder}: the problem has no `holdout` function")
    hold_out: AbstractContextManager[Callable[[Program], Evaluation] | None] = nullcontext()
    if evaluate:
        hold_out = _holding_out(folder, changes, trusts=trust)
    with closing(Store.open_to_read(folder)) as store, hold_out as score:
        history = RunHistory(problem, settings)
        history.advance(store)
        if not history.rows:
            raise UsageError(f"{folder}: the run has no checkpoint yet")
        found = audit_run(store, problem, history.state, history.rows, score)
    checks, findings, shares = found.tables()
    nothing = "nothing found; that proves nothing: `evolve verify`, and a look at the champion"
    shown: list[Part] = [checks, "", *([findings] if found.findings else [nothing]), "", shares]
    return Result(shown, found.as_dict())


@contextmanager
def _holding_out(
    folder: Path, changes: Changes, *, trusts: bool
) -> Iterator[Callable[[Program], Evaluation]]:
    """Yields what evaluates a program of a run on the hold-out."""
    trusted = open_run(folder, changes.apply, trusts=trusts)
    with (
        closing(Store.open_to_read(folder)) as store,
        evaluating(trusted.problem, trusted.settings, known=store.asks()) as evaluators,
    ):
        yield partial(evaluators.evaluate, purpose=Purpose.HOLDOUT)


@command("Prove", "evolve verify latest", settings=("allow_weak_sandbox",))
def verify(
    run: Run,
    *,
    repeats: Annotated[int, option("Evaluations of each program.", "N", least=1)] = 1,
    tolerance: Annotated[
        float | None,
        option(
            "How far an objective may be from the recorded one; by default the problem's `noise`.",
            "X",
            least=0,
        ),
    ] = None,
    trust: Trust = False,
    output: Annotated[
        Path | None, option("The certificate; by default in the run.", "FILE")
    ] = None,
    changes: Changes,
) -> Result:
    """Evaluate champion and elites again, and write a certificate.

    Exit code 5 means that a verdict came out differently.
    """
    found = open_run(find_run(run, RUNS), changes.apply, trusts=trust)
    path = output or found.folder / _CERTIFICATE
    certificate = verify_run(
        found, repeats=repeats, tolerance=tolerance, output=path, on_check=_say_difference
    )
    elites, champion = certificate["elites"], certificate["champion"]
    verdict = certificate["verdict"]
    objective = champion["again"][0]["objective"]
    shown = [
        f"champion: {champion['program']}, {objective!r}",
        *(
            [f"gain: {describe_gain(objective, certificate['start'], certificate['noise'])}"]
            if objective is not None
            else []
        ),
        *([COOPERATIVE] if certificate["cooperative"] else []),
        (
            f"{verdict}: {elites['agree']} of {elites['checked']} programs have their recorded "
            f"verdict; largest noise {elites['largest_noise']:g}"
        ),
        f"certificate: {path}",
    ]
    return Result(shown, certificate, ExitCode.OK if verdict == "agrees" else ExitCode.DIFFERENT)


def _say_difference(check: Check) -> None:
    if not check.agrees:
        again = ", ".join(str(item.objective) for item in check.again)
        recorded = f"recorded {check.attempt.objective!r}, now {again}"
        say(f"differs: attempt {check.attempt.key}: {recorded}")


@command("Prove", "evolve export latest --output exported")
def export(run: Run, *, output: OutputFolder) -> Result:
    """Write a run as JSON Lines, its curve as CSV, its champions."""
    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        written = [str(path) for path in export_run(store, problem, settings, output)]
    return Result(written, {"written": written})
