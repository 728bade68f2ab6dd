"""A backend with its warm guest: what all backends share but the way to start one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from evolve.errors import SandboxError
from evolve.sandbox.canary import judge
from evolve.sandbox.process import starter
from evolve.sandbox.session import WarmSession

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from evolve.records import Program
    from evolve.sandbox.link import Link
    from evolve.sandbox.protocol import Isolation, Limits
    from evolve.scoring.commands import OutputFile

_MAX_SESSIONS = 500


class WarmSandbox:
    """A sandbox around a guest that is started when needed and replaced on any doubt.

    Args:
        name: Of the backend.
        start: Starts a guest.

    Attributes:
        isolation: What the last canary saw; None before the first.
    """

    def __init__(self, name: str, start: Callable[[], Link]) -> None:
        self.name = name
        self.isolation: Isolation | None = None
        self._start = start
        self._link: Link | None = None
        self._session: WarmSession | None = None
        self._sessions = 0
        self._ending: Future[None] | None = None

    def prove(self, hidden: tuple[Path, ...] = ()) -> Isolation:
        """Runs the canary in the first session; see `protocol.Sandbox`."""
        self.isolation = judge(self, hidden)
        return self.isolation

    def open(
        self, program: Program, limits: Limits, built: Sequence[OutputFile] = ()
    ) -> WarmSession:
        """Starts a program in a fresh child; see `protocol.Sandbox`."""
        if self._session is not None:
            raise SandboxError(f"{self.name}: a session is open already; close it first")
        is_worn = self._sessions >= _MAX_SESSIONS
        if self._link is None or is_worn or not self._link.is_alive:
            self._end_guest()
            link = self._start()
            link.await_ready()
            self._link, self._sessions = link, 0
        self._sessions += 1
        self._link.fit(limits)
        self._session = WarmSession(self._link, program, limits, built, self._on_close)
        return self._session

    @property
    def told(self) -> dict[str, object]:
        """Returns what the guest said of itself when it started."""
        return dict(self._link.told) if self._link else {}

    @property
    def why_no_cgroup(self) -> str:
        """Returns why the kernel does not limit all processes of the guest together; else empty."""
        return self._link.why_no_cgroup if self._link else "no guest runs"

    def close(self) -> None:
        """Ends the guest and everything in it; safe to call twice."""
        if self._session is not None:
            self._session.close()
        self._end_guest()

    def _on_close(self, is_doubtful: bool) -> None:  # noqa: FBT001 - a callback of one argument
        self._session = None
        if is_doubtful and self._link is not None:
            # What was asked is answered: nobody need wait until the last process is gone, but the
            # next program.
            self._ending = starter(os.getpid()).submit(self._link.kill)
            self._link = None

    def _end_guest(self) -> None:
        if self._ending is not None:
            ending, self._ending = self._ending, None
            ending.result()
        if self._link is not None:
            self._link.end()
            self._link = None
