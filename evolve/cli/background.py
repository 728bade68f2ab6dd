"""What people do with a run while it continues, or make of it.

These are `--detach`, `attach` and `stop`; `hint`, `inject` and `pin`; `fork`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

from evolve.cli.app import Result, command
from evolve.cli.inspect import opened_run
from evolve.cli.options import RUNS, Changes, Plain, Run, RunDir, Trust, argument, option, switch
from evolve.cli.programs import show_end
from evolve.display import TextTable, one_line, say_error
from evolve.errors import ExitCode, StoreError, UsageError
from evolve.files import open_plain, writing
from evolve.records.plain import to_plain
from evolve.records.results import Steer, SteerKind
from evolve.report.history import find_attempt
from evolve.report.live import StandardOutput, follow_run
from evolve.report.phrases import exit_code_of, show_date
from evolve.runs.derived import fork_run
from evolve.runs.given import drop_asked, hint_run, inject_program, list_asked, pin_attempt
from evolve.runs.opening import interruptible, signal_run
from evolve.runs.run_folder import find_run, load_run
from evolve.store import Store, find_holder, is_locked

_LOG = "output.log"
_POLL_SECONDS = 0.1
_REPORT_SECONDS = 10.0


def start_detached(folder: Path, arguments: Sequence[str]) -> Result:
    """Starts a run in a session of its own and waits until it is under way.

    What stops a run before its first checkpoint (a wrong key, a starting program that fails) is
    shown here, with its exit code.

    Args:
        folder: The run's folder.
        arguments: Of the command that runs.
    """
    log = folder / _LOG
    with writing(log):
        descriptor = open_plain(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with os.fdopen(descriptor, "ab") as output:
        start = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "evolve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while process.poll() is None and not _is_under_way(folder, process.pid):
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
    if process.poll() is not None:
        text = log.read_bytes()[start:].decode(errors="replace").rstrip()
        if _read_start(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
        return Result(text, {"output": text}, ExitCode(process.returncode))
    name = quote(str(folder))
    shown = [
        f"detached: process {process.pid} runs in the background; output: {log}",
        f"to watch it: evolve attach {name}\nto stop it: evolve stop {name}",
    ]
    return Result(shown, {"run": str(folder), "process": process.pid, "output": str(log)})


@command("Run", "evolve attach latest")
def attach(run: Run, *, plain: Plain = False) -> Result:
    """Show a background run until it ends.

    The exit code is that of the run. Ctrl-C leaves the run alone.
    """
    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    name, holder = quote(str(folder)), find_holder(folder)
    try:
        with interruptible():
            outcome = follow_run(folder, problem, settings, StandardOutput(is_plain=plain))
    except KeyboardInterrupt:
        shown = f"\nthe run continues; to stop it: evolve stop {name}"
        return Result(shown, {"run": str(folder), "status": "running"}, ExitCode.INTERRUPTED)
    _wait_for_report(holder)
    because = outcome.stopped_because
    if not because or ":" in because:
        what = f"error: {because}" if because else "killed: its process is gone"
        say_error(f"{what}\nto continue: evolve resume {name}")
        data = {"run": str(folder), "stopped_because": because or "killed"}
        return Result([], data, exit_code_of(because))
    return show_end(outcome, folder)


@command("Run", "evolve stop latest")
def stop(
    run: Run,
    *,
    timeout: Annotated[float, option("How long to wait for its end.", "SECONDS", least=0)] = 60.0,
    force: Annotated[bool, switch("Kill it; it can be resumed.", "--force")] = False,
) -> Result:
    """Stop a background run gracefully and wait for it.

    Work in progress gets a grace period. Exit code 4 means that the run did not stop in time.
    """
    folder = find_run(run, RUNS)
    holder = signal_run(folder, signal.SIGKILL if force else signal.SIGTERM)
    if holder is None:
        return Result(f"{folder}: the run is not running", {"run": str(folder), "stopped": False})
    name = quote(str(folder))
    if not _wait(lambda: find_holder(folder) != holder, timeout):
        say_error(
            f"{folder}: process {holder} has not stopped within {timeout:g} s; wait for it with "
            f"`evolve attach {name}`, or kill it with `evolve stop {name} --force`: the run "
            "can be resumed either way"
        )
        return Result([], {"run": str(folder), "stopped": False}, ExitCode.MACHINE)
    _wait_for_report(holder)
    shown = f"{'killed' if force else 'stopped'}; to continue: evolve resume {name}"
    return Result(shown, {"run": str(folder), "stopped": True})


def _wait_for_report(process: str | None) -> None:
    """Waits for the end of a run's process, which writes its report once the database is closed."""

    def has_ended() -> bool:
        try:
            stat = Path("/proc", process or "", "stat").read_text("utf-8", "replace")
        except OSError:
            return True
        # Nobody may have asked for the exit code of a process that has ended: a zombie.
        return process is None or stat.rpartition(")")[2].split()[0] == "Z"

    _wait(has_ended, _REPORT_SECONDS)


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _is_under_way(folder: Path, pid: int) -> bool:
    if find_holder(folder) != str(pid):
        return False
    facts = _read_start(folder)
    return facts is not None and facts.get("stopped_because", "") is None


def _read_start(folder: Path) -> dict[str, Any] | None:
    """Returns the facts of a run; None before its first checkpoint."""
    # The database may not be complete yet.
    with suppress(StoreError, UsageError), closing(Store.open_to_read(folder)) as store:
        return None if store.last_generation() is None else store.facts()
    return None


Drop = Annotated[
    int | None,
    option("Drop the hint or pin of this number instead.", "N", least=1),
]


@command("Run", 'evolve hint latest "Try simulated annealing."')
def hint(
    run: Run,
    text: Annotated[str | None, argument("What to say; without it, list all.", "TEXT")] = None,
    *,
    drop: Drop = None,
) -> Result:
    """Say something to the models of a run, from its next generation on."""
    folder = find_run(run, RUNS)
    if text is None or drop is not None:
        return _list_or_drop(folder, drop, SteerKind.HINT, text)
    return _show_asked(folder, hint_run(folder, text))


@command("Run", "evolve inject latest better.py")
def inject(
    run: Run,
    path: Annotated[Path, argument("A file, a folder with all files, or a run.", "PATH")],
) -> Result:
    """Let a run evaluate a program of yours in its next generation."""
    folder = find_run(run, RUNS)
    return _show_asked(folder, inject_program(folder, path))


@command("Run", "evolve pin latest 3.1.0")
def pin(
    run: Run,
    program: Annotated[
        str | None, argument("Program id or attempt; without it, list all.", "ID")
    ] = None,
    *,
    drop: Drop = None,
) -> Result:
    """Let every further generation of a run work on a program, too."""
    folder = find_run(run, RUNS)
    if program is None or drop is not None:
        return _list_or_drop(folder, drop, SteerKind.PIN, program)
    with opened_run(run) as (store, state):
        attempt = find_attempt(store, state, program)
    return _show_asked(folder, pin_attempt(folder, attempt))


def _show_asked(folder: Path, steer: Steer) -> Result:
    """Says what was recorded, and when it will be followed."""
    shown = f"{steer.number}: {steer.describe()}; the next generation follows it"
    if not is_locked(folder):
        shown += f"\nthe run is not running: evolve resume {quote(str(folder))}"
    return Result(shown, to_plain(steer))


def _list_or_drop(folder: Path, drop: int | None, kind: SteerKind, other: str | None) -> Result:
    """Lists all that was asked, and since when it is followed; or takes something back."""
    if drop is not None:
        if other is not None:
            raise UsageError(f"--drop: expected nothing with it, got {other!r:.100}")
        return _show_asked(folder, drop_asked(folder, drop, kind))
    asked = list_asked(folder)
    rows = [
        (one.number, show_date(one.time), one.generation, one_line(one.describe())) for one in asked
    ]
    table = TextTable(("", "asked", "generation", "what"), rows)
    return Result(table if rows else "nothing was asked of this run", to_plain(asked))


@command(
    "Run",
    "evolve fork latest --generation 10 --set search.islands=4",
    settings=("model", "api_base", "set"),
)
def fork(
    run: Run,
    *,
    generation: Annotated[
        int | None, option("Last generation to take; by default all.", "N")
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
