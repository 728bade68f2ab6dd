"""How programs that are not called are built and started, and what comes of it."""

from __future__ import annotations

import shlex
import signal
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from evolve.errors import ProblemError, ProgramError
from evolve.records import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evolve.tables import Table

RECIPE_KEYS = ("build", "built", "build_seconds", "run")


class OutputFile(NamedTuple):
    """A file that a command left in the workspace."""

    path: str
    data: bytes
    is_executable: bool


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a problem's programs are built and started.

    Attributes:
        build: Shell script that is run once per program; empty for none.
        built: Files of its that are kept; all new ones when empty.
        build_seconds: Deadline of the build.
        run: Words of the command that starts a program; empty where it is only called.
    """

    build: str = ""
    built: tuple[str, ...] = ()
    build_seconds: float = 60.0
    run: tuple[str, ...] = ()


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
    """What came of a command; all of it is the program's own word but the times.

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


def read_recipe(table: Table) -> Recipe:
    """Reads the keys `build`, `built`, `build_seconds` and `run` of a table.

    Raises:
        ProblemError: One of them has the wrong type, or cannot be split into words.
    """
    build = table.text("build", "").strip()
    built = table.texts("built", ())
    if built and not build:
        raise ProblemError(f"{table.where}: `built`: expected a `build` that makes the files")
    return Recipe(
        build=build,
        built=_check_paths(table, built),
        build_seconds=table.number("build_seconds", 60.0, above=0.0),
        run=_read_words(table),
    )


def check_path(path: str, where: str) -> str:
    """Returns a path back if it is one inside the workspace.

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
    """Makes a command of what an evaluator gives.

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
        raise ProgramError(Status.CRASHED, reason, finished.stderr)
    said = next(
        (line.strip() for line in reversed(finished.stderr.splitlines()) if line.strip()), ""
    )
    plain = f"`{name}` exited with code {finished.code}"
    reason = plain + (f": {said[:200]}" if said else "")
    raise ProgramError(Status.ERROR, reason, finished.stderr, plain=plain)


def _check_paths(table: Table, paths: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(check_path(path, f"{table.where}: `built`") for path in paths)
    except ValueError as error:
        raise ProblemError(str(error)) from None


def _read_words(table: Table) -> tuple[str, ...]:
    value = table.values.get("run", "")
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return tuple(value)
    text = table.text("run", "")
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ProblemError(
            f"{table.where}: `run`: expected a command's words, got {text!r:.200}: {error}"
        ) from None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)
