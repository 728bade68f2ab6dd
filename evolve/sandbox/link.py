"""The host's end of a guest: the frames to and from it."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from evolve.errors import SandboxError
from evolve.sandbox.guest import resources, wire
from evolve.sandbox.guest.wire import ProgramLimits

_READ_BYTES = 2 * wire.CHUNK
_START_SECONDS = 60.0
_GRACE_SECONDS = 0.5
END_SECONDS = 5.0
LOG_BYTES = 8192
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
    """The frames to and from a running guest.

    Args:
        name: Of the backend, for messages.
        process: Of the guest: a `HostProcess`, or what does the same elsewhere.
        package_place: Where a missing package has to be installed.
        advice: Added to what is said of a guest that does not start.
    """

    _fitted: ProgramLimits | None = None
    _kills = 0
    _is_closed = False

    def __init__(
        self,
        name: str,
        process: Any,
        package_place: str = "where evolve is installed",
        advice: str = "",
    ) -> None:
        self._name = name
        self._process = process
        self._package_place = package_place
        self._advice = advice
        self._to, self._from = process.ends
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        self._received = bytearray()
        self._unsent: list[memoryview] = []
        self.greeting: dict[str, Any] = {}
        self.why_no_cgroup: str = process.why_no_cgroup

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
        if frame[0] != wire.READY:
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
        if limits == self._fitted:
            return
        try:
            self._process.limit(limits)
        except OSError as error:
            reason = str(error)[:300]
            raise SandboxError(f"{self._name}: memory cannot be limited: {reason}") from None
        self._fitted = limits

    def ran_out_of_memory(self) -> bool:
        """Returns whether the kernel killed something for the guest's memory since last time."""
        before, self._kills = self._kills, self._process.count_memory_kills()
        return self._kills > before

    def find_killer(self) -> str:
        """Returns who ended a guest that is gone; empty if its program may have done it."""
        killer: str = self._process.find_killer(self._kills)
        return killer

    def send(self, kind: bytes, body: bytes = b"") -> None:
        """Queues bytes of a kind in frames; `receive` writes them."""
        view = memoryview(body)
        for start in range(0, len(body) or 1, wire.CHUNK):
            self._unsent.append(memoryview(wire.pack_frame(kind, view[start : start + wire.CHUNK])))

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
                frame = wire.take_frame(self._received)
            except wire.FrameError as error:
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
            self._process.hang_up()
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
            resources.kill_session(self._process.pid)
            resources.remove(self.greeting["host_folder"])
        self._drain()
        self._unsent.clear()
        self._process.close()

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
        self._received += self._process.unwrap(data)

    def _drain(self) -> None:
        # The stream ends once the last process of the guest is gone.
        deadline = time.monotonic() + END_SECONDS
        poller = select.poll()
        poller.register(self._from, select.POLLIN)
        while time.monotonic() < deadline and poller.poll(END_SECONDS * 1000):
            with contextlib.suppress(BlockingIOError):
                try:
                    if not os.read(self._from, wire.CHUNK):
                        return
                except ConnectionError:
                    return

    def _said(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        lines = self._process.read_log().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")[:300]


@functools.cache
def starter(_process: int) -> ThreadPoolExecutor:
    """Returns the thread that guests are started on.

    Args:
        _process: The id of the calling process.
    """
    # Guests die with the thread that started them: it must live as long as this process, and a
    # forked copy of this process has no threads.
    return ThreadPoolExecutor(1, "guest-starter")
