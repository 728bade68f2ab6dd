"""The evaluator's own process: trusted code on this side, the program in a sandbox.

Started as `python -m evolve.evaluation.process`; reads one JSON object a line from standard
input and answers each with one line: first the configuration, then programs.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from evolve.errors import ProblemError, SandboxError
from evolve.evaluation.evaluator import (
    ANSWERS,
    ASKED,
    WAITING,
    Answered,
    describe_error,
)
from evolve.evaluation.machine import describe_kind
from evolve.evaluation.runner import ProgramRunner
from evolve.evaluation.verdict import evaluate_program, load_evaluator
from evolve.problem import AskRules, Problem, Purpose, load_problem
from evolve.records import Program, SourceFile
from evolve.records.chat import Message, Request
from evolve.records.plain import from_plain, to_plain
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.cgroup import remove_groups_of
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.scoring.handle import PROGRAM, AskError, check_options, connect


def main() -> None:
    """Serves evaluations until standard input ends."""
    answers, requests = _take_streams()
    config = next(requests)
    os.environ.update(config["environment"])
    try:
        problem = load_problem(
            config["folder"], config["parameters"], evaluators=Path(config["evaluators"])
        )
        # The evaluator's imports run beside the start of the sandbox. That one stays on this
        # thread: its guest dies with the thread that started it.
        loader = ThreadPoolExecutor(1)
        loading = loader.submit(load_evaluator, problem)
        sandbox = open_sandbox(
            config["backend"],
            preload=problem.packages,
            allow_weak=config["allow_weak"],
            image=config["image"],
            devices=config["devices"],
            data=problem.data,
            hide=_list_hidden(problem),
            show=problem.shown,
        )
        functions = loading.result()
    except (ProblemError, SandboxError) as error:
        _answer(answers, describe_error(error))
        return

    def exchange(message: dict[str, Any]) -> dict[str, Any]:
        _answer(answers, message)
        return next(requests)

    channel = AskChannel(problem.asks, exchange)
    connect(channel.ask, channel.count)
    runner = ProgramRunner(
        sandbox,
        ProgramLimits(**problem.limits),
        problem.recipe,
        lambda: _answer(answers, {WAITING: True}),
        is_fresh=config["fresh"],
        answer=partial(_answer_program, channel) if PROGRAM in problem.asks else None,
    )
    # The canary ran in this sandbox: of fresh ones the first program gets another.
    runner.end()
    with closing(sandbox):
        _answer(answers, to_plain(sandbox.isolation))
        for request in requests:
            program = Program(tuple(SourceFile(*file) for file in request["files"]))
            channel.begin()
            try:
                evaluation = evaluate_program(
                    problem, functions, program, runner, Purpose(request["purpose"]),
                    bars=request["bars"],
                )  # fmt: skip
            except SandboxError as error:
                _answer(answers, describe_error(error))
            else:
                kind = describe_kind() if runner.has_timed else ""
                _answer(answers, to_plain(evaluation) | {"machine": kind})


class AskChannel:
    """Asks from within one evaluation at a time; safe to use from many threads.

    Args:
        rules: Who may ask, and how much.
        exchange: Sends a message and returns the answer to it.
    """

    def __init__(
        self,
        rules: Mapping[str, AskRules],
        exchange: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self._rules = rules
        self._exchange = exchange
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def begin(self) -> None:
        """Begins an evaluation: the caps are whole again."""
        self._counts.clear()

    def count(self, role: str) -> int:
        """Returns how many questions of the evaluation a role has asked."""
        return self._counts[role]

    def ask(self, role: str, prompts: Sequence[str], options: dict[str, Any]) -> list[str]:
        """Returns the answers to prompts.

        Raises:
            AskError: The role may not ask, or no more; or a prompt has no usable answer.
        """
        rules = self._rules.get(role)
        if rules is None:
            raise AskError(
                f"ask: problem.toml names no model for this: expected `model` or `calls` under "
                f"[{role}]"
            )
        if not prompts:
            return []
        with self._lock:
            # What the cache answers counts, too: a verdict must not depend on what it holds.
            if self._counts[role] + len(prompts) > rules.calls:
                raise AskError(
                    f"ask: more than the {rules.calls} questions of an evaluation, [{role}] `calls`"
                )
            self._counts[role] += len(prompts)
            asked = [make_request(role, prompt, options, rules) for prompt in prompts]
            found = self._exchange({ASKED: to_plain(asked)})
        answers = from_plain(tuple[Answered, ...], found[ANSWERS])
        for one in answers:
            if one.error:
                raise AskError(f"ask: the model gave no usable answer: {one.error}")
        return [one.text for one in answers]


def make_request(role: str, prompt: str, options: Mapping[str, Any], rules: AskRules) -> Request:
    """Returns what a model is asked."""
    system = options.get("system", "")
    messages = (Message("system", system),) if system else ()
    request = Request(
        role,
        (*messages, Message("user", prompt)),
        max_tokens=min(options.get("max_tokens", rules.max_tokens), rules.max_tokens),
        seed=options.get("seed"),
    )
    temperature = options.get("temperature")
    return request if temperature is None else replace(request, temperature=float(temperature))


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


def _answer_program(channel: AskChannel, asked: Any) -> list[str]:
    """Answers what a program asks, of which nothing can be trusted.

    Raises:
        TypeError: It has another form than a question.
        AskError: As `AskChannel.ask`.
    """
    if not isinstance(asked, dict) or not isinstance(asked.get("options"), dict):
        raise TypeError("ask: expected prompts and options")
    options = check_options(asked.get("prompts"), asked["options"])
    return channel.ask(PROGRAM, asked["prompts"], options)


def _list_hidden(problem: Problem) -> tuple[Path, ...]:
    """Returns what no program may see: the evaluator, the problem, the run, and keys."""
    folders = [problem.world, problem.folder]
    if (problem.folder.parent / "run.db").exists():
        folders.append(problem.folder.parent)
    here = Path.cwd()
    around = [here, *here.parents, problem.folder, *problem.folder.parents]
    return (*folders, *dict.fromkeys(folder / ".env" for folder in around))


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
