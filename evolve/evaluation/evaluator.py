"""One evaluator process, from this side: started, asked, watched, killed."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from evolve.errors import (
    EvaluationCutError,
    EvaluatorError,
    MachineError,
    ProblemError,
    SandboxError,
    SandboxKilledError,
    UsageError,
)
from evolve.keys import cut_keys
from evolve.problem import NO_BARS, Problem, Purpose
from evolve.problem.folder import SEEN_VARIABLES
from evolve.records import Evaluation, Program, SourceFile, Status
from evolve.records.chat import Request
from evolve.records.plain import from_plain, to_plain
from evolve.sandbox.backends import Isolation
from evolve.sandbox.cgroup import remove_groups_of
from evolve.sandbox.guest import resources
from evolve.sandbox.guest.wire import KILLS
from evolve.settings import Settings

# Sandbox start-up, canary and the evaluator's own imports; generous, for a busy machine.
_START_SECONDS = 60.0
# How long an evaluator's memory may go unseen.
_LOOK_SECONDS = 0.1
# Of what an evaluator prints: what is kept, and what of it is shown.
_KEPT_BYTES, _SHOWN_CHARACTERS = 1 << 16, 2000
_MB = 1 << 20
# What an evaluator's process says at both ends of a wait for another one, and how long that is.
WAITING = "waiting"
_MOST_WAITING_SECONDS = 3600.0
# What it says when it asks a model, and what it is answered with.
ASKED, ANSWERS = "asked", "answers"
# What other processes name as the reason, the most telling first.
_ERRORS: tuple[type[Exception], ...] = (
    *(SandboxKilledError, SandboxError, ProblemError, UsageError),
    *(EvaluatorError, EvaluationCutError, MachineError),
)
# What may be the name of a variable in a message: `DATA_ROOT`, or `'TOKEN'` in quotes.
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b|(?<=')[A-Z][A-Z0-9]+(?=')")
# How the reason begins when the process ended without a verdict.
LOST = "the evaluator's process"


def describe_error(error: Exception) -> dict[str, str]:
    """Returns an error as another process reads it."""
    kind = next((kind for kind in _ERRORS if isinstance(error, kind)), MachineError)
    return {"error": kind.__name__, "message": str(error)}


def make_error(answer: Mapping[str, Any]) -> Exception:
    """Returns the error that `describe_error` described."""
    kind = next(kind for kind in _ERRORS if kind.__name__ == answer["error"])
    return kind(cut_keys(answer["message"]))


class Answered(NamedTuple):
    """What came of a question.

    Attributes:
        text: The answer.
        error: Why there is none; empty where there is one.
    """

    text: str
    error: str = ""


Answer = Callable[[Sequence[Request]], Sequence[Answered]]
"""Answers questions, in the process that holds the models."""


def refuse(requests: Sequence[Request]) -> Sequence[Answered]:
    """Answers nothing: where no model is connected."""
    return [Answered("", "no model is connected here") for _ in requests]


class EvaluationRequest(NamedTuple):
    """What an evaluator's process is asked for.

    Attributes:
        program: What to score.
        purpose: Which of the evaluator's functions is asked.
        bars: The objectives that let a program go on, by stage.
        answer: Answers what the program or the evaluator asks a model; is not sent.
    """

    program: Program
    purpose: Purpose = Purpose.SEARCH
    bars: Mapping[str, float] = NO_BARS
    answer: Answer = refuse

    def as_message(self) -> dict[str, Any]:
        """Returns what is sent of it."""
        return {"files": self.program.files, "purpose": self.purpose, "bars": dict(self.bars)}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> EvaluationRequest:
        """Returns what was sent."""
        files = tuple(SourceFile(*file) for file in message["files"])
        return cls(Program(files), Purpose(message["purpose"]), message["bars"])


class ProcessLostError(Exception):
    """An evaluator process died or overran its deadline.

    Args:
        reason: What happened.
        was_killed: Whether somebody else ended it, which no program can bring about.
    """

    def __init__(self, reason: str, *, was_killed: bool = False) -> None:
        super().__init__(reason)
        self.was_killed = was_killed


def _describe_view(problem: Problem) -> dict[str, Any]:
    """Returns what the sandbox of a problem shows and hides, as `find_view` takes it."""
    return {
        "preload": problem.packages,
        "data": problem.data,
        "show": problem.shown,
        "hide": _list_hidden(problem),
    }


def _list_hidden(problem: Problem) -> tuple[Path, ...]:
    """Returns what no program may see: the evaluator, the problem, the run, and keys."""
    folders = [problem.world, problem.folder]
    if (problem.folder.parent / "run.db").exists():
        folders.append(problem.folder.parent)
    here = Path.cwd()
    around = [here, *here.parents, problem.folder, *problem.folder.parents]
    return (*folders, *dict.fromkeys(folder / ".env" for folder in around))


class EvaluatorProcess:
    """One evaluator process; used by one thread at a time.

    Args:
        problem: What it evaluates.
        settings: Of its sandbox, its memory and the problem's parameters.
        idle: The process, where one was started already.
    """

    def __init__(
        self, problem: Problem, settings: Settings, idle: IdleProcess | None = None
    ) -> None:
        self._seconds = problem.evaluator_seconds
        self._memory_mb = settings.sandbox.evaluator_memory_mb
        self._environment = {name: os.environ[name] for name in problem.environment}
        self._isolation: Isolation | None = None
        self._seen_bytes = 0
        self._buffer = bytearray()
        self._printed = bytearray()
        self._process = start_process() if idle is None else idle
        config = {
            "folder": problem.folder,
            "world": problem.world,
            "parameters": dict(settings.parameters),
            "environment": self._environment,
            "sandbox": asdict(settings.sandbox),
            "view": _describe_view(problem),
        }
        send_line(self._process, config)

    def wait_ready(self) -> Isolation:
        """Waits until the evaluator is loaded, and returns what its sandbox was proven to enforce.

        Raises:
            SandboxError: The sandbox cannot be started.
            ProblemError: The evaluator cannot be loaded.
            EvaluatorError: The process died while it started.
        """
        if self._isolation is None:
            try:
                answer = self._receive(max(_START_SECONDS, self._seconds))
            except ProcessLostError as error:
                raise EvaluatorError(f"evaluator: could not start: {error}") from error
            self._raise_error(answer)
            self._isolation = from_plain(Isolation, answer)
        return self._isolation

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """Sends a program and waits for its evaluation.

        Raises:
            ProcessLostError: The process died, or overran the evaluator's deadline.
            SandboxError: The sandbox broke.
        """
        self._read_printed()
        self._printed.clear()
        send_line(self._process, request.as_message())
        verdict = self._await_verdict(request.answer)
        self._read_printed()
        self._raise_error(verdict)
        texts = {name: cut_keys(text) for name, text in verdict["artifacts"].items()}
        # Of the hold-out not even that is kept; models are never shown it.
        reason = cut_keys(verdict["reason"])
        if verdict["status"] == Status.EVALUATOR_FAILED and request.purpose is not Purpose.HOLDOUT:
            reason += self._hint_at_environment(reason)
            texts |= {"evaluator_printed": self.printed} if self.printed else {}
        return from_plain(Evaluation, {**verdict, "artifacts": texts, "reason": reason})

    @property
    def printed(self) -> str:
        """Returns the end of what the evaluator printed during the last evaluation."""
        return cut_keys(self._printed.decode(errors="replace")[-_SHOWN_CHARACTERS:].strip())

    @property
    def is_worn(self) -> bool:
        """Returns whether the next program had better have a new process.

        An evaluator that leaks is replaced between programs, long before its limit strikes.
        """
        return self._measure_memory() > self._memory_mb * _MB // 2

    def kill(self) -> None:
        """Ends the process, and with it its sandbox."""
        end_process(self._process)

    def _await_verdict(self, answer: Answer) -> dict[str, Any]:
        """Waits for the verdict; the time that the process waits for others is not its own."""
        left = self._seconds
        while True:
            started = time.monotonic()
            message = self._receive(left)
            left -= time.monotonic() - started
            if ASKED in message:
                requests = from_plain(tuple[Request, ...], message[ASKED])
                send_line(self._process, {ANSWERS: to_plain(list(answer(requests)))})
            elif WAITING in message:
                self._receive(_MOST_WAITING_SECONDS)
            else:
                return message

    def _receive(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer[-65536:]:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ProcessLostError(
                    f"the evaluator did not answer within {seconds:g} s; make it faster, or raise "
                    "`evaluator_seconds` in problem.toml"
                )
            self._read_answer(min(left, _LOOK_SECONDS))
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _read_answer(self, seconds: float) -> None:
        """Waits for a part of an answer, and meanwhile for what the evaluator prints."""
        pipe, log = self._process.stdout, self._process.stderr
        if select.select([one for one in (pipe, log) if one], [], [], seconds)[0]:
            self._read_printed()
        if pipe is not None and select.select([pipe], [], [], 0)[0]:
            data = os.read(pipe.fileno(), 65536)
            if not data:
                raise self._explain_end()
            self._buffer += data
            return
        self._seen_bytes = self._measure_memory()
        if self._seen_bytes > self._memory_mb * _MB:
            raise ProcessLostError(
                f"the evaluator's process used more than {self._memory_mb} MB of memory; "
                "mend the evaluator, or raise `sandbox.evaluator_memory_mb`"
            )

    def _measure_memory(self) -> int:
        return resources.read_bytes(str(self._process.pid))

    def _read_printed(self) -> None:
        log = self._process.stderr
        # It may be closed meanwhile, by whoever ends the process.
        with suppress(ValueError):
            if log is not None and select.select([log], [], [], 0)[0]:
                data = os.read(log.fileno(), _KEPT_BYTES)
                if not data:
                    self._process.stderr = None
                    log.close()
                self._printed = (self._printed + data)[-_KEPT_BYTES:]

    def _raise_error(self, answer: Mapping[str, Any]) -> None:
        if "error" not in answer:
            return
        error = make_error(answer)
        if isinstance(error, ProblemError):
            printed = f"\nthe evaluator printed:\n{self.printed}" if self.printed else ""
            raise ProblemError(f"{error}{self._hint_at_environment(str(error))}{printed}")
        raise error

    def _hint_at_environment(self, text: str) -> str:
        """Returns how to let a variable through that a message names, and that is set here."""
        hidden = os.environ.keys() - self._environment.keys() - {*SEEN_VARIABLES}
        named = next((name for name in _VARIABLE.findall(text) if name in hidden), "")
        return named and (
            f"; evaluators see {', '.join(SEEN_VARIABLES[:2])} and the like only: write "
            f'`[evaluator]` and `environment = ["{named}"]` in problem.toml to let it through'
        )

    def _explain_end(self) -> ProcessLostError:
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        self._read_printed()
        said = f"{LOST} {how}" + (f": {self.printed}" if self.printed else "")
        # What a program returns may make an evaluator grow until the kernel ends it.
        is_small = self._seen_bytes < self._memory_mb * _MB // 2
        return ProcessLostError(said, was_killed=-code in KILLS and is_small)


IdleProcess = subprocess.Popen[bytes]


def start_process(module: str = "process", variables: tuple[str, ...] = ()) -> IdleProcess:
    """Starts a process that imports what every evaluator needs, and waits for a configuration.

    It ends by itself when its standard input is closed.

    Args:
        module: Of this package, which it runs.
        variables: What it sees of the environment beyond what evaluators do.
    """
    seen = {name: os.environ[name] for name in (*SEEN_VARIABLES, *variables) if name in os.environ}
    return subprocess.Popen(
        # Not with the current folder on its path, which may be a stranger's.
        [sys.executable, "-P", "-m", f"evolve.evaluation.{module}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A pipe: whatever an evaluator prints, nothing of it fills a disk.
        stderr=subprocess.PIPE,
        # A Ctrl-C on the terminal is for the run, which then ends its evaluators gracefully.
        start_new_session=True,
        # The problem's folder stays as it was when the run began: see `evolve.runs.run_folder`.
        env={**seen, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def send_line(process: IdleProcess, message: Mapping[str, Any]) -> None:
    """Sends a message to a process; that it is dead is noticed where its answer does not come."""
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(message, default=str).encode() + b"\n")
            process.stdin.flush()


@contextmanager
def idle_process() -> Iterator[IdleProcess]:
    """Starts such a process, which ends with the context at the latest."""
    process = start_process()
    try:
        yield process
    finally:
        end_process(process)


def end_process(process: IdleProcess) -> None:
    """Kills a process and all that it started; safe to call again."""
    streams = [one for one in (process.stdin, process.stdout, process.stderr) if one is not None]
    if all(stream.closed for stream in streams):
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    remove_groups_of(process.pid)
    for stream in streams:
        with suppress(BrokenPipeError):
            stream.close()
