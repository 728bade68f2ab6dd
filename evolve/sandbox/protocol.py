"""What every sandbox backend offers, in prose and types.

A `Sandbox` is a warm guest: an interpreter inside the isolation, with the declared packages
imported once. `open` forks a fresh child of it for one program: own workspace, own temporary
folders, own process tree. Everything of the child is dead and wiped when the session closes,
whatever it did. One sandbox serves one session at a time; a pool holds several.

A program's failure is a `ProgramError` with a status; a backend's own failure is a `SandboxError`.
The two are never mixed up: a backend on which any doubt falls restarts its guest before the next
session, and raises only when that fails as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from evolve.records import Program
    from evolve.scoring.commands import Command, OutputFile


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use.

    Attributes:
        seconds: Wall-clock time of one call, and of importing the program, together.
        memory_mb: Memory of the whole process tree, beyond the warm guest's own.
        processes: Processes and threads at a time.
        workspace_mb: Files in the workspace and the temporary folders together.
        reply_mb: Size of one returned value.
        output_kb: How much standard output and error is kept.
        core: The only core that its processes may use; None for any.
        is_alone: Whether its first process may start no other; for programs held to a core.
    """

    seconds: float = 10.0
    memory_mb: int = 1024
    processes: int = 32
    workspace_mb: int = 64
    reply_mb: int = 64
    output_kb: int = 16
    core: int | None = None
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A value that came back from the sandbox.

    Attributes:
        value: Plain data and NumPy arrays, decoded strictly.
        seconds: Wall time of the call, measured outside.
        complete: False when a generator was cut at its deadline and `value` is its last one.
        inside_seconds: Wall time by the clock inside, where it was asked for; the program's word.
    """

    value: Any
    seconds: float
    complete: bool = True
    inside_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a canary saw a backend enforce.

    Attributes:
        backend: Name of the backend.
        enforced: What was proven, in words: `network`, `files`, `processes`, `memory`, ...
        missing: What is not enforced here, each with the way to get it.
    """

    backend: str
    enforced: tuple[str, ...]
    missing: tuple[str, ...] = ()

    @property
    def is_strong(self) -> bool:
        """Returns whether network and host files are both out of reach."""
        return {"network", "files"} <= set(self.enforced)


class Session(Protocol):
    """One program inside the sandbox, from its start to its death."""

    def call(
        self,
        function: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
        is_timed: bool = False,
    ) -> Answer:
        """Calls a function of the program's entry module and waits for its value.

        The module is imported by the first call; its time counts against that call. State of
        the module lives on between calls of one session. A generator's last value before the
        deadline counts.

        Args:
            function: Name of a function at the top level of the entry module.
            args: Plain data and NumPy arrays.
            kwargs: The same, by name.
            timeout_seconds: Deadline; `Limits.seconds` when None.
            is_timed: Whether the clock inside is asked too.

        Raises:
            ProgramError: The program failed: `error`, `timeout`, `memory` or `crashed`. After
                anything but `error` the session is over.
            SandboxError: The backend failed.
        """
        ...

    def call_many(
        self,
        function: str,
        argument_lists: Sequence[Sequence[Any]],
        *,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """Calls a function once for each list of arguments, in one round trip.

        The deadline is for all of them together; the value is the list of results.

        Raises:
            ProgramError: As for `call`; the first failure ends the series.
            SandboxError: The backend failed.
        """
        ...

    def run(self, command: Command, *, timeout_seconds: float | None = None) -> Answer:
        """Starts a command in the workspace and waits for its end.

        What it leaves running is killed. Files live on between the commands of one session.

        Args:
            command: What to start, with its input.
            timeout_seconds: Deadline; `Limits.seconds` when None.

        Returns:
            The value is a `commands.Finished`, whatever the exit code.

        Raises:
            ProgramError: As for `call`; also when the command cannot be started, writes more
                than `Limits.reply_mb`, or leaves a file out that is asked for.
            SandboxError: The backend failed.
        """
        ...

    printed: bytes
    """What a closed session wrote to standard output and standard error, cut in the middle."""

    @property
    def cpu_seconds(self) -> float:
        """Returns the processor time of a closed session, as the kernel counted it.

        It begins where the program's code is first read, and holds all of its processes but
        those that none waited for; 0 when the sandbox broke.
        """
        ...

    def close(self) -> None:
        """Kills what is left of the program and wipes its files; safe to call twice."""
        ...


class Sandbox(Protocol):
    """A backend with its warm guest."""

    name: str

    def prove(self, hidden: tuple[Path, ...] = ()) -> Isolation:
        """Runs the canary: small attacks inside a session, judged from what comes back.

        Args:
            hidden: Files, and folders of such, that no program may read by their own paths.

        Raises:
            SandboxError: The backend cannot start here; the message has the remedy.
        """
        ...

    def open(self, program: Program, limits: Limits, built: Sequence[OutputFile] = ()) -> Session:
        """Starts a program in a fresh child of the warm guest.

        Args:
            program: Its files are put into the workspace.
            limits: What it may use.
            built: What a build made of it; put into the workspace too.

        Raises:
            SandboxError: The guest cannot be started.
        """
        ...

    def close(self) -> None:
        """Ends the guest and everything in it; safe to call twice."""
        ...
