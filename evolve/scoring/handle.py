"""A program as its evaluator sees it: functions to call, commands to run, and models to ask."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from evolve.errors import ProgramError
from evolve.files import check_path
from evolve.records import Program, SourceFile, Status
from evolve.sandbox.replies import Command, Finished
from evolve.sandbox.session import SandboxSession, name_signal
from evolve.scoring.asking import PROGRAM, ask_as, count_asked
from evolve.scoring.runner import ProgramRunner
from evolve.scoring.timing import Sample, Timing, hold_quiet, measure_times


class ProgramHandle:
    """The program as its evaluator sees it: what it can be asked for, and nothing else.

    Args:
        runner: Where it runs.
        program: The program.
        is_own: Whether it is the evaluator's own, so that its failures are the evaluator's.
        is_start: Whether it is the problem's starting program, unchanged.
    """

    def __init__(
        self,
        runner: ProgramRunner,
        program: Program,
        *,
        is_own: bool = False,
        is_start: bool = False,
    ) -> None:
        self.is_start = is_start
        self._runner = runner
        self._program = program
        self._is_own = is_own
        self._session: SandboxSession | None = None
        self._seconds = self._called_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Wall time of all calls so far, measured outside the sandbox."""
        return self._seconds

    @property
    def files(self) -> Mapping[str, str]:
        """Texts by path: all that there is of a program that is no code."""
        return dict(self._program.files)

    def call(
        self, function: str, *args: Any, timeout_seconds: float | None = None, **kwargs: Any
    ) -> Any:
        """Calls a function at the top level of the program's first file.

        Args:
            function: Its name.
            *args: Plain data and NumPy arrays; the program gets copies.
            timeout_seconds: Deadline; by default, and at most, what earlier calls have left of the
                problem's limit, which is that of all calls of an evaluation together.
            **kwargs: The same as `args`, by name.

        Returns:
            The value as plain data and NumPy arrays; nothing about it can be trusted.

        Raises:
            ProgramError: The program failed; not to be caught by evaluators.
        """
        with self._calling(timeout_seconds) as (session, seconds):
            answer = session.call(function, args, kwargs, timeout_seconds=seconds)
        self._seconds += answer.seconds
        return answer.value

    def call_many(
        self,
        function: str,
        argument_lists: Sequence[Sequence[Any]],
        *,
        timeout_seconds: float | None = None,
    ) -> list[Any]:
        """Calls a function once for each list of arguments, in one round trip.

        The deadline is that of all of them together; see `call`.

        Returns:
            One value for each list of arguments, in their order.

        Raises:
            ProgramError: The program failed; not to be caught by evaluators.
        """
        with self._calling(timeout_seconds) as (session, seconds):
            answer = session.call_many(function, argument_lists, timeout_seconds=seconds)
        self._seconds += answer.seconds
        return list(answer.value)

    def run(
        self,
        *arguments: str,
        stdin: str | bytes = b"",
        files: Mapping[str, str | bytes] | None = None,
        outputs: Sequence[str] = (),
        command: Sequence[str] | None = None,
        timeout_seconds: float | None = None,
        check: bool = True,
    ) -> Finished:
        """Starts the program as a command and waits for its end.

        Each run has a workspace of its own, with the program's files and what was built of them;
        nothing of one run is left for the next. What it leaves running is killed.

        Args:
            *arguments: Added to the command.
            stdin: Its standard input.
            files: More files for the workspace, by path.
            outputs: Paths of files that it has to leave there, brought back by `Finished.file`.
            command: Another command than `run` in the `[program]` table of `problem.toml`.
            timeout_seconds: Deadline; by default the problem's limit.
            check: Whether an exit code other than 0 is a failure.

        Returns:
            Its output, exit code and times; nothing about it can be trusted but the times.

        Raises:
            ProgramError: The program failed, or its build did; not to be caught by evaluators.
            ValueError: No command is known, or a path leads out of the workspace.
        """
        words = self._runner.recipe.run if command is None else tuple(command)
        asked = _make_command(words, arguments, stdin, files, outputs)
        with self._blame():
            with self._runner.fresh(self._program) as session:
                finished: Finished = session.run(asked, timeout_seconds=timeout_seconds).value
            if check:
                _check_code(finished, words[0])
        self._seconds += finished.seconds
        return finished

    def time(
        self,
        function: str,
        args: Sequence[Any] | Callable[[], Sequence[Any]] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        repeats: int = 5,
        reference: ProgramHandle | None = None,
        timeout_seconds: float | None = None,
    ) -> Timing:
        """Times a function of the program, and the same one of a reference in turn with it.

        Each repeat has a fresh process and a clean workspace, so that nothing computed in one
        helps the next; the import of the program counts. The process is held to one quiet core
        and can start no other, and nothing else is timed on this machine meanwhile. Times are
        taken outside of the sandbox, processor time by the kernel.

        Args:
            function: Its name.
            args: Plain data and NumPy arrays; better so much work that it takes 50 ms or more. A
                function that draws them is asked before each round: a program cannot know the
                answer to an input that nobody has seen, wherever it might have kept it.
            kwargs: The same, by name.
            repeats: Executions that count, at least 1; from 6 on intervals are of 95 percent.
            reference: A program to compare with, from `other`.
            timeout_seconds: Deadline of each execution; by default the problem's limit.

        Returns:
            The times; `values` of it, which the evaluator has to check, each of them against its
            own of `inputs`.

        Raises:
            ProgramError: The program failed.
        """

        def execute(handle: ProgramHandle, core: int, given: Sequence[Any]) -> Sample:
            with handle._runner.fresh(handle._program, core=core, is_alone=True) as session:
                answer = session.call(function, given, kwargs, timeout_seconds=timeout_seconds)
            return Sample(answer.value, answer.seconds, session.cpu_seconds)

        draw = args if callable(args) else lambda: args
        return self._measure(execute, reference, repeats, draw)

    def time_run(
        self,
        *arguments: str,
        stdin: str | bytes | Callable[[], str | bytes] = b"",
        files: Mapping[str, str | bytes] | None = None,
        outputs: Sequence[str] = (),
        repeats: int = 5,
        reference: ProgramHandle | None = None,
        timeout_seconds: float | None = None,
    ) -> Timing:
        """Times the program as a command, and a reference with the same input in turn with it.

        As for `time`, with the arguments of `run`; `stdin` may be a function that draws it. The
        command's process can start no other.

        Returns:
            The times; `values` of it, each a `Finished` that the evaluator has to check.

        Raises:
            ProgramError: The program failed; an exit code other than 0 is a failure.
            ValueError: No command is known, or a path leads out of the workspace.
        """
        words = self._runner.recipe.run
        draw = stdin if callable(stdin) else lambda: stdin

        def execute(handle: ProgramHandle, core: int, given: str | bytes) -> Sample:
            # The guest has to start the one process itself.
            asked = replace(_make_command(words, arguments, given, files, outputs), is_alone=True)
            with handle._runner.fresh(handle._program, core=core) as session:
                done: Finished = session.run(asked, timeout_seconds=timeout_seconds).value
            _check_code(done, "the program")
            return Sample(done, done.seconds, done.cpu_seconds)

        return self._measure(execute, reference, repeats, draw)

    @property
    def asked(self) -> int:
        """Questions that were asked a model on its behalf so far, by itself or the evaluator."""
        return count_asked(PROGRAM)

    def ask(self, prompt: str, **options: Any) -> str:
        """Asks a model on the program's behalf, such as with a prompt that the program is.

        The model is `[program] model` of `problem.toml`; see `evolve.scoring.ask` for the rest.
        """
        return ask_as(PROGRAM, [prompt], options)[0]

    def ask_all(self, prompts: Sequence[str], **options: Any) -> list[str]:
        """Asks several questions at a time, as `ask` does; the answers are in their order."""
        return ask_as(PROGRAM, prompts, options)

    def restart(self) -> None:
        """Ends the program's process with all that calls have left; the next call has another."""
        if self._runner.is_open(self._session):
            self._runner.clear()

    def other(self, files: Mapping[str, str]) -> ProgramHandle:
        """Returns a program of the evaluator's own, such as a reference to compare with.

        It is built and run in the same sandbox under the same limits, and never at the same
        time: a call to it ends the state that calls have left in this program.

        Args:
            files: Texts by path; the first one is the entry file.
        """
        program = Program(tuple(SourceFile(*item) for item in files.items()))
        return ProgramHandle(self._runner, program, is_own=True)

    @contextlib.contextmanager
    def _calling(self, timeout_seconds: float | None) -> Iterator[tuple[SandboxSession, float]]:
        """Yields the session of all calls and the deadline of this one.

        Its time is taken off the limit of all calls together.

        Raises:
            TypeError: The program is not Python.
            ProgramError: Nothing is left of it, the build failed, or the call did.
        """
        path = self._program.entry.path
        if not path.endswith(".py"):
            raise TypeError(
                f"call: expected a program in Python, got {path}; read a text in `program.files`, "
                "start a command by `program.run`"
            )
        limit = self._runner.limits.seconds
        left = limit - self._called_seconds
        with self._blame():
            if left <= 0:
                reason = f"no answer within {limit:g} s: earlier calls have used them up"
                raise ProgramError(Status.TIMEOUT, reason, limit="seconds")
            # What another program of this evaluation ran in between has ended the state of this.
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

    def _measure(
        self,
        execute: Callable[[ProgramHandle, int, Any], Sample],
        reference: ProgramHandle | None,
        repeats: int,
        draw: Callable[[], Any],
    ) -> Timing:
        self._runner.has_timed = True
        with hold_quiet(self._runner.on_wait) as core:
            sample = ProgramHandle._sample
            theirs = partial(sample, reference, execute, core) if reference else None
            return measure_times(partial(sample, self, execute, core), theirs, repeats, draw)

    def _sample(
        self, execute: Callable[[ProgramHandle, int, Any], Sample], core: int, given: Any
    ) -> Sample:
        with self._blame():
            found = execute(self, core, given)
        self._seconds += found.seconds
        return found

    @contextlib.contextmanager
    def _blame(self) -> Iterator[None]:
        """Turns failures of a program of the evaluator's own into failures of the evaluator.

        What fails has no answer that says how long it took: it is timed here.
        """
        started = time.monotonic()
        try:
            yield
        except ProgramError as error:
            self._seconds += time.monotonic() - started
            if not self._is_own:
                raise
            raise RuntimeError(f"the evaluator's own program failed: {error.reason}") from error


def _make_command(
    words: tuple[str, ...],
    arguments: tuple[str, ...],
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
    given = {check_path(path, "run"): _encode(data) for path, data in (files or {}).items()}
    wanted = tuple(check_path(path, "run") for path in outputs)
    return Command((*words, *arguments), _encode(stdin), given, wanted)


def _check_code(finished: Finished, name: str) -> None:
    """Checks the exit code of a command.

    Raises:
        ProgramError: It stands for a failure.
    """
    if not finished.code:
        return
    if finished.code < 0:
        reason = f"`{name}` was ended by {name_signal(-finished.code)}"
        raise ProgramError(Status.CRASHED, reason)
    lines = [line.strip() for line in finished.stderr.splitlines() if line.strip()]
    plain = f"`{name}` exited with code {finished.code}"
    reason = f"{plain}: {lines[-1][:200]}" if lines else plain
    raise ProgramError(Status.ERROR, reason, plain=plain)


def _encode(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)
