"""What passes between the relay and the zygote: numbers, descriptors, never a byte of a program.

The relay orders a program's process and hands over its ends of four pipes; the process reports
for itself, and the zygote reports that it has closed its copies. So whatever a program is given
or gives back is in the memory of the relay, which no program is forked from.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
from typing import NamedTuple

# The relay's own order, `STARTED` of a new process, `FORKED` or `FAILED` of the zygote, and
# `ENDED` of whoever waits for the process where the relay is not its parent.
STARTED, FORKED, FAILED, ENDED = range(4)
_ORDER = struct.Struct("<5q2?")
_REPORT = struct.Struct("<iqd")
_SENDER = struct.Struct("iII")
_NO_CORE = -1
_INODES, _INODES_PER_MB = 1024, 256
_PIPES = 4


class ZygoteLostError(Exception):
    """The zygote has ended."""


class Order(NamedTuple):
    """What the host asks for one program.

    Attributes:
        memory_mb: As in the host's `ProgramLimits`; so are the others.
        processes: Processes and threads.
        workspace_mb: Files.
        reply_bytes: Size of one message.
        core: The only core to use; None for any.
        is_alone: Whether the process may start no other.
        reserves: Whether it may reserve more addresses than memory.
    """

    memory_mb: int
    processes: int
    workspace_mb: int
    reply_bytes: int = 0
    core: int | None = None
    is_alone: bool = False
    reserves: bool = False

    @property
    def inodes(self) -> int:
        """Returns how many files and folders there may be."""
        return _INODES + _INODES_PER_MB * self.workspace_mb


class Report(NamedTuple):
    """What is reported to the relay.

    Attributes:
        kind: `STARTED`, `FORKED`, `FAILED` or `ENDED`.
        number: A process id, an error number, or a wait status.
        spent: Processor time in seconds.
    """

    kind: int
    number: int
    spent: float


def open_channel() -> tuple[socket.socket, socket.socket]:
    """Opens a channel: the relay's end, and the zygote's."""
    relay, zygote = socket.socketpair()
    if hasattr(socket, "SO_PASSCRED"):
        # The kernel then adds the sender's process id, as the relay sees it.
        relay.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return relay, zygote


def send_order(channel: socket.socket, order: Order, pipes: tuple[int, ...]) -> None:
    """Sends an order with the program's ends of its pipes.

    Raises:
        ZygoteLostError: Nobody is there.
    """
    core = _NO_CORE if order.core is None else order.core
    try:
        packed = _ORDER.pack(*order[:4], core, order.is_alone, order.reserves)
        socket.send_fds(channel, [packed], list(pipes))
    except ConnectionError:
        raise ZygoteLostError from None


def receive_order(channel: socket.socket) -> tuple[Order, tuple[int, ...]]:
    """Waits for an order and the ends of pipes: requests, replies, output, notes.

    Raises:
        EOFError: The relay has ended.
    """
    data, descriptors, _, _ = socket.recv_fds(channel, _ORDER.size, _PIPES)
    if len(data) < _ORDER.size:
        raise EOFError
    memory, processes, files, reply, core, is_alone, reserves = _ORDER.unpack(data)
    wanted = None if core == _NO_CORE else core
    order = Order(memory, processes, files, reply, wanted, is_alone, reserves)
    return order, tuple(descriptors)


def report(channel: socket.socket, kind: int, number: int = 0, spent: float = 0.0) -> None:
    """Sends a report to the relay."""
    channel.sendall(_REPORT.pack(kind, number, spent))


def receive_report(channel: socket.socket) -> Report:
    """Waits for a report; that of a new process names it as the relay sees it.

    Raises:
        ZygoteLostError: Nobody is left to report.
    """
    data, extra, _, _ = channel.recvmsg(_REPORT.size, socket.CMSG_SPACE(_SENDER.size))
    if len(data) < _REPORT.size:
        raise ZygoteLostError
    found = Report(*_REPORT.unpack(data))
    if found.kind == STARTED:
        for _, kind, sender in extra:
            if kind == getattr(socket, "SCM_CREDENTIALS", None):
                return found._replace(number=_SENDER.unpack(sender)[0])
    return found


def close_all(descriptors: tuple[int, ...]) -> None:
    """Closes descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)


# Makes a program write its stack to its notes; prepared once, in the zygote.
STACK_SIGNAL = signal.SIGUSR1
_MAX_NOTES = 1 << 14
_STACK_MS, _STACK_REST_MS = 100, 20


class End(NamedTuple):
    """How a process ended.

    Attributes:
        status: Its wait status.
        spent: Processor time of it and of all that were waited for, in seconds.
        peak_bytes: The most memory that it had itself; 0 where it is not known.
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
    send_order(channel, order, theirs)
    close_all(theirs)
    found: dict[int, Report] = {}
    while not {STARTED, FORKED} <= set(found):
        news = receive_report(channel)
        if news.kind == FAILED:
            raise OSError(news.number, os.strerror(news.number))
        found[news.kind] = news
    for descriptor in (requests, replies, output, notes):
        os.set_blocking(descriptor, False)
    child = Child(found[STARTED].number, requests, replies, output, notes)
    if ENDED in found:
        child.reaped = End(found[ENDED].number, found[ENDED].spent)
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
            news = receive_report(channel)
            child.reaped = End(news.number, news.spent)
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
    close_all((child.requests, child.replies, child.output, child.notes))


def _reap(pid: int) -> End:
    _, status, usage = os.wait4(pid, 0)
    return End(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)
