"""Where one evaluator process tries programs: its sandbox, and what their builds made."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from evolve.errors import ProgramError
from evolve.problem import Recipe
from evolve.records import Program, Status
from evolve.sandbox.backends import Sandbox
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.replies import Command, Finished, OutputFile
from evolve.sandbox.session import SandboxSession

# Programs whose builds are kept; a build is no larger than the reply that brings it.
_MOST_BUILDS = 8
# What compilers need; a program's own limits apply where they are higher.
_BUILD_NEEDS = {"memory_mb": 2048, "processes": 64, "workspace_mb": 512}
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

    Attributes:
        has_timed: Whether the evaluation has measured time.
        printed: The end of what its program printed.
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
        self.limits = limits
        self.recipe = recipe
        self.on_wait = on_wait
        self.has_timed = False
        self.printed = b""
        self._sandbox = sandbox
        self._is_fresh = is_fresh
        self._answer = answer
        self._session: SandboxSession | None = None
        self._builds: dict[str, tuple[OutputFile, ...]] = {}
        self._watched: Program | None = None
        self._running: Program | None = None

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
    def fresh(
        self, program: Program, *, core: int | None = None, is_alone: bool = False
    ) -> Iterator[SandboxSession]:
        """Yields a session in a workspace that holds only the program and what was built.

        Args:
            program: What is started.
            core: The only core that its processes may use; None for any.
            is_alone: Whether its first process may start no other.

        Raises:
            ProgramError: The build failed.
            SandboxError: The sandbox broke.
        """
        reserves = bool(self.recipe.run)
        limits = self.limits._replace(core=core, is_alone=is_alone, reserves=reserves)
        try:
            yield self.open(program, limits)
        finally:
            self.clear()

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
        # Those not used for longest come first, and are forgotten first.
        self._builds[program.id] = self._make(program) if built is None else built
        if len(self._builds) > _MOST_BUILDS:
            del self._builds[next(iter(self._builds))]
        return self._builds[program.id]

    def _make(self, program: Program) -> tuple[OutputFile, ...]:
        needs = {
            name: max(getattr(self.limits, name), least) for name, least in _BUILD_NEEDS.items()
        }
        limits = self.limits._replace(seconds=self.recipe.build_seconds, reserves=True, **needs)
        # In a child of its own, of which nothing but the files is left.
        self._session = self._sandbox.open(program, limits)
        built = self.recipe.built
        command = Command(("sh", "-eu", "-c", self.recipe.build), outputs=built, collects=not built)
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


def _describe(code: int, output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
    how = f"exited with code {code}" if code > 0 else f"was ended by signal {-code}"
    return f"build {how}" + (f": {telling[:_REASON_CHARACTERS]}" if telling else "")
