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
from typing import Any, NoReturn

from . import confine, kernel, orders, portable, resources, zygote
from .orders import Order, ZygoteLostError
from .resources import Usage, measure, measure_unlinked, remove, wipe
from .wire import CHUNK, DATA, EXITED, FAILED, HEADER, KILL, READY, SIGNALLED, START

_MAX_OUTPUT = 1 << 20
_STDIN, _STDOUT = 0, 1
_TICK_SECONDS = 0.02
_SLOW_TICK_SECONDS = 0.1
# Each look starts a process.
_PORTABLE_TICK_SECONDS = 0.5
# How much longer than the last look at the memory the relay waits before the next.
_REST = 4


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
            remove(settings["host_folder"])
        _greet(FAILED, greeting)
        os._exit(1)
    relay = Relay(settings, greeting, pid, channel)
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
        settings: As for `main`.
        greeting: The zygote's greeting.
        zygote: Its process id.
        channel: To it.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        greeting: dict[str, Any],
        zygote: int,
        channel: socket.socket,
    ) -> None:
        self._zygote = zygote
        self._channel = channel
        self._box = settings["box"]
        self._is_portable = settings.get("portable", False)
        self._is_namespaced = greeting["namespaces"]
        self._baseline = greeting["baseline"]
        self._proc, self._known = self._look_around()
        self._inbound = memoryview(bytearray(HEADER.size + CHUNK))
        self._start = self._end = self._data_left = 0
        self._is_blocked = False
        self._outbound = memoryview(bytearray(HEADER.size + CHUNK))
        self._unsent = self._outbound[:0]
        self._output = Printed(memoryview(bytearray(_MAX_OUTPUT)), memoryview(bytearray(CHUNK)))
        self._child: orders.Child | None = None
        self._limit = 0
        self._most_files = Usage(0, 0)
        self._next_tick = 0.0
        # Without a pid namespace every process of the machine is looked at.
        self._tick = _TICK_SECONDS if self._is_namespaced else _SLOW_TICK_SECONDS
        if self._is_portable:
            self._tick = _PORTABLE_TICK_SECONDS
        self._wakeup, writer = os.pipe()
        for descriptor in (self._wakeup, writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        os.set_blocking(_STDIN, False)
        os.set_blocking(_STDOUT, False)

    def _look_around(self) -> tuple[int, frozenset[str]]:
        if self._is_portable:
            return -1, frozenset()
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        if not self._is_namespaced:
            # Orphans of a program come here, to be seen and reaped.
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        return proc, frozenset(name for name in os.listdir(proc) if name.isdigit())

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
                self._read_report()
            elif self._child is not None:
                self._attend(self._child, descriptor)
        if self._child is not None:
            self._look_after(self._child)

    def _read_report(self) -> None:
        report = orders.receive_report(self._channel)
        if self._child is not None and report.kind == orders.ENDED:
            self._child.reaped = orders.End(report.number, report.spent)

    def _attend(self, it: orders.Child, descriptor: int) -> None:
        if descriptor == it.output:
            self._output.read_from(descriptor)
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
            if not self._output.is_closed:
                poller.register(self._child.output, select.POLLIN)
            if not self._unsent and not self._child.is_silent:
                poller.register(self._child.replies, select.POLLIN)
            if self._is_blocked:
                poller.register(self._child.requests, select.POLLOUT)
        return poller.poll(timeout)

    def _read_host(self) -> None:
        count = os.readv(_STDIN, [self._inbound[self._end :]])
        if not count:
            self._shut_down()
        self._end += count
        self._parse()

    def _parse(self) -> None:
        while not self._is_blocked and self._start < self._end:
            if self._data_left:
                self._pass_on()
                continue
            if self._end - self._start < HEADER.size:
                break
            kind, size = HEADER.unpack_from(self._inbound, self._start)
            body = self._start + HEADER.size
            if kind == DATA:
                self._start, self._data_left = body, size
                continue
            if self._end < body + size:
                break
            self._start = body + size
            self._obey(kind, bytes(self._inbound[body : body + size]))
        left = self._end - self._start
        if left and self._start:
            self._inbound[:left] = bytes(self._inbound[self._start : self._end])
        self._start, self._end = 0, left

    def _pass_on(self) -> None:
        count = min(self._data_left, self._end - self._start)
        if self._child is not None:
            try:
                part = self._inbound[self._start : self._start + count]
                count = os.write(self._child.requests, part)
            except BlockingIOError:
                self._is_blocked = True
                return
            except BrokenPipeError:
                pass
        self._start += count
        self._data_left -= count

    def _obey(self, kind: bytes, body: bytes) -> None:
        if kind == START and self._child is None:
            settings = json.loads(body)
            self._output.clear(settings["output_bytes"])
            self._limit = settings["memory_mb"] << 20
            order = Order(*(settings[name] for name in Order._fields))
            self._most_files = Usage(order.workspace_mb << 20, order.inodes)
            self._child = orders.start(self._channel, order)
            self._next_tick = time.monotonic() + self._tick
        elif kind == KILL and self._child is not None:
            self._end_child(self._child, "asked", asks_stack=bool(body))

    def _read_child(self, it: orders.Child) -> None:
        try:
            count = os.readv(it.replies, [self._outbound[HEADER.size :]])
        except BlockingIOError:
            return
        if not count:
            it.is_silent = True
            return
        HEADER.pack_into(self._outbound, 0, DATA, count)
        self._unsent = self._outbound[: HEADER.size + count]
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(_STDOUT, self._unsent) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._shut_down()

    def _send(self, kind: bytes, body: bytes) -> None:
        self._flush_all()
        self._unsent = memoryview(HEADER.pack(kind, len(body)) + body)
        self._flush_all()

    def _flush_all(self) -> None:
        while self._unsent:
            self._flush()
            if self._unsent:
                poller = select.poll()
                poller.register(_STDOUT, select.POLLOUT)
                poller.poll()

    def _look_after(self, it: orders.Child) -> None:
        if orders.has_ended(it):
            self._end_child(it, "")
        elif time.monotonic() >= self._next_tick:
            started = time.monotonic()
            cause = self._find_excess(it)
            now = time.monotonic()
            self._next_tick = now + max(self._tick, _REST * (now - started))
            if cause:
                self._end_child(it, cause)

    def _find_excess(self, it: orders.Child) -> str:
        if self._is_portable:
            names = []
            if portable.sum_memory(it.pid) > self._baseline + self._limit:
                return "memory"
        elif self._is_namespaced:
            names = resources.list_strangers(self._proc, self._known)
        else:
            names = resources.list_group(self._proc, it.pid)
        if resources.is_exceeded(
            self._proc,
            names,
            self._baseline,
            self._limit,
            has_own_network=self._is_namespaced,
        ):
            return "memory"
        if self._is_namespaced:
            return ""
        most = self._most_files
        used = measure(self._box, most)
        size = used.size + measure_unlinked(self._proc, names)
        return "disk" if size > most.size or used.number > most.number else ""

    def _end_child(self, it: orders.Child, cause: str, *, asks_stack: bool = False) -> None:
        notes = orders.read_notes(it) if asks_stack else ""
        end = self._kill(it)
        while not it.is_silent and not cause:
            self._flush_all()
            self._read_child(it)
        self._flush_all()
        self._output.read_from(it.output)
        self._clear(it)
        self._child, self._is_blocked = None, False
        head = json.dumps({**end._asdict(), "cause": cause, "notes": notes}).encode()
        self._send(EXITED, HEADER.pack(EXITED, len(head)) + head + self._output.text())
        self._output.clear(0)

    def _kill(self, it: orders.Child) -> orders.End:
        return orders.kill(
            it, self._channel, is_namespaced=self._is_namespaced, is_kept=self._is_portable
        )

    def _clear(self, it: orders.Child) -> None:
        orders.close(it)
        if not self._is_namespaced:
            wipe(self._box)

    def _shut_down(self) -> NoReturn:
        if self._child is not None:
            self._kill(self._child)
            self._clear(self._child)
        if not self._is_namespaced:
            remove(self._box)
        os._exit(0)


_READS_AT_ONCE = 16


class Printed:
    """A bounded record of a stream, in memory given by the caller.

    Args:
        kept: Holds the head and the tail.
        scratch: Holds what has just been read.
    """

    def __init__(self, kept: memoryview, scratch: memoryview) -> None:
        self._kept = kept
        self._scratch = scratch
        self._half = 0
        self._total = 0
        self.is_closed = False

    def clear(self, max_bytes: int) -> None:
        """Forgets everything and sets how much is kept from now on."""
        self._half = min(max_bytes, len(self._kept)) // 2
        self._total = 0
        self.is_closed = False

    def read_from(self, descriptor: int) -> None:
        """Reads what is there, within reason: a flood must not keep the caller."""
        for _ in range(_READS_AT_ONCE):
            if self.is_closed:
                return
            try:
                count = os.readv(descriptor, [self._scratch])
            except BlockingIOError:
                return
            self.is_closed = not count
            self._keep(self._scratch[:count])

    def text(self) -> bytes:
        """Returns the head and the tail, with a line between them that counts what was cut."""
        half = self._half
        head = bytes(self._kept[: min(self._total, half)])
        in_tail = self._total - half
        if in_tail <= 0:
            return head
        if in_tail <= half:
            return head + bytes(self._kept[half : half + in_tail])
        position = half + in_tail % half
        tail = bytes(self._kept[position : 2 * half]) + bytes(self._kept[half:position])
        return head + f"\n[... {in_tail - half} bytes cut ...]\n".encode() + tail

    def _keep(self, data: memoryview) -> None:
        half = self._half
        if self._total < half:
            part = data[: half - self._total]
            self._kept[self._total : self._total + len(part)] = part
            self._total += len(part)
            data = data[len(part) :]
        if half and len(data) > half:
            self._total += len(data) - half
            data = data[-half:]
        while data and half:
            place = (self._total - half) % half
            part = data[: half - place]
            self._kept[half + place : half + place + len(part)] = part
            self._total += len(part)
            data = data[len(part) :]
