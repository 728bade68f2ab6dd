"""Runs without a terminal: `--detach`, `evolve attach`, `evolve stop`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from evolve.cli.options import RUNS, Run
from evolve.display import say
from evolve.errors import ExitCode, StoreError, UsageError
from evolve.files import open_plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OUTPUT = "output.log"
_POLL_SECONDS = 0.1


def start_detached(folder: Path, arguments: Sequence[str]) -> NoReturn:
    """Starts a run in a session of its own, waits until it is under way, and exits.

    What stops a run before its first checkpoint (a wrong key, a starting program that fails) is
    told here, with its exit code.

    Args:
        folder: The run's folder.
        arguments: Of the command that runs.
    """
    log = folder / OUTPUT
    try:
        descriptor = open_plain(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    except OSError as error:
        raise StoreError(f"{log}: cannot be written: {error.strerror or error}") from error
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
        say(log.read_bytes()[start:].decode(errors="replace").rstrip())
        if not _has_checkpoint(folder):
            shutil.rmtree(folder, ignore_errors=True)
        raise typer.Exit(process.returncode)
    say(f"detached: process {process.pid} goes on without this terminal; output: {log}")
    name = quote(str(folder))
    say(f"to watch it: evolve attach {name}\nto stop it: evolve stop {name}")
    raise typer.Exit(ExitCode.OK)


def attach(run: Run) -> None:
    """Show a run that goes on elsewhere, until it ends.

    The exit code is that of the run. Ctrl-C leaves the run alone.
    """
    from evolve.cli.ending import describe, exit_code, exit_code_of
    from evolve.cli.view import Output
    from evolve.report.follow import follow_run
    from evolve.run.folder import find_run, load_run
    from evolve.run.interrupts import interruptible

    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    try:
        with interruptible():
            outcome = follow_run(folder, problem, settings, Output())
    except KeyboardInterrupt:
        say(f"\nthe run goes on; to stop it: evolve stop {quote(str(folder))}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    because = outcome.stopped_because
    if not because or ":" in because:
        what = f"error: {because}" if because else "killed: its process is gone"
        say(f"{what}\nto go on: evolve resume {quote(str(folder))}", err=True)
        raise typer.Exit(exit_code_of(because))
    say(describe(outcome, folder))
    raise typer.Exit(exit_code(outcome))


def stop(
    run: Run,
    *,
    timeout: Annotated[
        float, typer.Option(help="How long to wait for its end.", metavar="SECONDS", min=0)
    ] = 60.0,
    force: Annotated[bool, typer.Option("--force", help="Kill it; it can be resumed.")] = False,
) -> None:
    """Ask a run that goes on elsewhere to stop in order, and wait until it has.

    Running work is given a grace time. Exit code 4 tells that it did not stop in time.
    """
    from evolve.run.folder import find_run
    from evolve.store import find_holder

    folder = find_run(run, RUNS)
    holder = find_holder(folder)
    if holder is None:
        say(f"{folder}: the run is not running")
        return
    _signal(folder, holder, signal.SIGKILL if force else signal.SIGTERM)
    name = quote(str(folder))
    if not _wait(lambda: find_holder(folder) != holder, timeout):
        say(
            f"{folder}: process {holder} has not stopped within {timeout:g} s; wait for it with "
            f"`evolve attach {name}`, or kill it with `evolve stop {name} --force`: the run "
            "can be resumed all the same",
            err=True,
        )
        raise typer.Exit(ExitCode.MACHINE)
    say(f"{'killed' if force else 'stopped'}; to go on: evolve resume {name}")


def _signal(folder: Path, holder: str, number: int) -> None:
    try:
        # Below 2 stand groups of processes, all of them, and the first one.
        if not (holder.isascii() and holder.isdecimal()) or int(holder) < 2:
            raise ValueError(holder)
        os.kill(int(holder), number)
    except (ValueError, ProcessLookupError) as error:
        raise UsageError(
            f"{folder}: process {holder} is not to be seen from here; stop the run on the machine "
            "or in the container that it runs in"
        ) from error
    except PermissionError as error:
        raise UsageError(f"{folder}: process {holder} belongs to another user") from error


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _is_under_way(folder: Path, pid: int) -> bool:
    from evolve.store import Store, find_holder

    if find_holder(folder) != str(pid):
        return False
    # The database may be in the making.
    with suppress(StoreError, UsageError), closing(Store.open_to_read(folder)) as store:
        is_ready = store.facts().get("stopped_because", "") is None
        return is_ready and store.last_generation() is not None
    return False


def _has_checkpoint(folder: Path) -> bool:
    from evolve.store import Store

    with suppress(StoreError, UsageError), closing(Store.open_to_read(folder)) as store:
        return store.last_generation() is not None
    return False
