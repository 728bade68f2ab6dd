"""What passes between the relay and the zygote: numbers, descriptors, never a byte of a program.

The relay orders a program's process and hands over its ends of three pipes; the process reports
for itself, and the zygote reports that it has closed its copies. So whatever a program is given
or gives back is in the memory of the relay, which no program is forked from.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

# The relay's own order, `STARTED` of a new process, `FORKED` or `FAILED` of the zygote, and
# `ENDED` of whoever waits for the process where the relay is not its parent.
STARTED, FORKED, FAILED, ENDED = range(4)
_ORDER = struct.Struct("<5q?")
_REPORT = struct.Struct("<iqd")
_SENDER = struct.Struct("iII")
_NO_CORE = -1
_PIPES = 4


class ZygoteLostError(Exception):
    """The zygote has ended."""


class Order(NamedTuple):
    """What the host asks for one program.

    Attributes:
        memory_mb: As in the host's `Limits`; so are the others.
        processes: Processes and threads.
        workspace_mb: Files.
        reply_bytes: Size of one message.
        core: The only core to use; None for any.
        is_alone: Whether the process may start no other.
    """

    memory_mb: int
    processes: int
    workspace_mb: int
    reply_bytes: int
    core: int | None
    is_alone: bool


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
        socket.send_fds(channel, [_ORDER.pack(*order[:4], core, order.is_alone)], list(pipes))
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
    memory, processes, files, reply, core, is_alone = _ORDER.unpack(data)
    wanted = None if core == _NO_CORE else core
    order = Order(memory, processes, files, reply, wanted, is_alone)
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
