"""A program's process: its start, its pipes, its end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from . import files, kernel, program, seccomp
from .confine import Bounds, Cage, confine
from .wire import CONFINED, MESSAGE, NO_NONCE, SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

_REQUESTS, _REPLIES = 3, 4
_ABOVE_ALL = 64


class Child:
    """A running program as the zygote holds it.

    Args:
        pid: Its first process.
        requests: Writes to it.
        replies: Reads from it.
        output: Reads what it prints.

    Attributes:
        is_silent: No process of it holds the writing end of `replies` any more.
        reaped: Wait status and processor time, where it could not be left to `kill`.
    """

    # No dataclass: that module takes a cold guest longer to import than all of this package.
    def __init__(self, pid: int, requests: int, replies: int, output: int) -> None:
        self.pid = pid
        self.requests = requests
        self.replies = replies
        self.output = output
        self.is_silent = False
        self.reaped: tuple[int, float] | None = None


def start(cage: Cage, settings: Mapping[str, Any]) -> Child:
    """Forks a confined child that waits for its program."""
    pipes = [os.pipe() for _ in range(3)]
    (request_reader, requests), (replies, reply_writer), (output, printer) = pipes
    pid = kernel.fork_into(cage.flags)
    if not pid:
        _run(cage, settings, (request_reader, reply_writer, printer))
    for descriptor in (request_reader, reply_writer, printer):
        os.close(descriptor)
    for descriptor in (requests, replies, output):
        os.set_blocking(descriptor, False)
    return Child(pid, requests, replies, output)


def has_ended(child: Child) -> bool:
    """Tells whether the first process of the child has ended."""
    if hasattr(os, "waitid"):
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, child.pid, options) is not None
    if child.reaped is None:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.reaped = status, usage.ru_utime + usage.ru_stime
    return child.reaped is not None


def kill(cage: Cage, child: Child) -> tuple[int, float]:
    """Kills every process of the child and waits until all are gone.

    Returns:
        The wait status of its first process, and the processor time of all that were waited for.
    """
    if cage.is_namespaced:
        # The first process of a pid namespace takes all others with it before it can be reaped.
        os.kill(child.pid, signal.SIGKILL)
        return _reap(child.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    status, spent = child.reaped or _reap(child.pid)
    with contextlib.suppress(ChildProcessError):
        while True:
            spent += _reap(-child.pid)[1]
    return status, spent


def _reap(pid: int) -> tuple[int, float]:
    _, status, usage = os.wait4(pid, 0)
    return status, usage.ru_utime + usage.ru_stime


def _pin(core: int) -> None:
    try:
        os.sched_setaffinity(0, {core})
    except OSError:
        # The host's cores may be others, as where a container has only some of them.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def clear(cage: Cage, child: Child) -> None:
    """Closes the pipes of a dead child and wipes its files."""
    for descriptor in (child.requests, child.replies, child.output):
        os.close(descriptor)
    if not cage.is_namespaced:
        files.wipe(cage.box)


def _run(cage: Cage, settings: Mapping[str, Any], pipes: tuple[int, int, int]) -> NoReturn:
    try:
        _take_descriptors([*pipes, *([cage.ruleset] if cage.ruleset >= 0 else [])])
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        bounds = Bounds(settings["memory_mb"], settings["processes"], settings["workspace_mb"])
        core = settings["core"]
        if core is not None and cage.portable is None:
            _pin(core)
        confine(cage, bounds)
        if core is not None and cage.portable is None:
            seccomp.install_filter(seccomp.build_timing_filter(is_alone=settings["is_alone"]))
        random.seed(0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = _printer(1)
        sys.stderr = _printer(2)
        spent = SECONDS.pack(time.process_time())
        os.write(_REPLIES, MESSAGE.pack(NO_NONCE, CONFINED, len(spent)) + spent)
        program.serve(f"{cage.box}/work", cage.data, settings["reply_bytes"])
    except BaseException as error:  # noqa: BLE001 - nothing may go back into the zygote's own code
        os.write(2, "".join(traceback.format_exception_only(error)).encode())
    finally:
        os._exit(70)


def _take_descriptors(pipes: list[int]) -> None:
    requests, replies, printer, *rest = pipes
    null = os.open("/dev/null", os.O_RDONLY)
    sources = [null, printer, printer, requests, replies, *rest]
    high = [os.dup2(source, _ABOVE_ALL + i) for i, source in enumerate(sources)]
    for target, source in enumerate(high):
        os.dup2(source, target, inheritable=target <= 2)
    os.closerange(len(high), _ABOVE_ALL + len(high) + 1)


def set_environment(cage: Cage) -> None:
    """Leaves of the zygote's environment what programs get."""
    threads = {key: value for key, value in os.environ.items() if key.endswith("_NUM_THREADS")}
    os.environ.clear()
    os.environ.update(threads)
    os.environ.update(
        PATH="/usr/local/bin:/usr/bin:/bin",
        HOME=f"{cage.box}/work",
        TMPDIR=f"{cage.box}/tmp",  # noqa: S108 - its own
        LANG="C.UTF-8",
    )


def _printer(descriptor: int) -> Any:
    return open(
        descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
