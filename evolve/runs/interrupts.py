"""What ends a run from outside: signals that ask it to stop, and failures of the machine."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from evolve.errors import MachineError, UsageError
from evolve.store import find_holder

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
