"""A program's process as the relay holds it: its pipes, its end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING, NamedTuple

from . import orders

if TYPE_CHECKING:
    import socket

    from .orders import Order

# Makes a program write its stack to its notes; prepared once, in the zygote.
STACK_SIGNAL = signal.SIGUSR1
_MAX_NOTES = 1 << 14
_STACK_MS, _STACK_REST_MS = 100, 20


class End(NamedTuple):
    """How a process ended.

    Attributes:
        status: Its wait status.
        spent: Processor time of it and of all that were waited for, in seconds.
        peak_bytes: The most memory that it had itself; 0 where nobody tells.
    """

    status: int
    spent: float
    peak_bytes: int = 0


class Child:
    """A running program.

    Args:
        pid: Its first process.
        requests: Writes to it.
        replies: Reads from it.
        output: Reads what it prints.
        notes: Reads where it is: when its imports ended, and its stack once it is asked.

    Attributes:
        is_silent: No process of it holds the writing end of `replies` any more.
        reaped: How it ended, where a keeper has reported that.
    """

    # No dataclass: that module takes a cold guest longer to import than all of this package.
    def __init__(self, pid: int, requests: int, replies: int, output: int, notes: int) -> None:
        self.pid = pid
        self.requests = requests
        self.replies = replies
        self.output = output
        self.notes = notes
        self.is_silent = False
        self.reaped: End | None = None


def start(channel: socket.socket, order: Order) -> Child:
    """Orders a process from the zygote and waits until it is there.

    Raises:
        OSError: No process can be made.
        ZygoteLostError: The zygote has ended.
    """
    pipes = [os.pipe() for _ in range(4)]
    (request_reader, requests), (replies, reply_writer), (output, printer), (notes, noter) = pipes
    # Nobody reads notes before the end: a program that fills the pipe must not wait for that.
    os.set_blocking(noter, False)
    theirs = (request_reader, reply_writer, printer, noter)
    orders.send_order(channel, order, theirs)
    orders.close_all(theirs)
    found: dict[int, orders.Report] = {}
    while not {orders.STARTED, orders.FORKED} <= set(found):
        told = orders.receive_report(channel)
        if told.kind == orders.FAILED:
            raise OSError(told.number, os.strerror(told.number))
        found[told.kind] = told
    for descriptor in (requests, replies, output, notes):
        os.set_blocking(descriptor, False)
    child = Child(found[orders.STARTED].number, requests, replies, output, notes)
    if orders.ENDED in found:
        child.reaped = End(found[orders.ENDED].number, found[orders.ENDED].spent)
    return child


def has_ended(child: Child) -> bool:
    """Returns whether the first process of the child has ended."""
    if child.reaped is not None:
        return True
    try:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, child.pid, options) is not None
    except (AttributeError, ChildProcessError):
        # Not ours: its keeper reports its end.
        return False


def kill(child: Child, channel: socket.socket, *, is_namespaced: bool, is_kept: bool) -> End:
    """Kills every process of the child and waits until all are gone.

    Args:
        child: What to end.
        channel: Where a keeper reports.
        is_namespaced: Whether a pid namespace holds it.
        is_kept: Whether another process waits for it and reports.
    """
    if is_namespaced:
        # The first process of a pid namespace takes all others with it before it can be reaped.
        os.kill(child.pid, signal.SIGKILL)
        return _reap(child.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    if is_kept:
        while child.reaped is None:
            told = orders.receive_report(channel)
            child.reaped = End(told.number, told.spent)
        return child.reaped
    end = _reap(child.pid)
    with contextlib.suppress(ChildProcessError):
        while True:
            end = end._replace(spent=end.spent + _reap(-child.pid).spent)
    return end


def read_notes(child: Child) -> str:
    """Asks a program for its stack and returns all of its notes, which it may have written itself.

    One that does not answer costs a moment; nobody believes more of them than how they look.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, STACK_SIGNAL)
    text = bytearray()
    poller = select.poll()
    poller.register(child.notes, select.POLLIN)
    while len(text) < _MAX_NOTES and poller.poll(_STACK_REST_MS if b"File" in text else _STACK_MS):
        part = os.read(child.notes, _MAX_NOTES)
        if not part:
            break
        text += part
    return text.decode("ascii", "replace")


def close(child: Child) -> None:
    """Closes the pipes of a dead child."""
    orders.close_all((child.requests, child.replies, child.output, child.notes))


def _reap(pid: int) -> End:
    _, status, usage = os.wait4(pid, 0)
    return End(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)
