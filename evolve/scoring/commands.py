"""Commands that run in a program's workspace, and their results."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from evolve.errors import ProgramError
from evolve.records import Status


class OutputFile(NamedTuple):
    """A file that a command left in the workspace."""

    path: str
    data: bytes
    is_executable: bool


@dataclass(frozen=True, slots=True)
class Command:
    """A command to start in the workspace.

    Attributes:
        words: The command and its arguments; no shell reads them.
        stdin: Its standard input.
        files: Files put into the workspace before, by path.
        outputs: Paths of the files that are brought back.
        collects: Whether all files that are new in the workspace are brought back instead.
        is_alone: Whether it may start no other process.
    """

    words: tuple[str, ...]
    stdin: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    collects: bool = False
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left; all but the times is the program's own word.

    Attributes:
        code: Exit code; the negative number of the signal that ended it.
        stdout: What it wrote on standard output, whole.
        stderr: Beginning and end of what it wrote on standard error, without control characters.
        files: Files that were asked for.
        seconds: Wall time, measured outside the sandbox.
        cpu_seconds: Processor time of it and of the processes that it waited for.
    """

    code: int
    stdout: bytes
    stderr: str = ""
    files: tuple[OutputFile, ...] = ()
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def file(self, path: str) -> bytes:
        """Returns the content of a file that was asked for."""
        return next(data for name, data, _ in self.files if name == path)

    @property
    def text(self) -> str:
        """Returns standard output as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout.decode(errors="replace")


def check_path(path: str, where: str) -> str:
    """Returns a path if it lies inside the workspace.

    Raises:
        ValueError: It is absolute, empty, or leads out of it.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in path:
        raise ValueError(f"{where}: expected a path inside the workspace, got {path!r}")
    return str(pure)


def make_command(
    words: tuple[str, ...],
    stdin: str | bytes,
    files: Mapping[str, str | bytes] | None,
    outputs: Sequence[str],
) -> Command:
    """Makes a command from what an evaluator asks for.

    Raises:
        ValueError: There are no words, or a path leads out of the workspace.
    """
    if not words:
        raise ValueError('run: expected `command=...`, or `run = "..."` in [program]')
    given = {check_path(path, "run"): _bytes(data) for path, data in (files or {}).items()}
    wanted = tuple(check_path(path, "run") for path in outputs)
    return Command(words, _bytes(stdin), given, wanted)


def check_code(finished: Finished, name: str) -> None:
    """Checks the exit code of a command.

    Raises:
        ProgramError: It stands for a failure.
    """
    if not finished.code:
        return
    if finished.code < 0:
        reason = f"`{name}` was ended by {_signal_name(-finished.code)}"
        raise ProgramError(Status.CRASHED, reason)
    lines = [line.strip() for line in finished.stderr.splitlines() if line.strip()]
    plain = f"`{name}` exited with code {finished.code}"
    reason = f"{plain}: {lines[-1][:200]}" if lines else plain
    raise ProgramError(Status.ERROR, reason, plain=plain)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)
