"""The zygote's loop: passes bytes between the host and one child, and watches over the child.

Bytes of programs pass through memory that children do not inherit, and are never looked at:
nothing of one program is left for the next one to find.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import time
from typing import TYPE_CHECKING, NoReturn

from . import child, memory, portable
from .confine import Bounds
from .files import Usage, measure, measure_unlinked, remove
from .output import Output
from .wire import CHUNK, DATA, EXITED, HEADER, KILL, OUTPUT, START

if TYPE_CHECKING:
    from .confine import Cage

_MAX_OUTPUT = 1 << 20
_STDIN, _STDOUT = 0, 1
_TICK_SECONDS = 0.02
_SLOW_TICK_SECONDS = 0.1
# Each look starts a process.
_PORTABLE_TICK_SECONDS = 0.5
# How much longer than the last look at the memory the zygote waits before the next.
_REST = 4


def unforked_memory(size: int) -> memoryview:
    """Gives memory that forked children do not get."""
    region = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_DONTFORK"):
        region.madvise(mmap.MADV_DONTFORK)
    return memoryview(region)


class Relay:
    """Everything that the zygote does after its preparation.

    Args:
        cage: How children are confined.
        proc: Descriptor of `/proc`, seen from the zygote.
        baseline: Memory of the warm guest itself, in bytes.
    """

    def __init__(self, cage: Cage, proc: int, baseline: int) -> None:
        self._cage = cage
        self._proc = proc
        self._baseline = baseline
        names = [] if cage.portable else os.listdir(proc)
        self._known = frozenset(name for name in names if name.isdigit())
        self._inbound = unforked_memory(HEADER.size + CHUNK)
        self._start = self._end = self._data_left = 0
        self._is_blocked = False
        self._outbound = unforked_memory(HEADER.size + CHUNK)
        self._unsent = self._outbound[:0]
        self._output = Output(unforked_memory(_MAX_OUTPUT), unforked_memory(CHUNK))
        self._child: child.Child | None = None
        self._limit = 0
        self._most_files = Usage(0, 0)
        self._next_tick = 0.0
        # Without a pid namespace every process of the machine is looked at.
        self._tick = _TICK_SECONDS if cage.is_namespaced else _SLOW_TICK_SECONDS
        if cage.portable:
            self._tick = _PORTABLE_TICK_SECONDS
        self._wakeup, writer = os.pipe()
        for descriptor in (self._wakeup, writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        os.set_blocking(_STDIN, False)
        os.set_blocking(_STDOUT, False)

    def run(self) -> NoReturn:
        """Serves the host until it closes its end, then ends with everything in here."""
        while True:
            for descriptor, _ in self._poll():
                if descriptor == _STDIN:
                    self._read_host()
                elif descriptor == _STDOUT:
                    self._flush()
                elif descriptor == self._wakeup:
                    os.read(self._wakeup, 512)
                elif self._child is not None:
                    self._attend(self._child, descriptor)
            if self._child is not None:
                self._look_after(self._child)

    def _attend(self, it: child.Child, descriptor: int) -> None:
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
            bounds = Bounds(settings["memory_mb"], settings["processes"], settings["workspace_mb"])
            self._most_files = Usage(bounds.workspace_mb << 20, bounds.inodes)
            self._child = child.start(self._cage, settings)
            self._next_tick = time.monotonic() + self._tick
        elif kind == KILL and self._child is not None:
            self._end_child(self._child, "asked")
        elif kind == OUTPUT and self._child is not None:
            self._output.read_from(self._child.output)
            self._send(OUTPUT, self._output.text())

    def _read_child(self, it: child.Child) -> None:
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

    def _look_after(self, it: child.Child) -> None:
        if child.has_ended(it):
            self._end_child(it, "")
        elif time.monotonic() >= self._next_tick:
            started = time.monotonic()
            cause = self._find_excess(it)
            now = time.monotonic()
            self._next_tick = now + max(self._tick, _REST * (now - started))
            if cause:
                self._end_child(it, cause)

    def _find_excess(self, it: child.Child) -> str:
        if self._cage.portable:
            names = []
            if portable.sum_memory(it.pid) > self._baseline + self._limit:
                return "memory"
        elif self._cage.is_namespaced:
            names = memory.list_strangers(self._proc, self._known)
        else:
            names = memory.list_group(self._proc, it.pid)
        if memory.is_exceeded(self._proc, names, self._baseline, self._limit):
            return "memory"
        if self._cage.is_namespaced:
            return ""
        most = self._most_files
        used = measure(self._cage.box, most)
        size = used.size + measure_unlinked(self._proc, names)
        return "disk" if size > most.size or used.number > most.number else ""

    def _end_child(self, it: child.Child, cause: str) -> None:
        status, spent = child.kill(self._cage, it)
        while not it.is_silent and not cause:
            self._flush_all()
            self._read_child(it)
        self._flush_all()
        self._output.read_from(it.output)
        child.clear(self._cage, it)
        self._child, self._is_blocked = None, False
        head = json.dumps({"status": status, "cause": cause, "spent": spent}).encode()
        self._send(EXITED, HEADER.pack(EXITED, len(head)) + head + self._output.text())
        self._output.clear(0)

    def _shut_down(self) -> NoReturn:
        if self._child is not None:
            child.kill(self._cage, self._child)
            child.clear(self._cage, self._child)
        if not self._cage.is_namespaced:
            remove(self._cage.box)
        os._exit(0)
