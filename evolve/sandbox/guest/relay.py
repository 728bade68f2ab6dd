"""The guest's first process: passes bytes between the host and one program, and watches over it.

Before it knows of any program it forks the zygote, from which programs are forked. So what passes
through here is in no memory that a program inherits.
"""

# System calls stand here by their own names.
# ruff: noqa: PTH208

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from typing import Any, NamedTuple, NoReturn

from . import confine, kernel, resources, zygote
from .confine import Order
from .wire import (
    CHUNK,
    DATA,
    EXITED,
    FAILED,
    HEADER,
    KILL,
    READY,
    SIGNALLED,
    START,
    Printed,
)
from .zygote import ZygoteLostError

_STDIN, _STDOUT = 0, 1
_TICK_SECONDS = 0.02
_SLOW_TICK_SECONDS = 0.1
# How much longer than the last look at the memory the relay waits before the next.
_REST = 4
_READS_AT_ONCE = 16
_MAX_OUTPUT = 1 << 20


def main(settings: dict[str, Any]) -> NoReturn:
    """Serves the host over standard input and output, until it closes them.

    Args:
        settings: `preload`, names of packages; `paths`, where else they are; `box`, a folder
            for programs; `data`, one that they may read; `namespaces`, whether the guest has
            its own; `readable`, paths with rights for when it has not.
    """
    try:
        _leave_privileges(settings)
        pid, channel = zygote.fork_zygote(settings)
        greeting = zygote.read_greeting(channel)
    except OSError as error:
        greeting = {"reason": str(error), "package": None}
    if "reason" in greeting:
        if settings.get("host_folder"):
            resources.remove(settings["host_folder"])
        _greet(FAILED, greeting)
        os._exit(1)
    relay = Relay(settings["box"], greeting, pid, channel)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
    _greet(READY, {**greeting, "host_folder": settings.get("host_folder")})
    relay.run()


def _leave_privileges(settings: dict[str, Any]) -> None:
    if os.getuid() == 0:
        if settings.get("mounts_proc"):
            flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
            with contextlib.suppress(OSError):
                kernel.mount("proc", "/proc", "proc", flags)
        kernel.leave_root(confine.GUEST_ID)
        if not os.access(os.__file__, os.R_OK):
            raise OSError(
                f"{os.__file__} cannot be read by other users than root; run as an ordinary user "
                "or install Python where everybody can read it"
            )
    if settings["namespaces"]:
        # After any change of user, which clears it.
        kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)


def _greet(kind: bytes, greeting: dict[str, Any]) -> None:
    body = json.dumps(greeting).encode()
    os.write(_STDOUT, HEADER.pack(kind, len(body)) + body)


class Relay:
    """Everything that the guest does after its preparation.

    Args:
        box: Folder for programs.
        greeting: The zygote's greeting.
        zygote: Its process id.
        channel: To it.
    """

    def __init__(
        self, box: str, greeting: dict[str, Any], zygote: int, channel: socket.socket
    ) -> None:
        self._zygote = zygote
        self._channel = channel
        self._box = box
        self._is_namespaced = greeting["namespaces"]
        self._baseline = greeting["baseline"]
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        if not self._is_namespaced:
            # Orphans of a program come here, to be seen and reaped.
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        self._known = frozenset(filter(str.isdigit, os.listdir(self._proc)))
        self._inbound = bytearray()
        self._data_left = 0
        self._is_blocked = False
        self._unsent = memoryview(b"")
        self._child: Child | None = None
        self._next_tick = 0.0
        # Without a pid namespace every process of the machine is looked at.
        self._tick = _TICK_SECONDS if self._is_namespaced else _SLOW_TICK_SECONDS
        self._wakeup, writer = os.pipe()
        for descriptor in (self._wakeup, writer, _STDIN, _STDOUT):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> NoReturn:
        """Serves the host until it closes its end, then ends with everything in here."""
        try:
            while True:
                self._serve()
        except ZygoteLostError:
            status = os.waitpid(self._zygote, 0)[1]
            # A signal is passed on: the host asks who sent it.
            os._exit(SIGNALLED + os.WTERMSIG(status) if os.WIFSIGNALED(status) else 1)

    def _serve(self) -> None:
        for descriptor, _ in self._poll():
            if descriptor == _STDIN:
                self._read_host()
            elif descriptor == _STDOUT:
                self._flush()
            elif descriptor == self._wakeup:
                os.read(self._wakeup, 512)
            elif descriptor == self._channel.fileno():
                # It reports when asked only: what comes now is its end.
                zygote.receive_report(self._channel)
            elif self._child is not None:
                self._attend(self._child, descriptor)
        if self._child is not None:
            self._look_after(self._child)

    def _attend(self, it: Child, descriptor: int) -> None:
        if descriptor == it.output:
            it.read_output()
        elif descriptor == it.replies:
            self._read_child(it)
        elif descriptor == it.requests:
            self._is_blocked = False
            self._parse()

    def _poll(self) -> list[tuple[int, int]]:
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        poller.register(self._channel, select.POLLIN)
        if not self._is_blocked:
            poller.register(_STDIN, select.POLLIN)
        if self._unsent:
            poller.register(_STDOUT, select.POLLOUT)
        timeout = None
        if self._child is not None:
            timeout = max(0.0, self._next_tick - time.monotonic()) * 1000 + 1
            if not self._child.is_mute:
                poller.register(self._child.output, select.POLLIN)
            if not self._unsent and not self._child.is_silent:
                poller.register(self._child.replies, select.POLLIN)
            if self._is_blocked:
                poller.register(self._child.requests, select.POLLOUT)
        return poller.poll(timeout)

    def _read_host(self) -> None:
        data = os.read(_STDIN, CHUNK)
        if not data:
            self._shut_down()
        self._inbound += data
        self._parse()

    def _parse(self) -> None:
        while self._inbound and not self._is_blocked:
            if self._data_left:
                self._pass_on()
                continue
            if len(self._inbound) < HEADER.size:
                return
            kind, size = HEADER.unpack_from(self._inbound)
            end = HEADER.size + (0 if kind == DATA else size)
            if len(self._inbound) < end:
                return
            body = bytes(self._inbound[HEADER.size : end])
            del self._inbound[:end]
            if kind == DATA:
                self._data_left = size
            else:
                self._obey(kind, body)

    def _pass_on(self) -> None:
        part = bytes(self._inbound[: self._data_left])
        count = len(part)
        if self._child is not None:
            try:
                count = os.write(self._child.requests, part)
            except BlockingIOError:
                self._is_blocked = True
                return
            except BrokenPipeError:
                pass
        del self._inbound[:count]
        self._data_left -= count

    def _obey(self, kind: bytes, body: bytes) -> None:
        if kind == START and self._child is None:
            self._child = start(self._channel, body)
            self._next_tick = time.monotonic() + self._tick
        elif kind == KILL and self._child is not None:
            self._end_child(self._child, "asked", asks_stack=bool(body))

    def _read_child(self, it: Child) -> None:
        try:
            data = os.read(it.replies, CHUNK)
        except BlockingIOError:
            return
        it.is_silent = not data
        if data:
            self._unsent = memoryview(HEADER.pack(DATA, len(data)) + data)
            self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(_STDOUT, self._unsent) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._shut_down()

    def _flush_all(self) -> None:
        while self._unsent:
            self._flush()
            if self._unsent:
                poller = select.poll()
                poller.register(_STDOUT, select.POLLOUT)
                poller.poll()

    def _look_after(self, it: Child) -> None:
        if it.has_ended():
            self._end_child(it, "")
        elif time.monotonic() >= self._next_tick:
            started = time.monotonic()
            cause = self._find_excess(it)
            now = time.monotonic()
            self._next_tick = now + max(self._tick, _REST * (now - started))
            if cause:
                self._end_child(it, cause)

    def _find_excess(self, it: Child) -> str:
        if self._is_namespaced:
            names = resources.list_strangers(self._proc, self._known)
        else:
            names = resources.list_group(self._proc, it.pid)
        if resources.is_exceeded(
            self._proc,
            names,
            self._baseline,
            it.order.memory_mb << 20,
            has_own_network=self._is_namespaced,
        ):
            return "memory"
        if self._is_namespaced:
            return ""
        most = resources.Usage(it.order.workspace_mb << 20, it.order.inodes)
        used = resources.measure(self._box, most)
        size = used.size + resources.measure_unlinked(self._proc, names)
        return "disk" if size > most.size or used.number > most.number else ""

    def _end_child(self, it: Child, cause: str, *, asks_stack: bool = False) -> None:
        notes = it.read_notes() if asks_stack else ""
        end = it.kill(is_namespaced=self._is_namespaced)
        while not it.is_silent and not cause:
            self._flush_all()
            self._read_child(it)
        self._flush_all()
        it.read_output()
        self._clear(it)
        self._child, self._is_blocked = None, False
        head = json.dumps({**end._asdict(), "cause": cause, "notes": notes}).encode()
        body = HEADER.pack(EXITED, len(head)) + head + it.printed.text()
        self._unsent = memoryview(HEADER.pack(EXITED, len(body)) + body)
        self._flush_all()

    def _clear(self, it: Child) -> None:
        zygote.close_all((it.requests, it.replies, it.output, it.notes))
        if not self._is_namespaced:
            resources.wipe(self._box)

    def _shut_down(self) -> NoReturn:
        if self._child is not None:
            self._child.kill(is_namespaced=self._is_namespaced)
            self._clear(self._child)
        if not self._is_namespaced:
            resources.remove(self._box)
        os._exit(0)


_MAX_NOTES = 1 << 14
_STACK_MS, _STACK_REST_MS = 100, 20


class End(NamedTuple):
    """How a process ended.

    Attributes:
        status: Its wait status.
        spent: Processor time of it and of all that were waited for, in seconds.
        peak_bytes: The most memory that it had itself.
    """

    status: int
    spent: float
    peak_bytes: int


class Child:
    """A running program.

    Args:
        pid: Its first process.
        order: What it may use.
        ends: Writes to it; reads from it; reads what it prints; reads where it is: when its
            imports ended, and its stack once it is asked.

    Attributes:
        is_silent: No process of it holds the writing end of `replies` any more.
        is_mute: The same of `output`.
    """

    # No dataclass: that module takes a cold guest longer to import than all of this package.
    def __init__(self, pid: int, order: Order, ends: tuple[int, ...]) -> None:
        self.pid = pid
        self.order = order
        self.requests, self.replies, self.output, self.notes = ends
        self.printed = Printed(min(order.output_kb << 10, _MAX_OUTPUT))
        self.is_silent = self.is_mute = False

    def has_ended(self) -> bool:
        """Returns whether its first process has ended."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is not None

    def read_output(self) -> None:
        """Reads what it has printed, within reason: a flood must not keep the caller."""
        for _ in range(_READS_AT_ONCE):
            if self.is_mute:
                return
            try:
                data = os.read(self.output, CHUNK)
            except BlockingIOError:
                return
            self.is_mute = not data
            self.printed.add(data)

    def read_notes(self) -> str:
        """Asks for its stack and returns all of its notes, which it may have written itself.

        One that does not answer costs a moment; nobody believes more of them than how they look.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, zygote.STACK_SIGNAL)
        text = bytearray()
        poller = select.poll()
        poller.register(self.notes, select.POLLIN)
        while len(text) < _MAX_NOTES:
            if not poller.poll(_STACK_REST_MS if b"File" in text else _STACK_MS):
                break
            part = os.read(self.notes, _MAX_NOTES)
            if not part:
                break
            text += part
        return text.decode("ascii", "replace")

    def kill(self, *, is_namespaced: bool) -> End:
        """Kills every process of it and waits until all are gone.

        Args:
            is_namespaced: Whether a pid namespace holds it: its first process then takes all
                others with it before it can be reaped.
        """
        if is_namespaced:
            os.kill(self.pid, signal.SIGKILL)
            return _reap(self.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        end = _reap(self.pid)
        with contextlib.suppress(ChildProcessError):
            while True:
                end = end._replace(spent=end.spent + _reap(-self.pid).spent)
        return end


def start(channel: socket.socket, order: bytes) -> Child:
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
    pid = zygote.order_process(channel, order, theirs)
    zygote.close_all(theirs)
    ours = (requests, replies, output, notes)
    for descriptor in ours:
        os.set_blocking(descriptor, False)
    return Child(pid, confine.read_order(order), ours)


def _reap(pid: int) -> End:
    _, status, usage = os.wait4(pid, 0)
    return End(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)
