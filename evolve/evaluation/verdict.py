"""The trusted side of an evaluation: the problem's evaluator, and its verdict on a program."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from evolve import scoring
from evolve.errors import ProblemError, ProgramError, SandboxError
from evolve.evaluation.evaluator import EvaluationRequest
from evolve.problem import Problem, Purpose, Stage
from evolve.records import VALIDATION, Evaluation, Program, SourceFile, StageResult, Status
from evolve.records.attempts import as_text
from evolve.records.plain import from_plain
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.sandbox.replies import printable_end
from evolve.scoring import Infeasible, ProgramHandle, Score
from evolve.scoring.runner import ProgramRunner, find_tool
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


_SOURCE = """import importlib.metadata, pkgutil, platform


def probe(names):
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    modules = sorted({found.name for found in pkgutil.iter_modules()})
    return {"python": platform.python_version(), "versions": versions, "modules": modules}
"""
PROBE = Program((SourceFile("initial.py", _SOURCE),))
"""A program that reports what it finds."""

_PACKAGES = ("numpy", "scipy", "numba", "scikit-learn", "pandas", "networkx", "sympy", "torch")


@dataclass(frozen=True, slots=True)
class Machine:
    """What programs find in the sandbox.

    Attributes:
        python: Version of Python.
        versions: Versions of well-known packages, by name.
        modules: All modules at the top level apart from the standard library's.
    """

    python: str
    versions: Mapping[str, str]
    modules: tuple[str, ...]

    def describe(self) -> str:
        """Returns one sentence for a prompt."""
        found = "".join(f", {name} {version}" for name, version in self.versions.items())
        return f"It runs with Python {self.python}{found}."


def read_machine(verdict: Evaluation) -> Machine | None:
    """Returns the machine that the evaluation of `PROBE` reports; None where it failed."""
    try:
        return from_plain(Machine, json.loads(verdict.artifacts["machine"]))
    except (KeyError, TypeError, ValueError):
        return None


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
    """Returns what `PROBE` finds, as the artifact `machine`."""
    return Score(0.0, artifacts={"machine": json.dumps(program.call("probe", list(_PACKAGES)))})


def evaluate_program(
    problem: Problem,
    functions: Mapping[str, Callable[..., object]],
    runner: ProgramRunner,
    request: EvaluationRequest,
) -> Evaluation:
    """Returns the verdict on a program; every failure of the program is a status in it.

    A search takes the problem's stages first: a program that fails one of them, or is too weak in
    one, is not evaluated further. Of a problem whose inputs are secret a verdict holds no word of
    the program's; of a hold-out it holds numbers alone.

    Raises:
        SandboxError: The sandbox broke; nothing is known about the program.
    """
    is_holdout = request.purpose is Purpose.HOLDOUT
    token = quotes_values.set(not (problem.secret or is_holdout))
    runner.begin(request.program)
    try:
        verdict = _Judge(problem, functions, runner, request).evaluate()
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


class _Judge(NamedTuple):
    """Calls the functions of an evaluator on one program; the fields are those of a verdict."""

    problem: Problem
    functions: Mapping[str, Callable[..., object]]
    runner: ProgramRunner
    request: EvaluationRequest

    def evaluate(self) -> Evaluation:
        """Returns the verdict of the last function that is asked."""
        purpose, results = self.request.purpose, []
        for stage in self.problem.stages if purpose is Purpose.SEARCH else ():
            result, verdict = self._try_stage(stage)
            results.append(result)
            if verdict is not None:
                return replace(verdict, stages=tuple(results))
            # What the program kept in its memory shall not reach the next stage.
            self.runner.clear()

        def judge(handle: ProgramHandle) -> Evaluation:
            score = _finish(self.functions[purpose](handle, **self.problem.parameters))
            return self._judge(score, handle.seconds)

        return replace(self._guard(judge), stages=tuple(results))

    def _guard(self, ask: Callable[[ProgramHandle], Found]) -> Found | Evaluation:
        """Returns what asking the evaluator brings, or the verdict on what it raises."""
        program = self.request.program
        handle = ProgramHandle(self.runner, program, is_start=program.id == self.problem.initial.id)
        try:
            return ask(handle)
        except SandboxError:
            raise
        except Exception as error:  # noqa: BLE001 - an evaluator may raise anything; it is reported
            return self._explain(error, handle.seconds)

    def _try_stage(self, stage: Stage) -> tuple[StageResult, Evaluation | None]:
        """Returns what a program reached in a stage, and the verdict where it ends there."""

        def judge(handle: ProgramHandle) -> tuple[float | None, Evaluation | None]:
            score = _finish(self.functions[stage.name](handle, **stage.parameters))
            if stage.threshold is not None or stage.share is not None:
                score = _as_score(score, f"stage `{stage.name}`")
            reached = score.objective if isinstance(score, Score) else None
            return reached, self._judge_stage(stage, score, handle.seconds)

        started = time.monotonic()
        with self.runner.limited(ProgramLimits(**stage.limits)):
            found = self._guard(judge)
        reached, verdict = (None, found) if isinstance(found, Evaluation) else found
        result = StageResult(stage.name, reached, time.monotonic() - started)
        if not isinstance(found, Evaluation) or found.status is Status.EVALUATOR_FAILED:
            return result, verdict
        if stage.rejects:
            reason = f"{stage.name}: {found.status}: {found.reason}"
            return result, replace(found, status=Status.REJECTED, reason=reason)
        return result, replace(found, reason=f"stage `{stage.name}`: {found.reason}")

    def _judge(self, score: object, seconds: float) -> Evaluation:
        """Returns the verdict that follows from a score.

        Raises:
            TypeError: It is no score.
            ValueError: It lacks what problem.toml declares.
        """
        score = _as_score(score, "evaluator")
        searches = self.request.purpose is Purpose.SEARCH
        axes = self.problem.measures if searches else ()
        further = [item.name for item in self.problem.objectives] if searches else []
        measures = built_in_measures(self.request.program, self.problem.initial)
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
            artifacts=score.texts,
            instances={
                **score.instances,
                **{f"{VALIDATION}{name}": value for name, value in score.validation.items()},
            },
            seconds=seconds,
        )

    def _judge_stage(self, stage: Stage, score: object, seconds: float) -> Evaluation | None:
        """Returns the verdict on a program that is too weak in a stage to go on, else None."""
        if not isinstance(score, Score):
            return None
        bar = self.request.bars.get(stage.name) if stage.threshold is None else stage.threshold
        if bar is None or not self.problem.direction.is_better(bar, score.objective):
            return None
        reached = f"objective {score.objective:.6g}, {bar:.6g} is needed to go on"
        return Evaluation(
            Status.STOPPED,
            metrics=score.metrics,
            artifacts=score.texts,
            seconds=seconds,
            reason=f"stage `{stage.name}`: {reached}",
        )

    def _explain(self, error: Exception, seconds: float) -> Evaluation:
        """Returns the verdict that follows from what an evaluator's function raised."""
        status, artifacts = Status.EVALUATOR_FAILED, {}
        if isinstance(error, Infeasible):
            status, reason = Status.INFEASIBLE, str(error)
        elif isinstance(error, ProgramError):
            status = Status(error.status)
            reason = error.plain if self.problem.secret else error.reason
            reason += _name_limit(error) + find_tool(f"{error.reason}\n{error.detail}")
            if error.detail and not self.problem.secret:
                is_python = self.request.program.entry.path.endswith(".py")
                artifacts = {"traceback" if is_python else "output": as_text(error.detail)}
        else:
            reason = f"the evaluator raised {_last_line(error)}"
            artifacts = {"evaluator": _trace(error)}
        return Evaluation(status, artifacts=artifacts, seconds=seconds, reason=reason)


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

    return _make_loop().run(wait())


@cache
def _make_loop() -> Any:
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
