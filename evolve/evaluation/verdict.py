"""The trusted side of an evaluation: the problem's evaluator, and its verdict on a program."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from evolve import scoring
from evolve.errors import ProblemError, ProgramError, SandboxError
from evolve.evaluation.machine import PACKAGES
from evolve.evaluation.runner import ProgramRunner, ProgramSessions, find_tool
from evolve.problem import NO_BARS, Problem, Purpose, Stage
from evolve.records import VALIDATION, Evaluation, Program, StageResult, Status
from evolve.records.attempts import as_text
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.replies import printable_end
from evolve.scoring import Infeasible, ProgramHandle, Score
from evolve.scoring.score import quotes_values
from evolve.source.analysis import built_in_measures

# Of the end of what a program printed.
_PRINTED_CHARACTERS = 2000
# What the system says, in many languages' exceptions, when a limit was met.
_SIGNS = {
    "Resource temporarily unavailable": "processes",
    "can't start new thread": "processes",
    "unable to create native thread": "processes",
    "No space left on device": "workspace_mb",
    "File too large": "workspace_mb",
    "OutOfMemory": "memory_mb",
    "Cannot allocate memory": "memory_mb",
    "bad_alloc": "memory_mb",
}


def load_evaluator(problem: Problem) -> dict[str, Callable[..., object]]:
    """Imports the problem's evaluator and returns its functions, by purpose and by stage.

    Raises:
        ProblemError: The file cannot be imported or lacks a function.
    """
    path = problem.evaluator
    # By its own name, processes that it spawns can import it; but not in the place of another.
    name = path.stem if path.stem not in sys.modules else "evolve_problem_evaluator"
    spec = importlib.util.spec_from_file_location(name, path)
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
    wanted = [(str(key), name, problem.parameters) for key, name in problem.functions.items()]
    wanted += [(stage.name, stage.function, stage.parameters) for stage in problem.stages]
    functions: dict[str, Callable[..., object]] = {}
    for key, name, parameters in wanted:
        function = getattr(module, name, None)
        if not callable(function):
            raise ProblemError(f"{path}: expected a function `{name}(program, ...)`")
        try:
            inspect.signature(function).bind(None, **parameters)
        except TypeError as error:
            raise ProblemError(
                f"{path}: `{name}`: expected to take a program, and [parameters] of problem.toml "
                f"by their names: {error}"
            ) from error
        functions[key] = function
    functions[Purpose.PROBE] = probe_machine
    return functions


def probe_machine(program: ProgramHandle, **_: Any) -> Score:
    """Returns what `evolve.evaluation.machine.PROBE` finds, as the artifact `machine`."""
    return Score(0.0, artifacts={"machine": json.dumps(program.call("probe", list(PACKAGES)))})


def evaluate_program(
    problem: Problem,
    functions: Mapping[str, Callable[..., object]],
    program: Program,
    runner: ProgramRunner,
    purpose: Purpose = Purpose.SEARCH,
    *,
    bars: Mapping[str, float] = NO_BARS,
) -> Evaluation:
    """Returns the verdict on a program; every failure of the program is a status in it.

    A search takes the problem's stages first: a program that fails one of them, or is too weak in
    one, is not evaluated further. Of a problem whose inputs are secret a verdict holds no word of
    the program's; of a hold-out it holds numbers alone.

    Raises:
        SandboxError: The sandbox broke; nothing is known about the program.
    """
    is_holdout = purpose is Purpose.HOLDOUT
    token = quotes_values.set(not (problem.secret or is_holdout))
    runner.begin(program)
    try:
        verdict = _Judge(problem, functions, program, runner).evaluate(purpose, bars)
    finally:
        runner.end()
        quotes_values.reset(token)
    if is_holdout:
        return _keep_numbers(verdict)
    printed = printable_end(runner.printed, _PRINTED_CHARACTERS)
    if problem.secret or "output" in verdict.artifacts or not printed.strip():
        return verdict
    return replace(verdict, artifacts={**verdict.artifacts, "output": as_text(printed)})


def _keep_numbers(verdict: Evaluation) -> Evaluation:
    reason = "" if verdict.status is Status.OK else "on the hold-out; no more is shown"
    return Evaluation(
        verdict.status,
        objective=verdict.objective,
        metrics=verdict.metrics,
        seconds=verdict.seconds,
        reason=reason,
    )


Found = TypeVar("Found")


class _Judge:
    """Calls the functions of an evaluator on one program; the arguments are those of a verdict."""

    def __init__(
        self,
        problem: Problem,
        functions: Mapping[str, Callable[..., object]],
        program: Program,
        runner: ProgramRunner,
    ) -> None:
        self._problem = problem
        self._functions = functions
        self._program = program
        self._runner = runner

    def evaluate(self, purpose: Purpose, bars: Mapping[str, float]) -> Evaluation:
        """Returns the verdict of the last function that is asked."""
        results: list[StageResult] = []
        for stage in self._problem.stages if purpose is Purpose.SEARCH else ():
            found, verdict = self._try_stage(stage, bars)
            results.append(found)
            if verdict is not None:
                return replace(verdict, stages=tuple(results))
            # What the program kept in its memory shall not reach the next stage.
            self._runner.clear()
        searches = purpose is Purpose.SEARCH

        def judge(handle: ProgramHandle) -> Evaluation:
            score = _finish(self._functions[purpose](handle, **self._problem.parameters))
            return self._judge(score, handle.seconds, searches=searches)

        return replace(self._guard(judge), stages=tuple(results))

    def _guard(self, ask: Callable[[ProgramHandle], Found]) -> Found | Evaluation:
        """Returns what asking the evaluator brings, or the verdict on what it raises."""
        is_start = self._program.id == self._problem.initial.id
        sessions = ProgramSessions(self._runner, self._program)
        handle = ProgramHandle(sessions, is_start=is_start)
        try:
            return ask(handle)
        except SandboxError:
            raise
        except Exception as error:  # noqa: BLE001 - an evaluator may raise anything; it is reported
            return self._explain(error, handle.seconds)

    def _try_stage(
        self, stage: Stage, bars: Mapping[str, float]
    ) -> tuple[StageResult, Evaluation | None]:
        """Returns what a program reached in a stage, and the verdict where it ends there."""

        def judge(handle: ProgramHandle) -> tuple[float | None, Evaluation | None]:
            score = _finish(self._functions[stage.name](handle, **stage.parameters))
            if stage.threshold is not None or stage.share is not None:
                score = _as_score(score, f"stage `{stage.name}`")
            reached = score.objective if isinstance(score, Score) else None
            return reached, _judge_stage(stage, score, handle.seconds, self._problem, bars)

        started = time.monotonic()
        with self._runner.limited(ProgramLimits(**stage.limits)):
            found = self._guard(judge)
        reached, verdict = (None, found) if isinstance(found, Evaluation) else found
        result = StageResult(stage.name, reached, time.monotonic() - started)
        if not isinstance(found, Evaluation) or found.status is Status.EVALUATOR_FAILED:
            return result, verdict
        if stage.rejects:
            reason = f"{stage.name}: {found.status}: {found.reason}"
            return result, replace(found, status=Status.REJECTED, reason=reason)
        return result, replace(found, reason=f"stage `{stage.name}`: {found.reason}")

    def _judge(self, score: object, seconds: float, *, searches: bool) -> Evaluation:
        """Returns the verdict that follows from a score.

        Raises:
            TypeError: It is no score.
            ValueError: It lacks what problem.toml declares.
        """
        score = _as_score(score, "evaluator")
        axes = self._problem.measures if searches else ()
        further = [item.name for item in self._problem.objectives] if searches else []
        measures = built_in_measures(self._program, self._problem.initial)
        measures |= {"seconds": seconds, **score.measures}
        missing = [axis.name for axis in axes if axis.name not in measures]
        if missing:
            raise ValueError(f"expected the measures declared in problem.toml, missing: {missing}")
        if lacking := [name for name in further if name not in score.metrics]:
            raise ValueError(
                f"expected the objectives of problem.toml in metrics, missing: {lacking}"
            )
        return Evaluation(
            Status.OK,
            objective=score.objective,
            metrics=score.metrics,
            measures={axis.name: measures[axis.name] for axis in axes},
            artifacts={name: str(text) for name, text in score.artifacts.items()},
            instances={
                **score.instances,
                **{f"{VALIDATION}{name}": value for name, value in score.validation.items()},
            },
            seconds=seconds,
        )

    def _explain(self, error: Exception, seconds: float) -> Evaluation:
        """Returns the verdict that follows from what an evaluator's function raised."""
        if isinstance(error, Infeasible):
            return Evaluation(Status.INFEASIBLE, seconds=seconds, reason=str(error))
        if isinstance(error, ProgramError):
            key = _name_limit(error) + find_tool(f"{error.reason}\n{error.detail}")
            if self._problem.secret:
                return Evaluation(Status(error.status), seconds=seconds, reason=error.plain + key)
            kind = "traceback" if self._program.entry.path.endswith(".py") else "output"
            artifacts = {kind: as_text(error.detail)} if error.detail else {}
            return Evaluation(
                Status(error.status),
                artifacts=artifacts,
                seconds=seconds,
                reason=error.reason + key,
            )
        reason = f"the evaluator raised {_last_line(error)}"
        artifacts = {"evaluator": _trace(error)}
        return Evaluation(
            Status.EVALUATOR_FAILED, artifacts=artifacts, seconds=seconds, reason=reason
        )


def _judge_stage(
    stage: Stage, score: object, seconds: float, problem: Problem, bars: Mapping[str, float]
) -> Evaluation | None:
    """Returns the verdict on a program that is too weak in a stage to go on, else None."""
    if not isinstance(score, Score):
        return None
    bar = stage.threshold if stage.threshold is not None else bars.get(stage.name)
    if bar is None or not problem.direction.is_better(bar, score.objective):
        return None
    reason = f"stage `{stage.name}`: objective {score.objective:.6g}, {bar:.6g} is needed to go on"
    return Evaluation(
        Status.STOPPED,
        metrics=score.metrics,
        artifacts={name: str(text) for name, text in score.artifacts.items()},
        seconds=seconds,
        reason=reason,
    )


def _as_score(found: Any, where: str) -> Score:
    """Returns a score; a number alone is its objective.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(found, Score):
        return found
    if not hasattr(found, "__float__"):
        raise TypeError(f"{where}: expected a `Score` or a number, got {found!r:.200}")
    return Score(found)


def _finish(result: object) -> object:
    """Returns what an evaluator's function returned, once it is awaited if it must be."""
    if not inspect.isawaitable(result):
        return result

    async def wait() -> object:
        return await result

    return _runner().run(wait())


@cache
def _runner() -> Any:
    # One for all evaluations: what an evaluator keeps, such as its connections, is of one loop.
    import asyncio

    return asyncio.Runner()


def _name_limit(error: ProgramError) -> str:
    """Returns which key of `problem.toml` raises the limit that a program went beyond."""
    said = f"{error.reason} {error.detail}"
    limit = error.limit or next((name for sign, name in _SIGNS.items() if sign in said), "")
    table = "program" if limit == "build_seconds" else "limits"
    return f" (limit: [{table}] {limit})" if limit else ""


def _trace(error: BaseException) -> str:
    frames = traceback.format_list(_frames_of(error)[-4:])
    return "".join([*frames, *traceback.format_exception_only(error)])


def _frames_of(error: BaseException) -> list[traceback.FrameSummary]:
    """Returns where it came from in the evaluator's code; ours would lead nobody to its cause."""
    ours = (str(Path(__file__).parent), str(Path(scoring.__file__).parent), "<")
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if not frame.filename.startswith(ours)]


def _last_line(error: BaseException) -> str:
    where = _frames_of(error)
    place = f" (line {where[-1].lineno} of {Path(where[-1].filename).name})" if where else ""
    return f"{type(error).__name__}: {error}{place}"
