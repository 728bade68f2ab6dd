"""A run made in a new folder, or found again; then run until it stops, or is stopped."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Protocol

from evolve.errors import MachineError, ProblemError, UsageError
from evolve.operators.syntax import can_change
from evolve.problem import Problem
from evolve.problem.folder import STARTS
from evolve.runs.run_folder import (
    create_run_folder,
    expect_trust,
    find_addresses,
    load_run,
    naming_originals,
    trust_programs,
    write_mark,
)
from evolve.runs.wiring import open_evaluators, settle_asked
from evolve.runs.world import take_evaluator
from evolve.settings import Settings, find_changes
from evolve.store import find_holder
from evolve.toml import write_value

if TYPE_CHECKING:
    from evolve.evaluation.evaluator import IdleProcess
    from evolve.runs.outcome import Outcome
    from evolve.search.loop import Observer
    from evolve.steps.journal import Journal
    from evolve.store import Store

# Settings on which all generations of a run depend.
_FIXED = ("loop.seed", "search.", "parameters.", "models.replay")


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder, and what it is run with.

    Attributes:
        folder: The folder.
        problem: Its own copy of the problem.
        settings: Complete.
        named: The addresses of models that the user has named; others get no keys.
        original: The problem that a new run was made of; None for a run that was found again.
        rescores: Whether its elites are evaluated again first.
        is_forced: Whether it begins although its budget buys fewer than two generations.
    """

    folder: Path
    problem: Problem
    settings: Settings
    named: tuple[str, ...]
    original: Problem | None = None
    rescores: bool = False
    is_forced: bool = False


class RunView(Protocol):
    """What a run shows people while it continues."""

    def tell(self, line: str) -> None:
        """Shows one line."""

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """Shows that something is waited for while the context is open."""

    def watch(
        self, store: Store, problem: Problem, settings: Settings, journal: Journal
    ) -> AbstractContextManager[Sequence[Observer]]:
        """Returns what sees the events of the run while the context is open."""


def make_run(
    problem: Problem,
    settings: Settings,
    *,
    folder: Path | None,
    parent: Path,
    named: Collection[str],
    starts: Sequence[Path] | None = (),
) -> Run:
    """Makes the folder of a new run, which is its user's.

    Args:
        problem: What is to be solved.
        settings: Complete.
        folder: The folder; a new one in `parent` by default.
        parent: Where run folders are made.
        named: The addresses of models that the user has named.
        starts: Starting programs besides those of the problem; None where a recorded run has all.

    Raises:
        ProblemError: Nothing can change the program without a model, or this machine lacks what
            its evaluations need.
        UsageError: The folder is not empty, a start or a record cannot be used, or evaluations ask
            a model and none is named.
        StoreError: It cannot be written.
    """
    settings = settle_asked(problem, settings)
    if settings.models.replay:
        _expect_same_problem(problem, Path(settings.models.replay))
    if not settings.models.is_configured:
        _expect_changeable(problem)
    # Slow to import, and mostly there are none.
    if starts or (starts is not None and (problem.folder / STARTS).is_dir()):
        from evolve.runs.given import note_starts, read_starts

        given = read_starts(problem, starts)
    else:
        given = []
    # Starts nothing, but refuses what cannot be evaluated while the files are still the user's.
    open_evaluators(problem, settings)
    made = create_run_folder(problem, settings, folder=folder, parent=parent)
    own, frozen = load_run(made)
    write_mark(made, frozen, named)
    if given:
        note_starts(made, given)
    allowed = trust_programs(frozen, trusts=settings.sandbox.allow_weak)
    return Run(made, own, allowed, tuple(named), original=problem)


def _expect_same_problem(problem: Problem, recorded: Path) -> None:
    """Checks that the run whose record is to answer is a run of this problem.

    Raises:
        UsageError: It is one of another, or no run.
    """
    name = load_run(recorded)[0].name
    if name != problem.name:
        raise UsageError(
            f"replay: expected a run of {problem.name}, got {recorded.name}, a run of {name}"
        )


def _expect_changeable(problem: Problem) -> None:
    if not can_change(problem.initial):
        raise ProblemError(
            f"{problem.folder / problem.initial.entry.path}: expected a number or code between the "
            "markers, got none, so that nothing can change the program without a model; take one: "
            "--model NAME"
        )


def open_run(
    folder: Path,
    change: Callable[[Settings], Settings],
    *,
    trusts: bool,
    resumes: bool = False,
    evaluator: Path | None = None,
    rescores: bool = False,
) -> Run:
    """Returns a run that may go on.

    Args:
        folder: The run's folder.
        change: Sets what the user sets from now on.
        trusts: Whether the user allows what the folder of a stranger would do.
        resumes: Whether the run itself is resumed.
        evaluator: One that is taken in the place of the run's own.
        rescores: Whether its elites are evaluated again first.

    Raises:
        UsageError: The folder is no run, or is somebody else's; or the run cannot continue with
            what was changed.
    """
    problem, settings = load_run(folder)
    named = expect_trust(folder, problem, settings, trusts=trusts)
    new, changed = find_addresses(change(Settings())), change(settings)
    if resumes:
        _expect_resumable(folder, settings, changed)
    if evaluator is not None:
        take_evaluator(folder, problem, evaluator)
        problem, settings = load_run(folder)
        write_mark(folder, settings, named)
    everyone = tuple(dict.fromkeys([*named, *new]))
    return Run(folder, problem, changed, everyone, rescores=rescores)


def _expect_resumable(folder: Path, old: Settings, new: Settings) -> None:
    """Checks that no setting was changed on which all generations of a run depend.

    Raises:
        UsageError: One was; the message says how to make a run with it.
    """
    for name, (before, now) in find_changes(old, new).items():
        if not name.startswith(_FIXED):
            continue
        remedy = "begin a new run with it"
        if not name.startswith(("parameters.", "models.")):
            option = quote(f"{name}={write_value(now)}")
            remedy = f"`evolve fork {quote(str(folder))} --set {option}` makes a run with it"
        raise UsageError(
            f"resume: `{name}`: expected {before!r}, as the run began with, got {now!r}; {remedy}"
        )


def run_to_end(
    run: Run, open_view: Callable[[], RunView], idle: IdleProcess | None = None
) -> Outcome:
    """Starts a run, or continues from its last checkpoint, until it stops.

    A new run whose starting program fails, or whose models cannot be used, leaves no folder.

    Args:
        run: The run.
        open_view: Returns what shows what happens, once the evaluators have begun to start.
        idle: An evaluator's process, where one was started already.

    Raises:
        UsageError: The starting program fails, or the run is in use by another process.
        MachineError: A model, the sandbox, the evaluator or the disk failed.
    """
    original = run.original
    names = naming_originals(run.folder, original) if original else nullcontext()
    with names, closing(open_evaluators(run.problem, run.settings)) as evaluators:
        evaluators.start(idle)
        view = open_view()
        evaluators.tell = view.tell
        # Slow to import, as the view is: meanwhile the evaluators get ready.
        from evolve.runs.running import LiveRun

        return LiveRun(run, evaluators, view).run()


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _StopHandler:
    """Handles signals: reports the first where somebody listens, else raises.

    Attributes:
        times: How many came.
    """

    def __init__(self, notify: Callable[[], None] | None = None) -> None:
        self._notify = notify
        self.times = 0

    def __call__(self, number: int, _frame: object) -> None:
        _leave_terminal(number)
        self.times += 1
        if self.times > 1 or self._notify is None:
            raise KeyboardInterrupt
        self._notify()


@contextmanager
def interruptible(notify: Callable[[], None] | None = None) -> Iterator[None]:
    """Lets every signal that asks to stop end what is done here as Ctrl-C does.

    Args:
        notify: Called at the first signal instead; the second ends the command at once.
    """
    # Python handles signals on its main thread alone; in another, somebody else does.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handle = _StopHandler(notify)
    # Under `nohup` a closed terminal is to be ignored. Ctrl-C is heard even where it is
    # ignored, as behind the `&` of a script: `kill -INT` is how such a script asks to stop.
    previous = {
        number: signal.signal(number, handle)
        for number in _SIGNALS
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        before = previous[signal.SIGINT]
        # Python drops what is raised in some places, as in the middle of an import.
        if isinstance(before, _StopHandler) and before.times:
            raise KeyboardInterrupt
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _leave_terminal(number: int) -> None:
    """Discards further output: to write to a closed terminal is an error."""
    if number == signal.SIGHUP:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nowhere, descriptor)
        os.close(nowhere)


_OF_THE_MACHINE = {
    errno.ENOMEM: "free memory",
    errno.EAGAIN: "end other processes",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "close files on this machine",
    errno.ENOSPC: "free the disk",
    errno.EDQUOT: "free the disk",
    errno.EROFS: "make the disk writable",
    errno.EIO: "check the disk",
    errno.EACCES: "correct the permissions",
    errno.EPERM: "correct the permissions",
}


@contextmanager
def failures_of_the_machine(folder: Path) -> Iterator[None]:
    """Turns what only the machine can be the cause of into `MachineError`.

    Args:
        folder: Of the run, which is named in what to do.

    Raises:
        MachineError: No memory, no disk, no process, no file to be had.
    """
    try:
        yield
    except MemoryError as error:
        raise MachineError(_describe_failure(folder, "out of memory", "free memory")) from error
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        what = f"{where}{error.strerror}"
        raise MachineError(_describe_failure(folder, what, _OF_THE_MACHINE[error.errno])) from error
    except RuntimeError as error:
        # There is no other sign of it.
        if "can't start new thread" not in str(error):
            raise
        to_do = "end other processes or free memory"
        raise MachineError(_describe_failure(folder, str(error), to_do)) from error


def _describe_failure(folder: Path, what: str, to_do: str) -> str:
    return (
        f"{folder}: the machine failed: {what}; what was committed is safe: {to_do}, then "
        f"`evolve resume {quote(str(folder))}`"
    )


def signal_run(folder: Path, number: int) -> str | None:
    """Sends a signal to the process that writes a run and returns its id; None where none does.

    Raises:
        UsageError: It is on another machine, or another user's.
    """
    holder = find_holder(folder)
    if holder is None:
        return None
    try:
        # Smaller numbers mean groups of processes, all processes, or the first one.
        if not (holder.isascii() and holder.isdecimal()) or int(holder) < 2:
            raise ValueError(holder)
        os.kill(int(holder), number)
    except (ValueError, ProcessLookupError) as error:
        raise UsageError(
            f"{folder}: process {holder} cannot be seen from here; stop the run on the machine "
            "or in the container where it runs"
        ) from error
    except PermissionError as error:
        raise UsageError(f"{folder}: process {holder} belongs to another user") from error
    return holder
