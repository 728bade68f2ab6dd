"""A program as its evaluator sees it: functions to call, commands to run, and models to ask.

An evaluator may ask a language model as a judge, or on behalf of a program. Its process has no keys
and no network of its own use: what is asked goes to the run, which asks the model within its caps,
records the answer, and answers equal questions from the record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

from evolve.errors import ProgramError
from evolve.scoring.executions import (
    Finished,
    Sample,
    Timing,
    check_code,
    make_command,
    measure_times,
)

PROGRAM, EVALUATOR = "program", "evaluator"
"""On whose behalf a model is asked, which is the role of the call."""

Channel = Callable[[str, Sequence[str], dict[str, Any]], list[str]]
_OPTIONS = {"system": str, "max_tokens": int, "temperature": float, "seed": int}
_MOST_CHARACTERS = 400_000
_channel: Channel | None = None
_count: Callable[[str], int] | None = None


class AskError(RuntimeError):
    """A model cannot be asked: the problem allows none, the cap is reached, or no answer came."""


def connect(channel: Channel, count: Callable[[str], int]) -> None:
    """Sets what is called for questions, with role, prompts and options, and what counts them."""
    global _channel, _count
    _channel, _count = channel, count


def count_asked(role: str) -> int:
    """Returns how many questions of the present evaluation a role has asked."""
    return 0 if _count is None else _count(role)


def ask(prompt: str, **options: Any) -> str:
    """Asks the model that judges for an evaluator: `[evaluator] model` of `problem.toml`.

    Args:
        prompt: The question.
        **options: `system`, a text before it; `max_tokens`, `temperature` and `seed`, sent where
            they are given.

    Returns:
        The answer; the same one for the same question and options, all through a run.

    Raises:
        AskError: No model may be asked, the cap of an evaluation is reached, or no usable answer
            came.
        TypeError: The prompt or an option has another type.
    """
    return ask_all([prompt], **options)[0]


def ask_all(prompts: Sequence[str], **options: Any) -> list[str]:
    """Asks several questions at a time, as `ask` does, and returns the answers in their order."""
    return ask_as(EVALUATOR, prompts, options)


def ask_as(role: str, prompts: Sequence[str], options: dict[str, Any]) -> list[str]:
    """Asks on behalf of a role; raises as `ask`."""
    if _channel is None:
        raise AskError("ask: a model can be asked only while evolve evaluates a program")
    return _channel(role, list(prompts), check_options(prompts, options))


def check_options(prompts: object, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options that are given, once all is of the right type.

    Raises:
        TypeError: Something is not.
    """
    if not isinstance(prompts, list | tuple):
        raise TypeError(f"ask_all: expected a list of texts, got {type(prompts).__name__}")
    for prompt in prompts:
        if type(prompt) is not str or not prompt.strip() or len(prompt) > _MOST_CHARACTERS:
            raise TypeError(
                f"ask: expected a text of 1 to {_MOST_CHARACTERS} characters, got {prompt!r:.80}"
            )
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        kind = _OPTIONS.get(name)
        if kind is None:
            raise TypeError(f"ask: unknown option `{name}`; known: {', '.join(_OPTIONS)}")
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise TypeError(f"ask: `{name}`: expected {kind.__name__}, got {value!r:.80}")
    if given.get("max_tokens", 1) < 1 or not 0.0 <= given.get("temperature", 0.0) <= 2.0:
        raise TypeError("ask: expected `max_tokens` of at least 1 and a `temperature` of 0 to 2")
    return given


class SessionOpener(Protocol):
    """Opens sandbox sessions for one program; they are those of `evolve.sandbox.session`."""

    @property
    def files(self) -> Mapping[str, str]:
        """Returns the program's texts by path."""

    @property
    def start(self) -> Sequence[str]:
        """Returns the words of the command that starts the program; none where it has none."""

    def shared(self, timeout_seconds: float | None) -> AbstractContextManager[tuple[Any, float]]:
        """Returns the session that all calls share, and the time that this one may take."""

    def fresh(
        self, *, core: int | None = None, is_alone: bool = False
    ) -> AbstractContextManager[Any]:
        """Returns a session of its own, held to a core; alone, it may start no other process."""

    def quiet(self) -> AbstractContextManager[int]:
        """Waits until nothing else is timed on this machine, and returns a core."""

    def restart(self) -> None:
        """Ends the shared session; the next call starts another."""

    def other(self, files: Mapping[str, str]) -> SessionOpener:
        """Returns the same for a program of the evaluator's own."""


class ProgramHandle:
    """The program as its evaluator sees it: what it can be asked for, and nothing else.

    Args:
        sessions: The program inside the sandbox.
        is_own: Whether it is the evaluator's own, so that its failures are the evaluator's.
        is_start: Whether it is the problem's starting program, unchanged.
    """

    __slots__ = ("_is_own", "_seconds", "_sessions", "is_start")

    def __init__(
        self, sessions: SessionOpener, *, is_own: bool = False, is_start: bool = False
    ) -> None:
        self.is_start = is_start
        self._sessions = sessions
        self._is_own = is_own
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        """Wall time of all calls so far, measured outside the sandbox."""
        return self._seconds

    @property
    def files(self) -> Mapping[str, str]:
        """Texts by path: all that there is of a program that is no code."""
        return self._sessions.files

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
        with self._blame(), self._sessions.shared(timeout_seconds) as (session, seconds):
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
        with self._blame(), self._sessions.shared(timeout_seconds) as (session, seconds):
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
        words = tuple(command if command is not None else self._sessions.start)
        asked = make_command((*words, *arguments) if words else (), stdin, files, outputs)
        with self._blame():
            with self._sessions.fresh() as session:
                finished: Finished = session.run(asked, timeout_seconds=timeout_seconds).value
            self._seconds += finished.seconds
            if check:
                check_code(finished, words[0])
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
            with handle._sessions.fresh(core=core, is_alone=True) as session:
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
        words = (*self._sessions.start, *arguments) if self._sessions.start else ()
        draw = stdin if callable(stdin) else lambda: stdin

        def execute(handle: ProgramHandle, core: int, given: str | bytes) -> Sample:
            # The guest has to start the one process itself.
            asked = replace(make_command(words, given, files, outputs), is_alone=True)
            with handle._sessions.fresh(core=core) as session:
                done: Finished = session.run(asked, timeout_seconds=timeout_seconds).value
            check_code(done, "the program")
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
        self._sessions.restart()

    def other(self, files: Mapping[str, str]) -> ProgramHandle:
        """Returns a program of the evaluator's own, such as a reference to compare with.

        It is built and run in the same sandbox under the same limits, and never at the same
        time: a call to it ends the state that calls have left in this program.

        Args:
            files: Texts by path; the first one is the entry file.
        """
        return ProgramHandle(self._sessions.other(files), is_own=True)

    def _measure(
        self,
        execute: Callable[[ProgramHandle, int, Any], Sample],
        reference: ProgramHandle | None,
        repeats: int,
        draw: Callable[[], Any],
    ) -> Timing:
        def run_on(handle: ProgramHandle) -> Callable[[Any], Sample]:
            def sample(given: Any) -> Sample:
                with handle._blame():
                    found = execute(handle, core, given)
                handle._seconds += found.seconds
                return found

            return sample

        with self._sessions.quiet() as core:
            theirs = run_on(reference) if reference else None
            return measure_times(run_on(self), theirs, repeats, draw)

    @contextlib.contextmanager
    def _blame(self) -> Iterator[None]:
        """Turns failures of a program of the evaluator's own into failures of the evaluator."""
        try:
            yield
        except ProgramError as error:
            if not self._is_own:
                raise
            raise RuntimeError(f"the evaluator's own program failed: {error.reason}") from error
