"""The guest's first process: passes bytes between the host and one program, and watches over it.

Before it knows of any program it forks the zygote, from which programs are forked. So what passes
through here is in no memory that a program inherits.
"""

# System calls stand here by their own names.
# ruff: noqa: PTH208

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from . import confine, kernel, resources, wire, zygote
from .wire import ProgramLimits
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
        settings: `preload`, names of packages; `paths`, where else they are; `scratch`, a folder
            for programs; `data`, one that they may read; `namespaces`, whether the guest has
            its own; `readable`, paths with rights for when it has not. With a `prefix` the guest
            isolates itself first: see `confine.isolate`.
    """
    if "prefix" in settings:
        settings = confine.isolate(settings)
    folder = settings.get("host_folder")
    try:
        _leave_privileges(settings)
        pid, channel, greeting = zygote.fork_zygote(settings)
    except OSError as error:
        greeting = {"reason": str(error), "package": None}
    if "reason" in greeting:
        if folder:
            resources.remove(folder)
        _greet(wire.FAILED, greeting)
        os._exit(1)
    relay = Relay(settings["scratch"], greeting, pid, channel)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
    _greet(wire.READY, {**greeting, "host_folder": folder})
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
    os.write(_STDOUT, wire.pack_frame(kind, wire.encode(greeting)))


class Relay:
    """Everything that the guest does after its preparation.

    Args:
        scratch: Folder for programs.
        greeting: The zygote's greeting.
        zygote: Its process id.
        channel: To it.
    """

    def __init__(
        self, scratch: str, greeting: dict[str, Any], zygote: int, channel: socket.socket
    ) -> None:
        self._zygote = zygote
        self._channel = channel
        self._scratch = scratch
        self._is_namespaced = greeting["namespaces"]
        self._baseline = greeting["baseline"]
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        if not self._is_namespaced:
            # Orphans of a program come here, to be seen and reaped.
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        self._known = frozenset(filter(str.isdigit, os.listdir("/proc")))
        self._inbound = bytearray()
        self._waiting = self._unsent = memoryview(b"")
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
            os._exit(wire.SIGNALLED + os.WTERMSIG(status) if os.WIFSIGNALED(status) else 1)

    def _serve(self) -> None:
        child, timeout = self._child, None
        if child is not None:
            timeout = max(0.0, self._next_tick - time.monotonic()) * 1000 + 1
        handlers = self._list_handlers()
        poller = select.poll()
        for descriptor, (event, _) in handlers.items():
            poller.register(descriptor, event)
        for descriptor, _ in poller.poll(timeout):
            handlers[descriptor][1]()
            if self._child is not child:
                # What is left to handle may be of a program that has ended.
                return
        if child is not None:
            self._look_after(child)

    def _list_handlers(self) -> dict[int, tuple[int, Callable[[], object]]]:
        """Returns by descriptor what is waited for, and what is done then."""
        handlers: dict[int, tuple[int, Callable[[], object]]] = {
            self._wakeup: (select.POLLIN, lambda: os.read(self._wakeup, 512)),
            # It reports when asked only: what comes now is its end.
            self._channel.fileno(): (select.POLLIN, lambda: zygote.receive_report(self._channel)),
        }
        if self._unsent:
            handlers[_STDOUT] = select.POLLOUT, self._flush
        if not self._waiting:
            handlers[_STDIN] = select.POLLIN, self._read_host
        if (it := self._child) is not None:
            if self._waiting:
                handlers[it.requests] = select.POLLOUT, self._obey_all
            if not it.is_mute:
                handlers[it.output] = select.POLLIN, it.read_output
            if not self._unsent and not it.is_silent:
                handlers[it.replies] = select.POLLIN, lambda: self._read_child(it)
        return handlers

    def _read_host(self) -> None:
        data = os.read(_STDIN, wire.CHUNK)
        if not data:
            self._shut_down()
        self._inbound += data
        self._obey_all()

    def _obey_all(self) -> None:
        """Obeys what has come from the host, up to what a program does not take yet."""
        self._feed()
        while not self._waiting and (frame := wire.take_frame(self._inbound)):
            kind, body = frame
            if kind == wire.START and self._child is None:
                self._child = start(self._channel, body)
                self._next_tick = time.monotonic() + self._tick
            elif kind == wire.KILL and self._child is not None:
                self._end_child(self._child, "asked", asks_stack=bool(body))
            elif kind == wire.DATA:
                self._waiting = memoryview(body)
                self._feed()

    def _feed(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._waiting and self._child is not None:
                try:
                    count = os.write(self._child.requests, self._waiting)
                except BrokenPipeError:
                    break
                self._waiting = self._waiting[count:]
            self._waiting = memoryview(b"")

    def _read_child(self, it: Child) -> None:
        try:
            data = os.read(it.replies, wire.CHUNK)
        except BlockingIOError:
            return
        it.is_silent = not data
        if data:
            self._unsent = memoryview(wire.pack_frame(wire.DATA, data))
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
        os.set_blocking(_STDOUT, True)
        self._flush()
        os.set_blocking(_STDOUT, False)

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
            names = resources.list_strangers(self._known)
        else:
            names = resources.list_group(it.pid)
        limit = it.limits.memory_mb << 20
        if resources.is_exceeded(names, self._baseline, limit, has_own_network=self._is_namespaced):
            return "memory"
        if self._is_namespaced:
            return ""
        most = resources.Usage(it.limits.workspace_mb << 20, it.limits.inodes)
        used = resources.measure(self._scratch, most)
        size = used.size + resources.measure_unlinked(names)
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
        self._child, self._waiting = None, memoryview(b"")
        found = {**end._asdict(), "cause": cause, "notes": notes, "printed": it.printed.text()}
        self._unsent = memoryview(
            wire.pack_frame(wire.EXITED, wire.encode(found, wire.MAX_CONTROL_BYTES))
        )
        self._flush_all()

    def _clear(self, it: Child) -> None:
        zygote.close_all((it.requests, it.replies, it.output, it.notes))
        if not self._is_namespaced:
            resources.wipe(self._scratch)

    def _shut_down(self) -> NoReturn:
        if self._child is not None:
            self._child.kill(is_namespaced=self._is_namespaced)
            self._clear(self._child)
        if not self._is_namespaced:
            resources.remove(self._scratch)
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
        limits: What it may use.
        ends: Writes to it; reads from it; reads what it prints; reads where it is: when its
            imports ended, and its stack once it is asked.

    Attributes:
        is_silent: No process of it holds the writing end of `replies` any more.
        is_mute: The same of `output`.
    """

    def __init__(self, pid: int, limits: ProgramLimits, ends: tuple[int, ...]) -> None:
        self.pid = pid
        self.limits = limits
        self.requests, self.replies, self.output, self.notes = ends
        self.printed = wire.Printed(min(limits.output_kb << 10, _MAX_OUTPUT))
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
                data = os.read(self.output, wire.CHUNK)
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
    return Child(pid, ProgramLimits(*wire.decode(order)), ours)


def _reap(pid: int) -> End:
    _, status, usage = os.wait4(pid, 0)
    return End(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss << 10)
