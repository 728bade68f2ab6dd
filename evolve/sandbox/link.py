"""The host's end of a guest: its process and the stream of frames to and from it."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from evolve.errors import SandboxError
from evolve.sandbox.cgroup import Cgroup, NoCgroupError, make_group_or_scope
from evolve.sandbox.guest import resources, wire
from evolve.sandbox.guest.wire import (
    CHUNK,
    KILLS,
    READY,
    SIGNALLED,
    FrameError,
    ProgramLimits,
    take_frame,
)

_READ_BYTES = 2 * CHUNK
_START_SECONDS = 60.0
_GRACE_SECONDS = 0.5
_END_SECONDS = 5.0
_DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "PIL": "pillow",
    "cv2": "opencv-python",
    "yaml": "pyyaml",
}


class LinkLostError(Exception):
    """The guest ended, or sent what no guest sends."""


class MissingPackageError(SandboxError):
    """A declared package cannot be imported, whatever the backend."""


class Link:
    """A running guest.

    Args:
        command: Starts it.
        environment: All of its environment.
        name: Of the backend, for messages.
    """

    _package_place = "where evolve is installed"
    _advice = ""
    _group: Cgroup | None = None
    _fitted: ProgramLimits | None = None
    _kills = 0
    why_no_cgroup = ""
    """Why the kernel does not limit all processes of the guest together; empty where it does."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], name: str) -> None:
        files = contextlib.ExitStack()
        errors = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it does
        # Where none can be made the guest's own watchdog remains; the canary reports it.
        try:
            self._group = make_group_or_scope()
            command = self._group.wrap(command)
        except NoCgroupError as error:
            self.why_no_cgroup = str(error)
        process = (
            starter(os.getpid())
            .submit(
                subprocess.Popen,
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
            .result()
        )
        ends = [files.enter_context(end) for end in (process.stdin, process.stdout) if end]
        self._adopt(name, process, [end.fileno() for end in ends], errors, files)

    def _adopt(
        self,
        name: str,
        process: Any,
        ends: Sequence[int],
        errors: IO[bytes],
        files: contextlib.ExitStack,
    ) -> None:
        """Takes over a started guest.

        Args:
            name: Of the backend.
            process: Has `pid`, `poll`, `wait` and `kill` as a `Popen`.
            ends: Descriptors to write to it and to read from it.
            errors: Holds what it wrote to standard error.
            files: Closes all of that.
        """
        self._name = name
        self._process = process
        self._to, self._from = ends
        self._errors = errors
        self._files = files
        self._is_closed = False
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        self._received = bytearray()
        self._unsent: list[memoryview] = []
        self.greeting: dict[str, Any] = {}

    def await_ready(self) -> None:
        """Waits until the guest is warm.

        Raises:
            SandboxError: It does not get there.
        """
        try:
            frame = self.receive(time.monotonic() + _START_SECONDS)
        except LinkLostError:
            frame = None
        if frame is None:
            said = self._said()
            self.kill()
            raise SandboxError(
                f"{self._name}: the guest did not start: {said or 'no reason given'}{self._advice}"
            )
        greeting = wire.decode(frame[1])
        if frame[0] != READY:
            self.kill()
            reason, package = greeting["reason"], greeting["package"]
            if not package:
                raise SandboxError(f"{self._name}: {reason}")
            # Its name on the index of packages may be another one.
            name = _DISTRIBUTIONS.get(package.partition(".")[0], "it")
            raise MissingPackageError(
                f"{reason}; install {name} {self._package_place}, with its libraries"
            )
        self.greeting = greeting

    def fit(self, limits: ProgramLimits) -> None:
        """Makes room for a program where the guest as a whole is limited.

        Raises:
            SandboxError: The limits cannot be set.
        """
        if limits != self._fitted:
            self._limit(limits)
            self._fitted = limits

    def ran_out_of_memory(self) -> bool:
        """Returns whether the kernel killed something for the guest's memory since last time."""
        before = self._kills
        self._kills = self._group.out_of_memory_kills if self._group is not None else 0
        return self._kills > before

    def find_killer(self) -> str:
        """Returns who ended a guest that is gone; empty if its program may have brought it about.

        No program can send its guest a signal; what it can do is to use up memory, of which its
        own processes are killed first.
        """
        if self.ran_out_of_memory():
            return ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_END_SECONDS)
            number = -code if code < 0 else code - SIGNALLED
            if number in KILLS:
                return f"the sandbox was killed from outside ({signal.Signals(number).name})"
        return ""

    def send(self, kind: bytes, body: bytes = b"") -> None:
        """Queues bytes of a kind in frames; `receive` writes them."""
        view = memoryview(body)
        for start in range(0, len(body) or 1, CHUNK):
            self._unsent.append(memoryview(wire.pack_frame(kind, view[start : start + CHUNK])))

    @property
    def is_alive(self) -> bool:
        """Returns whether the guest's process runs."""
        return not self._is_closed and self._process.poll() is None

    @property
    def is_stuck(self) -> bool:
        """Returns whether something queued could not be written yet."""
        return bool(self._unsent)

    def receive(self, deadline: float) -> tuple[bytes, bytes] | None:
        """Waits for the next frame and writes meanwhile what is queued.

        Args:
            deadline: By `time.monotonic`.

        Returns:
            Kind and payload; None when the deadline passes first.

        Raises:
            LinkLostError: The guest ended or broke the protocol.
        """
        while True:
            try:
                frame = take_frame(self._received)
            except FrameError as error:
                raise LinkLostError(str(error)) from None
            if frame is not None:
                return frame
            poller = select.poll()
            poller.register(self._from, select.POLLIN)
            self._write()
            if self._unsent:
                poller.register(self._to, select.POLLOUT)
            left = deadline - time.monotonic()
            if left <= 0 or not (ready := poller.poll(left * 1000 + 1)):
                return None
            if any(descriptor == self._from for descriptor, _ in ready):
                self._read()

    def end(self) -> None:
        """Asks the guest to end with everything in it, and kills it if it does not."""
        if not self._is_closed:
            self._hang_up()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_SECONDS)
            self.kill()

    def kill(self) -> None:
        """Kills the guest and everything in it; safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._process.kill()
        self._process.wait()
        if self.greeting.get("host_folder"):
            kill_session(self._process.pid)
            resources.remove(self.greeting["host_folder"])
        self._drain()
        if self._group is not None:
            self._group.remove()
        self._unsent.clear()
        self._files.close()

    def _limit(self, limits: ProgramLimits) -> None:
        try:
            if self._group is not None:
                self._group.fit(limits)
        except OSError as error:
            raise SandboxError(f"{self._name}: the cgroup cannot be limited: {error}") from None

    def _hang_up(self) -> None:
        self._process.stdin.close()

    def _write(self) -> None:
        try:
            while self._unsent:
                count = os.write(self._to, self._unsent[0])
                rest = self._unsent[0][count:]
                self._unsent[:1] = [rest] if rest else []
        except BlockingIOError:
            pass
        except ConnectionError:
            raise LinkLostError("the guest closed its input") from None

    def _read(self) -> None:
        try:
            data = os.read(self._from, _READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            raise LinkLostError("the guest ended")
        self._accept(data)

    def _accept(self, data: bytes) -> None:
        self._received += data

    def _drain(self) -> None:
        # The stream ends once the last process of the guest is gone.
        deadline = time.monotonic() + _END_SECONDS
        poller = select.poll()
        poller.register(self._from, select.POLLIN)
        while time.monotonic() < deadline and poller.poll(_END_SECONDS * 1000):
            with contextlib.suppress(BlockingIOError):
                try:
                    if not os.read(self._from, CHUNK):
                        return
                except ConnectionError:
                    return

    def _said(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        self._errors.seek(0)
        lines = self._errors.read(8192).decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")[:300]


def count_memory_kills() -> int:
    """Returns how many processes the kernel has killed for lack of memory; 0 where it is silent."""
    with contextlib.suppress(OSError, ValueError):
        _, found, rest = Path("/proc/vmstat").read_text().partition("\noom_kill ")
        return int(rest.split(maxsplit=1)[0]) if found else 0
    return 0


def kill_session(leader: int) -> None:
    """Kills every process of a session but its leader, and waits until they are gone."""
    # Without a pid namespace children outlive a guest that is killed, but none of them may
    # leave its session.
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        while pids := set(resources.list_group(proc, leader, is_session=True)) - {str(leader)}:
            for pid in map(int, pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
    finally:
        os.close(proc)


@functools.cache
def starter(_process: int) -> ThreadPoolExecutor:
    """Returns the thread that guests are started on.

    Args:
        _process: The id of the calling process.
    """
    # Guests die with the thread that started them: it must live as long as this process, and a
    # forked copy of this process has no threads.
    return ThreadPoolExecutor(1, "guest-starter")
