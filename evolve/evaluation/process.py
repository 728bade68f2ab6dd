"""The evaluator's own process: trusted code on this side, the program in a sandbox.

Started as `python -m evolve.evaluation.process`; reads one JSON object a line from standard
input and answers each with one line: first the configuration, then programs.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import queue
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from evolve import scoring
from evolve.errors import ProblemError, ProgramError, SandboxError
from evolve.evaluation.bench import Bench, Trial
from evolve.evaluation.link import WAITING
from evolve.evaluation.machine import PACKAGES
from evolve.problem import Purpose, load_problem
from evolve.records import Evaluation, Program, SourceFile, Status
from evolve.sandbox.cgroup import remove_groups_of
from evolve.sandbox.choose import open_sandbox
from evolve.sandbox.protocol import Limits
from evolve.scoring import Infeasible, ProgramHandle, Score
from evolve.source import built_in_measures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from evolve.problem import Problem
    from evolve.problem.measures import Measure


def main() -> None:
    """Serves evaluations until standard input ends."""
    # Whatever an evaluator prints goes to the log, never between two answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests = _read_requests()
    config = next(requests)
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
            hide=(problem.evaluator.parent,),
        )
        isolation = sandbox.isolation or sandbox.prove()
        functions = loading.result()
    except (ProblemError, SandboxError) as error:
        _answer(answers, _error_message(error))
        return
    bench = Bench(
        sandbox,
        Limits(**problem.limits),
        problem.recipe,
        lambda: _answer(answers, {WAITING: True}),
        is_fresh=config["fresh"],
    )
    # The canary ran in this sandbox: of fresh ones the first program gets another.
    bench.end()
    with closing(sandbox):
        _answer(
            answers,
            {
                "backend": isolation.backend,
                "enforced": isolation.enforced,
                "missing": isolation.missing,
            },
        )
        for request in requests:
            program = Program(tuple(SourceFile(*file) for file in request["files"]))
            try:
                evaluation = evaluate_program(
                    problem, functions, program, bench, Purpose(request["purpose"])
                )
            except SandboxError as error:
                _answer(answers, _error_message(error))
            else:
                _answer(answers, evaluation.as_dict())


def load_evaluator(problem: Problem) -> dict[Purpose, Callable[..., Score]]:
    """Imports the problem's evaluator and gives its functions.

    Raises:
        ProblemError: The file cannot be imported or lacks a function.
    """
    path = problem.evaluator
    spec = importlib.util.spec_from_file_location("evolve_problem_evaluator", path)
    if spec is None or spec.loader is None:
        raise ProblemError(f"{path}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    # Modules beside the evaluator can be imported by it.
    sys.path.insert(0, str(path.parent))
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ProblemError(f"{path}: cannot be imported: {_last_line(error)}") from error
    functions = {}
    for purpose, name in problem.functions.items():
        function = getattr(module, name, None)
        if not callable(function):
            raise ProblemError(f"{path}: expected a function `{name}(program, ...)`")
        try:
            inspect.signature(function).bind(None, **problem.parameters)
        except TypeError as error:
            raise ProblemError(
                f"{path}: `{name}`: expected to take a program, and [parameters] of problem.toml "
                f"by their names: {error}"
            ) from error
        functions[purpose] = function
    functions[Purpose.PROBE] = probe_machine
    return functions


def probe_machine(program: ProgramHandle, **_: Any) -> Score:
    """Gives what `evolve.evaluation.machine.PROBE` finds, as the artifact `machine`."""
    return Score(0.0, artifacts={"machine": json.dumps(program.call("probe", list(PACKAGES)))})


def evaluate_program(
    problem: Problem,
    functions: Mapping[Purpose, Callable[..., Score]],
    program: Program,
    bench: Bench,
    purpose: Purpose = Purpose.SEARCH,
) -> Evaluation:
    """Gives the verdict on a program; every failure of the program is a status in it.

    Raises:
        SandboxError: The sandbox broke; nothing is known about the program.
    """
    handle = ProgramHandle(Trial(bench, program))
    try:
        score = functions[purpose](handle, **problem.parameters)
        searches = purpose is Purpose.SEARCH
        axes = problem.measures if searches else ()
        further = tuple(item.name for item in problem.objectives) if searches else ()
        return _verdict(problem, program, score, handle.seconds, axes=axes, further=further)
    except Infeasible as error:
        return Evaluation(Status.INFEASIBLE, seconds=handle.seconds, reason=str(error))
    except ProgramError as error:
        kind = "traceback" if program.entry.path.endswith(".py") else "output"
        return Evaluation(
            Status(error.status),
            artifacts={kind: error.detail} if error.detail else {},
            seconds=handle.seconds,
            reason=error.reason,
        )
    except SandboxError:
        raise
    except Exception as error:  # noqa: BLE001 - an evaluator may raise anything; it is told
        reason = f"the evaluator raised {_last_line(error)}"
        artifacts = {"evaluator": _trace(error)}
        return Evaluation(
            Status.EVALUATOR_FAILED,
            artifacts=artifacts,
            seconds=handle.seconds,
            reason=reason,
        )
    finally:
        bench.end()


def _verdict(
    problem: Problem,
    program: Program,
    score: object,
    seconds: float,
    *,
    axes: tuple[Measure, ...],
    further: tuple[str, ...],
) -> Evaluation:
    if not isinstance(score, Score):
        raise TypeError(f"evaluator: expected a `Score`, got {score!r:.200}")
    measures = built_in_measures(program, problem.initial)
    measures |= {"seconds": seconds, **score.measures}
    missing = [axis.name for axis in axes if axis.name not in measures]
    if missing:
        raise ValueError(f"expected the measures declared in problem.toml, missing: {missing}")
    if lacking := [name for name in further if name not in score.metrics]:
        raise ValueError(f"expected the objectives of problem.toml in metrics, missing: {lacking}")
    return Evaluation(
        Status.OK,
        objective=score.objective,
        metrics=score.metrics,
        measures={axis.name: measures[axis.name] for axis in axes},
        artifacts=score.artifacts,
        seconds=seconds,
    )


def _read_requests() -> Iterator[dict[str, Any]]:
    """Gives the requests; when standard input ends the process goes at once, even at work."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        # Not through `sys.stdin`, whose lock this thread would hold when the process ends.
        rest = b""
        while chunk := os.read(0, 1 << 20):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                lines.put(line)
        remove_groups_of(os.getpid())
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield json.loads(lines.get())


def _answer(stream: TextIO, message: Mapping[str, Any]) -> None:
    stream.write(json.dumps(message, allow_nan=False) + "\n")
    stream.flush()


def _error_message(error: ProblemError | SandboxError) -> dict[str, str]:
    kind = "SandboxError" if isinstance(error, SandboxError) else "ProblemError"
    return {"error": kind, "message": str(error)}


def _trace(error: BaseException) -> str:
    frames = traceback.format_list(_frames_of(error)[-4:])
    return "".join([*frames, *traceback.format_exception_only(error)])


def _frames_of(error: BaseException) -> list[traceback.FrameSummary]:
    """Gives where it came from in the evaluator's code; ours would lead nobody to its cause."""
    ours = (str(Path(__file__).parent), str(Path(scoring.__file__).parent), "<")
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if not frame.filename.startswith(ours)]


def _last_line(error: BaseException) -> str:
    where = _frames_of(error)
    place = f" (line {where[-1].lineno} of {Path(where[-1].filename).name})" if where else ""
    return f"{type(error).__name__}: {error}{place}"


if __name__ == "__main__":
    main()
