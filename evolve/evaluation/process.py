"""The evaluator's own process: trusted code on this side, the program in a sandbox.

Started as `python -m evolve.evaluation.process`; reads one JSON object a line from standard
input and answers each with one line: first the configuration, then programs.

Only what opens a sandbox is imported at once: the rest is imported while that starts.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from evolve.errors import ProblemError, SandboxError
from evolve.sandbox.backends import Sandbox, open_sandbox
from evolve.sandbox.cgroup import remove_groups_of
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.layout import find_view

if TYPE_CHECKING:
    from evolve.problem import Problem
    from evolve.records.chat import Request

    Functions = Mapping[str, Callable[..., object]]


def main() -> None:
    """Serves evaluations until standard input ends."""
    answers, requests = _take_streams()
    config = next(requests)
    os.environ.update(config["environment"])
    loading = ThreadPoolExecutor(1).submit(_load, config)
    try:
        # On this thread: a guest dies with the thread that started it.
        shown, settings = config["view"], config["sandbox"]
        view = find_view(
            tuple(shown["preload"]),
            None if shown["data"] is None else Path(shown["data"]),
            tuple(map(Path, shown["hide"])),
            tuple(map(Path, shown["show"])),
            image=settings["image"],
            devices=settings["devices"],
        )
        sandbox = open_sandbox(settings["backend"], view, allow_weak=settings["allow_weak"])
        loaded = loading.result()
    except (ProblemError, SandboxError) as error:
        from evolve.evaluation.evaluator import describe_error

        _answer(answers, describe_error(error))
        return
    with closing(sandbox):
        _serve(loaded, sandbox, answers, requests, is_fresh=settings["fresh"])


def _load(config: Mapping[str, Any]) -> tuple[Problem, Functions]:
    """Returns the problem, and its evaluator's functions.

    Raises:
        ProblemError: One of them cannot be loaded.
    """
    from evolve.evaluation.verdict import load_evaluator
    from evolve.problem import load_problem

    world = Path(config["world"])
    problem = load_problem(config["folder"], config["parameters"], evaluators=world)
    return problem, load_evaluator(problem)


def _serve(
    loaded: tuple[Problem, Functions],
    sandbox: Sandbox,
    answers: TextIO,
    requests: Iterator[dict[str, Any]],
    *,
    is_fresh: bool,
) -> None:
    """Answers that the sandbox is ready, then each program with its verdict."""
    from evolve.evaluation.evaluator import (
        ANSWERS,
        ASKED,
        WAITING,
        EvaluationRequest,
        describe_error,
    )
    from evolve.evaluation.verdict import evaluate_program
    from evolve.records.plain import to_plain
    from evolve.scoring.asking import PROGRAM, AskChannel, channels
    from evolve.scoring.runner import ProgramRunner
    from evolve.scoring.timing import describe_kind

    def exchange(asked: list[Request]) -> Any:
        _answer(answers, {ASKED: to_plain(asked)})
        return next(requests)[ANSWERS]

    problem, functions = loaded
    channel = AskChannel(problem.asks, exchange)
    channels.append(channel)
    runner = ProgramRunner(
        sandbox,
        ProgramLimits(**problem.limits),
        problem.recipe,
        lambda: _answer(answers, {WAITING: True}),
        is_fresh=is_fresh,
        answer=channel.answer_program if PROGRAM in problem.asks else None,
    )
    # The canary ran in this sandbox: of fresh ones the first program gets another.
    runner.end()
    _answer(answers, to_plain(sandbox.isolation))
    for message in requests:
        channel.counts.clear()
        request = EvaluationRequest.from_message(message)
        try:
            verdict = evaluate_program(problem, functions, runner, request)
        except SandboxError as error:
            _answer(answers, describe_error(error))
        else:
            kind = describe_kind() if runner.has_timed else ""
            _answer(answers, to_plain(verdict) | {"machine": kind})


def _take_streams() -> tuple[TextIO, Iterator[dict[str, Any]]]:
    """Returns where answers go and requests come from, and leaves neither to the evaluator.

    Whatever an evaluator prints goes to the log, never between two answers; what it reads from
    standard input, and what it starts does, is empty, never a request.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    requests = _read_requests(os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return answers, requests


def _read_requests(source: int) -> Iterator[dict[str, Any]]:
    """Returns the requests; when standard input ends the process goes at once, even at work."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        rest = b""
        while chunk := os.read(source, 1 << 20):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                lines.put(line)
        remove_groups_of(os.getpid())
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield json.loads(lines.get())


def _answer(stream: TextIO, message: Mapping[str, Any]) -> None:
    # What was printed before an answer is there when the answer comes.
    for log in (sys.stdout, sys.stderr):
        log.flush()
    stream.write(json.dumps(message, allow_nan=False) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
