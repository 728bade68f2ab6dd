"""Where evaluations run: what such a place offers; on this machine, a pool of processes."""

from __future__ import annotations

import os
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from evolve.display import say_error
from evolve.errors import EvaluationCutError, EvaluatorError, SandboxError, SandboxKilledError
from evolve.evaluation.evaluator import (
    Answered,
    EvaluationRequest,
    EvaluatorProcess,
    IdleProcess,
    ProcessLostError,
    refuse,
)
from evolve.problem import NO_BARS, Problem, Purpose
from evolve.records import Evaluation, Program, Status
from evolve.records.chat import Request
from evolve.sandbox.backends import Isolation
from evolve.settings import Settings

_FAILURES_IN_A_ROW = 10
_TRIES = 3
_KILLS = 2

LATER = -1
"""The generation of an evaluation that no generation asked for."""
Asker = Callable[[int, Sequence[Request]], Sequence[Answered]]
"""Answers what evaluations for a generation ask a model; may be called from any thread."""


class Evaluators(ABC):
    """A place where evaluations run; every method may be called from any thread.

    Attributes:
        printed: The end of what an evaluator printed during the last evaluation.
        waits_for: What `wait` waits for, in words.
        kind: What kind of machine measures the time that programs take, where that is fixed.
        asker: Answers what evaluations ask a model; None where nothing does.
        tell: Called with a line on what happens to the machines of a cluster, from any thread.
    """

    waits_for = "proving the sandbox"

    def __init__(self) -> None:
        self.printed = self.kind = ""
        self.asker: Asker | None = None
        self.tell: Callable[[str], None] = say_error

    @abstractmethod
    def start(self, idle: IdleProcess | None = None) -> None:
        """Begins to start what the first evaluation needs, without waiting for it.

        Args:
            idle: An evaluator's process, where one was started already.
        """

    @abstractmethod
    def wait(self) -> Isolation:
        """Waits until an evaluator is ready, and returns what its sandbox was proven to enforce.

        Raises:
            SandboxError: No sandbox that isolates can be started.
            ProblemError: The evaluator cannot be loaded.
            EvaluatorError: The process died or did not answer.
        """

    def evaluate(
        self,
        program: Program,
        purpose: Purpose = Purpose.SEARCH,
        bars: Mapping[str, float] = NO_BARS,
        generation: int = LATER,
    ) -> Evaluation:
        """Evaluates a program and waits for the verdict.

        Args:
            program: What to score.
            purpose: Which of the evaluator's functions is asked.
            bars: The objectives that let a program go on, by stage.
            generation: For which it is done; `LATER` for none that has begun.

        Raises:
            SandboxError: The sandbox broke and could not be restarted.
            EvaluatorError: The evaluator failed on many programs in a row.
            EvaluationCutError: `cut` was called meanwhile.
        """
        answer = refuse if self.asker is None else partial(self.asker, generation)
        return self.serve(EvaluationRequest(program, purpose, bars, answer))

    @abstractmethod
    def serve(self, request: EvaluationRequest) -> Evaluation:
        """Returns the verdict on a program, as `evaluate` does."""

    def describe(self) -> str:
        """Returns the state of the machines; empty where there is this one alone."""
        return ""

    @abstractmethod
    def cut(self) -> None:
        """Ends the evaluations that run, each with an `EvaluationCutError`; others may follow."""

    @abstractmethod
    def close(self) -> None:
        """Ends all processes and their sandboxes."""


class LocalEvaluators(Evaluators):
    """This machine: a pool of evaluator processes.

    Args:
        problem: What they evaluate.
        settings: How many there may be, and what each of them needs to know.
    """

    def __init__(self, problem: Problem, settings: Settings) -> None:
        super().__init__()
        self._problem = problem
        self._settings = settings
        self._permits = threading.BoundedSemaphore(count_processes(settings))
        self._idle: queue.LifoQueue[EvaluatorProcess] = queue.LifoQueue()
        self._alive: set[EvaluatorProcess] = set()
        self._lock = threading.Lock()
        self._failures = self._cuts = 0
        self._closed = False

    def start(self, idle: IdleProcess | None = None) -> None:
        """Begins to start the first process."""
        self._idle.put(self._spawn(idle))

    def wait(self) -> Isolation:
        """Waits until the first process is ready."""
        for _ in range(1, _TRIES):
            with suppress(EvaluatorError):
                return self._find_isolation()
        return self._find_isolation()

    def serve(self, request: EvaluationRequest) -> Evaluation:
        """Evaluates a program in a process that is free, or in a new one."""
        with self._permits:
            evaluation = self._evaluate(request)
            if self._count_failures(evaluation) >= _FAILURES_IN_A_ROW:
                self._examine(evaluation, request)
        return evaluation

    def cut(self) -> None:
        """Ends the evaluations that run, with their processes."""
        with self._lock:
            self._cuts += 1
            running, self._alive = self._alive, set()
            while not self._idle.empty():
                self._idle.get_nowait()
        for process in running:
            process.kill()

    def close(self) -> None:
        """Ends all processes and their sandboxes."""
        self._closed = True
        self.cut()

    def _find_isolation(self) -> Isolation:
        with self._lent(self._cuts) as process:
            return process.wait_ready()

    def _evaluate(self, request: EvaluationRequest) -> Evaluation:
        """Returns the first verdict that there is.

        A crash is one: whatever a program can bring about counts, or it could throw dice until
        it likes them. Only where somebody else killed the sandbox or the evaluator is there a
        second try, in new ones.
        """
        kills = failures = 0
        cuts = self._cuts
        while True:
            try:
                with self._lent(cuts) as process:
                    evaluation = process.evaluate(request)
                    self.printed = process.printed
                    return evaluation
            except ProcessLostError as error:
                kills += 1
                if not error.was_killed or kills == _KILLS:
                    # What the evaluator printed may be of the hold-out.
                    is_holdout = request.purpose is Purpose.HOLDOUT
                    reason = str(error).partition(":")[0] if is_holdout else str(error)
                    return Evaluation(Status.EVALUATOR_FAILED, reason=reason)
            except SandboxKilledError as error:
                kills += 1
                if kills == _KILLS:
                    return Evaluation(Status.CRASHED, reason=f"{error}, {_KILLS} times")
            except (SandboxError, EvaluatorError):
                # What did not start has seen nothing of the program: such tries count apart.
                failures += 1
                if failures == _TRIES:
                    raise

    @contextmanager
    def _lent(self, cuts: int) -> Iterator[EvaluatorProcess]:
        """Lends a process that is ready; one that fails meanwhile, or has grown, is ended."""
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = self._spawn()
        try:
            process.wait_ready()
            yield process
        except BaseException as error:
            self._discard(process)
            if self._cuts != cuts:
                raise EvaluationCutError("the evaluation was cut") from error
            raise
        if process.is_worn:
            self._discard(process)
        else:
            self._idle.put(process)

    def _spawn(self, idle: IdleProcess | None = None) -> EvaluatorProcess:
        with self._lock:
            if self._closed:
                raise EvaluatorError("evaluator: the pool is closed")
            process = EvaluatorProcess(self._problem, self._settings, idle)
            self._alive.add(process)
        return process

    def _discard(self, process: EvaluatorProcess) -> None:
        with self._lock:
            self._alive.discard(process)
        process.kill()

    def _count_failures(self, evaluation: Evaluation) -> int:
        with self._lock:
            failed = evaluation.status is Status.EVALUATOR_FAILED
            self._failures = self._failures + 1 if failed else 0
            return self._failures

    def _examine(self, last: Evaluation, request: EvaluationRequest) -> None:
        # What programs return may break an evaluator that trusts it: as long as it scores the
        # starting program, which it once scored, no program may end the run by that.
        honest = request._replace(program=self._problem.initial, purpose=Purpose.SEARCH)
        if self._count_failures(self._evaluate(honest)):
            raise EvaluatorError(
                f"evaluator: failed on {_FAILURES_IN_A_ROW} programs in a row, last: {last.reason}"
            )


def count_processes(settings: Settings) -> int:
    """Returns how many evaluators there may be on this machine."""
    return settings.sandbox.processes or len(os.sched_getaffinity(0))
