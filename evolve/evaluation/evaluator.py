"""One evaluator process, from this side: started, asked, watched, killed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from evolve.errors import EvaluatorError, ProblemError, SandboxError, SandboxKilledError
from evolve.keys import cut_keys
from evolve.problem import Purpose
from evolve.records import Evaluation, Program
from evolve.records.plain import from_plain
from evolve.sandbox.cgroup import remove_groups_of
from evolve.sandbox.guest import usage
from evolve.sandbox.guest.wire import KILLS
from evolve.sandbox.limits import Isolation

# Sandbox start-up, canary and the evaluator's own imports; generous, for a busy machine.
_START_SECONDS = 60.0
# How long an evaluator's memory may go unseen.
_LOOK_SECONDS = 0.1
_MAX_EVALUATIONS = 5000
_MB = 1 << 20
# What an evaluator's process says at both ends of a wait for another one, and how long that is.
WAITING = "waiting"
_MOST_WAITING_SECONDS = 3600.0
_ERRORS = {kind.__name__: kind for kind in (SandboxKilledError, SandboxError, ProblemError)}


@dataclass(frozen=True, slots=True)
class EvaluatorConfig:
    """What an evaluator process needs to know when it starts.

    Attributes:
        folder: The problem folder.
        evaluators: Folder of the evaluator's file.
        parameters: The user's changes to the problem's parameters.
        backend: Name of the sandbox backend, or `auto`.
        allow_weak: Whether a sandbox that does not isolate may be used.
        image: Container image for the backend `docker`; empty for one made here.
        devices: GPUs and accelerators for the same; empty for none.
        seconds: Deadline of one evaluation, the evaluator's own work included.
        memory_mb: Memory of the process, without its sandbox.
        fresh: Whether each program has a new sandbox.
    """

    folder: Path
    evaluators: Path
    parameters: Mapping[str, Any]
    backend: str
    allow_weak: bool
    image: str
    seconds: float
    memory_mb: int
    fresh: bool = False
    devices: str = ""


# How the reason begins when the process ended without a verdict.
LOST = "the evaluator's process"


class ProcessLostError(Exception):
    """An evaluator process died or overran its deadline.

    Args:
        reason: What happened.
        was_killed: Whether somebody else ended it, which no program can bring about.
    """

    def __init__(self, reason: str, *, was_killed: bool = False) -> None:
        super().__init__(reason)
        self.was_killed = was_killed


class EvaluatorProcess:
    """One evaluator process; used by one thread at a time.

    Args:
        config: Sent to it.
        learn: Called with the sandbox's isolation once the process is ready.
        idle: The process, where one was started already.
    """

    def __init__(
        self,
        config: EvaluatorConfig,
        learn: Callable[[Isolation], None],
        idle: IdleProcess | None = None,
    ) -> None:
        self._config = config
        self._learn = learn
        self._ready = False
        self._evaluations = 0
        self._seen_bytes = 0
        self._buffer = bytearray()
        self._process, self._log = start_idle_process() if idle is None else idle
        self._send(asdict(replace(config, parameters=dict(config.parameters))))

    def wait_ready(self) -> None:
        """Waits until the sandbox is proven and the evaluator loaded.

        Raises:
            SandboxError: The sandbox cannot be started.
            ProblemError: The evaluator cannot be loaded.
            EvaluatorError: The process died while it started.
        """
        if self._ready:
            return
        try:
            answer = self._receive(_START_SECONDS)
        except ProcessLostError as error:
            raise EvaluatorError(f"evaluator: could not start: {error}") from error
        self._raise_error(answer)
        enforced, missing = tuple(answer["enforced"]), tuple(answer["missing"])
        self._learn(Isolation(answer["backend"], enforced, missing))
        self._ready = True

    def evaluate(self, program: Program, purpose: Purpose = Purpose.SEARCH) -> Evaluation:
        """Sends a program and waits for its evaluation.

        Args:
            program: What to score.
            purpose: Which of the evaluator's functions is asked.

        Raises:
            ProcessLostError: The process died, or overran the evaluator's deadline.
            SandboxError: The sandbox broke.
        """
        self._send({"files": [list(file) for file in program.files], "purpose": purpose})
        self._evaluations += 1
        answer = self._await_verdict()
        self._raise_error(answer)
        texts = {name: cut_keys(text) for name, text in answer["artifacts"].items()}
        return from_plain(
            Evaluation, {**answer, "artifacts": texts, "reason": cut_keys(answer["reason"])}
        )

    @property
    def is_worn(self) -> bool:
        """Returns whether the next program had better have a new process.

        An evaluator that leaks is replaced between programs, long before its limit strikes.
        """
        leaked = self.memory_bytes > self._config.memory_mb * _MB // 2
        return leaked or self._evaluations >= _MAX_EVALUATIONS

    @property
    def memory_bytes(self) -> int:
        """Returns the memory of the process itself; 0 where it is not known."""
        try:
            proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return 0
        try:
            return usage.read_bytes(proc, str(self._process.pid))
        finally:
            os.close(proc)

    def kill(self) -> None:
        """Ends the process, and with it its sandbox."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        remove_groups_of(self._process.pid)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self._log.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        pipe = self._process.stdin
        if pipe is not None:
            # A dead process is noticed, with its last words, when the answer does not come.
            with suppress(BrokenPipeError):
                pipe.write(json.dumps(message, default=str).encode() + b"\n")
                pipe.flush()

    def _await_verdict(self) -> dict[str, Any]:
        """Waits for the answer; the time that the process waits for others is not its own."""
        left = self._config.seconds
        while True:
            started = time.monotonic()
            answer = self._receive(left)
            if WAITING not in answer:
                return answer
            left -= time.monotonic() - started
            self._receive(_MOST_WAITING_SECONDS)

    def _receive(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        pipe = self._process.stdout
        if pipe is None:
            raise ProcessLostError("the evaluator has no output")
        while b"\n" not in self._buffer[-65536:]:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ProcessLostError(f"the evaluator did not answer within {seconds:g} s")
            if not select.select([pipe], [], [], min(left, _LOOK_SECONDS))[0]:
                self._check_memory()
                continue
            data = os.read(pipe.fileno(), 65536)
            if not data:
                raise self._explain_end()
            self._buffer += data
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _check_memory(self) -> None:
        self._seen_bytes = self.memory_bytes
        if self._seen_bytes > self._config.memory_mb * _MB:
            raise ProcessLostError(
                f"the evaluator's process used more than {self._config.memory_mb} MB of memory; "
                "mend the evaluator, or raise `sandbox.evaluator_memory_mb`"
            )

    def _raise_error(self, answer: Mapping[str, Any]) -> None:
        if "error" in answer:
            raise _ERRORS[answer["error"]](cut_keys(answer["message"]))

    def _explain_end(self) -> ProcessLostError:
        code = self._process.wait()
        # What a program returns may make an evaluator grow until the kernel ends it.
        is_small = self._seen_bytes < self._config.memory_mb * _MB // 2
        return ProcessLostError(self._last_words(code), was_killed=-code in KILLS and is_small)

    def _last_words(self, code: int) -> str:
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        if self._log.closed:
            return f"{LOST} {how}: the pool was closed"
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 2000))
        words = self._log.read().decode(errors="replace").strip()
        return f"{LOST} {how}" + (f": {cut_keys(words)}" if words else "")


# What the process may see of our environment: no key of any provider is among it.
_DOCKER = ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
_PYTHON = ("PYTHONPATH", "VIRTUAL_ENV")
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", *_PYTHON, *_DOCKER)


class IdleProcess(NamedTuple):
    """A process that imports what every evaluator needs, and then waits for its configuration.

    It ends by itself when its standard input is closed.

    Attributes:
        process: Its standard input and output are pipes.
        log: Gets what it prints.
    """

    process: subprocess.Popen[bytes]
    log: IO[bytes]


def start_idle_process() -> IdleProcess:
    """Starts a process, without waiting for it."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
    process = subprocess.Popen(
        # Not with the current folder on its path, which may be a stranger's.
        [sys.executable, "-P", "-m", "evolve.evaluation.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        # A Ctrl-C on the terminal is for the run, which then ends its evaluators gracefully.
        start_new_session=True,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )
    return IdleProcess(process, log)
