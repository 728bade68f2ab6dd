"""Where one evaluator process tries programs: its sandbox, and what their builds made."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evolve.errors import ProgramError
from evolve.evaluation.machine import hold_quiet
from evolve.problem import Recipe
from evolve.records import Program, SourceFile, Status
from evolve.sandbox.backends import Sandbox
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.session import SandboxSession
from evolve.scoring.executions import Command, Finished, OutputFile

# What is kept of builds: how many, and their bytes together.
_MOST_BUILDS, _CACHE = 64, 256 << 20
_FILE_BYTES = 512
# What compilers need; a program's own limits apply where they are higher.
_BUILD_MEMORY_MB = 2048
_BUILD_PROCESSES = 64
_BUILD_WORKSPACE_MB = 512
_REASON_CHARACTERS = 200
_PRINTED_BYTES = 1 << 14
# What a shell and our guest say of a command that they do not find.
_NOT_FOUND = re.compile(
    r"(?:^|: )([\w.+-]+): (?:command )?not found|`([\w.+-]+)` cannot be started"
)


class ProgramRunner:
    """Opens sessions for the programs of one evaluation, one at a time.

    Args:
        sandbox: Where they run.
        limits: What a program may use.
        recipe: How programs are built and started.
        on_wait: Called at both ends of a wait for other processes.
        is_fresh: Whether each evaluation has a new sandbox.
        answer: Answers what a program asks; None where it may not ask.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        limits: ProgramLimits,
        recipe: Recipe,
        on_wait: Callable[[], None] = lambda: None,
        *,
        is_fresh: bool = False,
        answer: Callable[[Any], list[str]] | None = None,
    ) -> None:
        self._answer = answer
        self.on_wait = on_wait
        self.limits = limits
        self.recipe = recipe
        self._sandbox = sandbox
        self._is_fresh = is_fresh
        self._session: SandboxSession | None = None
        self._builds: dict[str, tuple[OutputFile, ...]] = {}
        self.has_timed = False
        self._watched: Program | None = None
        self._running: Program | None = None
        self.printed = b""

    def begin(self, program: Program) -> None:
        """Begins an evaluation: from here on, what the program prints is kept."""
        self._watched, self.printed, self.has_timed = program, b"", False

    def open(self, program: Program, limits: ProgramLimits | None = None) -> SandboxSession:
        """Builds a program if it was not, and starts it; ends what ran before.

        Raises:
            ProgramError: The build failed.
            SandboxError: The sandbox broke.
        """
        self.clear()
        built = self._build(program)
        used = (limits or self.limits)._replace(asks=self._answer is not None)
        self._session = self._sandbox.open(program, used, built)
        self._session.answer = self._answer
        self._running = program
        return self._session

    @contextlib.contextmanager
    def limited(self, limits: ProgramLimits) -> Iterator[None]:
        """Lets programs use other amounts while the context is open."""
        usual, self.limits = self.limits, limits
        try:
            yield
        finally:
            self.limits = usual

    def end(self) -> None:
        """Ends an evaluation, and with a fresh sandbox for each program also the sandbox."""
        self.clear()
        if self._is_fresh:
            self._sandbox.close()

    def is_open(self, session: SandboxSession | None) -> bool:
        """Returns whether a session is the one that was opened last."""
        return session is not None and session is self._session

    def clear(self) -> None:
        """Ends what runs."""
        if self._session is not None:
            self._session.close()
            if self._running is self._watched:
                self.printed = (self.printed + self._session.printed)[-_PRINTED_BYTES:]
            self._session = self._running = None

    def _build(self, program: Program) -> tuple[OutputFile, ...]:
        if not self.recipe.build:
            return ()
        built = self._builds.pop(program.id, None)
        if built is None:
            built = self._make(program)
        # Those not used for longest come first, and are forgotten first.
        self._builds[program.id] = built
        while len(self._builds) > _MOST_BUILDS or sum(map(_size, self._builds.values())) > _CACHE:
            del self._builds[next(iter(self._builds))]
        return built

    def _make(self, program: Program) -> tuple[OutputFile, ...]:
        limits = self.limits._replace(
            seconds=self.recipe.build_seconds,
            memory_mb=max(self.limits.memory_mb, _BUILD_MEMORY_MB),
            processes=max(self.limits.processes, _BUILD_PROCESSES),
            workspace_mb=max(self.limits.workspace_mb, _BUILD_WORKSPACE_MB),
            reserves=True,
        )
        # In a child of its own, of which nothing but the files is left.
        self._session = self._sandbox.open(program, limits)
        command = Command(
            ("sh", "-eu", "-c", self.recipe.build),
            outputs=self.recipe.built,
            collects=not self.recipe.built,
        )
        try:
            done: Finished = self._session.run(command).value
        except ProgramError as error:
            raise ProgramError(
                error.status,
                f"build: {error.reason}",
                error.detail,
                plain=f"build: {error.plain}",
                limit="build_seconds" if error.limit == "seconds" else error.limit,
            ) from None
        finally:
            self.clear()
        if done.code:
            output = f"{done.text}{done.stderr}"
            raise ProgramError(Status.ERROR, _describe(done.code, output), output)
        return done.files


def find_tool(said: str) -> str:
    """Returns how to show programs a tool that they do not find and the user does."""
    for name in filter(None, (one for found in _NOT_FOUND.findall(said) for one in found)):
        path = shutil.which(name)
        if path is not None:
            place = Path(path).parent
            shown = place.parent if place.name == "bin" else place
            return (
                f"; `{name}` is there for you in {place}, but programs see the system's folders "
                f'alone: in problem.toml, under [sandbox], write `show = ["{shown}"]`'
            )
    return ""


class ProgramSessions:
    """Opens the sessions that the evaluator's handle of one program needs.

    Args:
        runner: Where they run.
        program: The program.
    """

    def __init__(self, runner: ProgramRunner, program: Program) -> None:
        self._runner = runner
        self._program = program
        self._session: SandboxSession | None = None
        self._called_seconds = 0.0

    @property
    def files(self) -> Mapping[str, str]:
        """Returns the program's texts by path."""
        return dict(self._program.files)

    @property
    def start(self) -> tuple[str, ...]:
        """Returns the words of the command that starts the program; none where it is called."""
        return self._runner.recipe.run

    def restart(self) -> None:
        """Ends the program's process; the next call starts another."""
        if self._runner.is_open(self._session):
            self._runner.clear()

    def other(self, files: Mapping[str, str]) -> ProgramSessions:
        """Returns the same for a program of the evaluator's own, on the same runner."""
        program = Program(tuple(SourceFile(*item) for item in files.items()))
        return ProgramSessions(self._runner, program)

    @contextlib.contextmanager
    def shared(self, timeout_seconds: float | None) -> Iterator[tuple[SandboxSession, float]]:
        """Yields the session of all calls and the deadline of this one.

        Its time is taken off the limit of all calls together.

        Raises:
            TypeError: The program is not Python.
            ProgramError: Nothing is left of it, or the build failed.
            SandboxError: The sandbox broke.
        """
        path = self._program.entry.path
        if not path.endswith(".py"):
            raise TypeError(
                f"call: expected a program in Python, got {path}; read a text in `program.files`, "
                "start a command by `program.run`"
            )
        limit = self._runner.limits.seconds
        left = limit - self._called_seconds
        if left <= 0:
            reason = f"no answer within {limit:g} s: earlier calls have used them up"
            raise ProgramError(Status.TIMEOUT, reason, limit="seconds")
        # What another program of this evaluation ran in between has ended the state of this one.
        if self._session is None or not self._runner.is_open(self._session):
            self._session = self._runner.open(self._program)
        session = self._session
        started, asked = time.monotonic(), session.asked_seconds
        try:
            yield session, left if timeout_seconds is None else min(timeout_seconds, left)
        except ProgramError as error:
            if error.status == Status.TIMEOUT and self._called_seconds:
                error.reason += f" (earlier calls took {self._called_seconds:.2g} s)"
                error.limit = "seconds" if (timeout_seconds or left) >= left else ""
            raise
        finally:
            waited = session.asked_seconds - asked
            self._called_seconds += time.monotonic() - started - waited

    @contextlib.contextmanager
    def fresh(self, *, core: int | None = None, is_alone: bool = False) -> Iterator[SandboxSession]:
        """Yields a session in a workspace that holds only the program and what was built.

        Args:
            core: The only core that its processes may use; None for any.
            is_alone: Whether its first process may start no other.

        Raises:
            ProgramError: The build failed.
            SandboxError: The sandbox broke.
        """
        limits = self._runner.limits._replace(
            core=core,
            is_alone=is_alone,
            reserves=bool(self._runner.recipe.run),
        )
        try:
            yield self._runner.open(self._program, limits)
        finally:
            self._runner.clear()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[int]:
        """Waits until nothing else on this machine is timed, and yields a core for the program.

        Raises:
            SandboxError: The lock cannot be opened.
        """
        self._runner.has_timed = True
        with hold_quiet(self._runner.on_wait) as core:
            yield core


def _size(files: tuple[OutputFile, ...]) -> int:
    return sum(_FILE_BYTES + len(file.data) for file in files)


def _describe(code: int, output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
    how = f"exited with code {code}" if code > 0 else f"was ended by signal {-code}"
    return f"build {how}" + (f": {telling[:_REASON_CHARACTERS]}" if telling else "")
