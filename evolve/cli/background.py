"""Runs in the background: `--detach`, `attach`, `stop`."""

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
from typing import Annotated

import typer

from evolve.cli.command import Result, command
from evolve.cli.options import RUNS, Plain, Run
from evolve.cli.programs import show_end
from evolve.display import say_error
from evolve.errors import ExitCode, StoreError, UsageError
from evolve.files import open_plain, writing
from evolve.report.ending import exit_code_of
from evolve.report.live import StandardOutput, follow_run
from evolve.runs.interrupts import interruptible, signal_run
from evolve.runs.run_folder import find_run, load_run
from evolve.store import Store, find_holder

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
        if not _has_checkpoint(folder):
            shutil.rmtree(folder, ignore_errors=True)
        return Result(text, {"output": text}, ExitCode(process.returncode))
    name = quote(str(folder))
    shown = [
        f"detached: process {process.pid} runs in the background; output: {log}",
        f"to watch it: evolve attach {name}\nto stop it: evolve stop {name}",
    ]
    return Result(shown, {"run": str(folder), "process": process.pid, "output": str(log)})


@command(
    "Run",
    examples=("evolve attach latest",),
)
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


@command(
    "Run",
    examples=("evolve stop latest",),
)
def stop(
    run: Run,
    *,
    timeout: Annotated[
        float, typer.Option(help="How long to wait for its end.", metavar="SECONDS", min=0)
    ] = 60.0,
    force: Annotated[bool, typer.Option("--force", help="Kill it; it can be resumed.")] = False,
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
    # The database may not be complete yet.
    with suppress(StoreError, UsageError), closing(Store.open_to_read(folder)) as store:
        is_ready = store.facts().get("stopped_because", "") is None
        return is_ready and store.last_generation() is not None
    return False


def _has_checkpoint(folder: Path) -> bool:
    with suppress(StoreError, UsageError), closing(Store.open_to_read(folder)) as store:
        return store.last_generation() is not None
    return False
