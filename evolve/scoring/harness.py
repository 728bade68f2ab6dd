"""Runs another system's evaluator next to the program it scores, inside the sandbox.

A script of its own: nothing of `evolve` is there. Its argument is a JSON object with the fields
of `evolve.scoring.cooperative.Theirs`, and the paths of the program and of the result. What it
writes can be forged by the program, which shares this interpreter.
"""

# Paths and modules are handled as those evaluators expect them.
# ruff: noqa: PTH101, PTH103, PTH109, PTH110, PTH118, PTH119, PTH120, PTH122, PTH123, PTH211

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import itertools
import json
import math
import os
import runpy
import sys
import time
import traceback
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# The first failure of these kinds says something about the machine, not about the program.
_MACHINE = (ImportError, FileNotFoundError, PermissionError)


class EvaluationResult:
    """What OpenEvolve's evaluators return when they have artifacts."""

    def __init__(
        self, metrics: dict[str, Any], artifacts: dict[str, Any] | None = None, **others: object
    ) -> None:
        self.metrics = metrics
        self.artifacts = {} if artifacts is None else artifacts
        self.__dict__.update(others)

    @classmethod
    def from_dict(cls, metrics: dict[str, Any]) -> EvaluationResult:
        """Returns a result without artifacts."""
        return cls(metrics)

    def to_dict(self) -> dict[str, Any]:
        """Returns the metrics."""
        return self.metrics

    def has_artifacts(self) -> bool:
        """Returns whether there is any artifact."""
        return bool(self.artifacts)

    def get_artifact_keys(self) -> list[str]:
        """Returns the names of the artifacts."""
        return list(self.artifacts)

    def get_artifact_size(self, key: str) -> int:
        """Returns the size of an artifact in bytes, 0 where there is none."""
        value = self.artifacts.get(key, b"")
        return len(value if isinstance(value, bytes) else str(value).encode())

    def get_total_artifact_size(self) -> int:
        """Returns the size of all artifacts in bytes."""
        return sum(map(self.get_artifact_size, self.artifacts))


def main(argument: str) -> None:
    """Scores the program and writes the result."""
    asked = json.loads(argument)
    here = os.getcwd()
    program, result = os.path.join(here, asked["program"]), os.path.join(here, asked["result"])
    os.environ.update(asked["variables"])
    _lay_out_data(here)
    _offer_python(here)
    evaluator = os.path.join(here, asked["folder"], asked["evaluator"])
    sys.path[0] = os.path.dirname(evaluator)
    os.chdir(sys.path[0])
    _offer_modules()
    try:
        verdict = _FORMS[asked["form"]](evaluator, program, asked)
    except ImportError as error:
        traceback.print_exc()
        raise SystemExit(_explain_import(error)) from None
    with open(result, "w", encoding="utf-8") as file:
        json.dump(verdict, file, default=_plain)


def load(path: str, name: str = "") -> types.ModuleType:
    """Imports a file under a name, by default its own: processes that it starts find it by that."""
    name = name or os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # noqa: S101 - narrows the type
    assert spec.loader is not None  # noqa: S101 - narrows the type
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def score_stages(evaluator: str, program: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Goes through `evaluate_stage1` and so on while thresholds are reached, or `evaluate`.

    A program that does not reach one keeps the metrics that it has.
    """
    module, thresholds = load(evaluator), asked["thresholds"]
    named = (getattr(module, f"evaluate_stage{number}", None) for number in (1, 2, 3))
    stages: list[Any] = list(itertools.takewhile(bool, named)) if thresholds else []
    metrics, artifacts = _ask(stages[0] if stages else module.evaluate, program)
    reached = dict(metrics)
    for stage, threshold in zip(stages[1:], thresholds, strict=False):
        if not passes(reached, threshold):
            break
        more, texts = _ask_later(stage, program)
        metrics.update(more)
        artifacts.update(texts)
        # Of several stages only numbers are kept, which is what the mean is taken of.
        reached = _numbers(metrics)
        if stage.__name__ in texts:
            break
    return _verdict(reached, asked, metrics=metrics, artifacts=artifacts)


def passes(metrics: Mapping[str, Any], threshold: float) -> bool:
    """Returns whether `combined_score`, else the mean of all numbers but `error`, is enough."""
    numbers = _numbers(metrics)
    value = numbers.get("combined_score", _mean(numbers) if numbers else -math.inf)
    return value >= threshold


def choose(
    metrics: Mapping[str, Any], objective: str, features: Sequence[str] = ()
) -> tuple[float | None, str]:
    """Returns the objective, and a note where it is a mean that nobody has asked for.

    Args:
        metrics: What the evaluator reported.
        objective: The metric to take; empty for `combined_score`, else the mean.
        features: Metrics that say how programs differ, which the mean leaves out.
    """
    if objective and (objective != "mean" or objective in metrics):
        value = metrics.get(objective)
        known = ", ".join(map(str, metrics)) or "none"
        if value is None or isinstance(value, str):
            return None, f"expected a number as metric `{objective}`; reported: {known}"
        return float(value), ""
    if metrics.get("combined_score") is not None:
        return float(metrics["combined_score"]), ""
    numbers = {key: float(value) for key, value in metrics.items() if is_number(value)}
    numbers = {key: value for key, value in numbers.items() if not math.isnan(value)}
    chosen = {key: value for key, value in numbers.items() if key not in features} or numbers
    if not chosen:
        return None, f"expected `combined_score` or other numbers; reported: {dict(metrics)!r:.200}"
    is_plain = objective or len(chosen) == 1
    return _mean(chosen), "" if is_plain else f"the mean of {', '.join(chosen)}"


def is_number(value: object) -> bool:
    """Returns whether a value is a number by Python's types, as booleans are."""
    return isinstance(value, int | float)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers that thresholds are compared with."""
    named = {key: value for key, value in metrics.items() if key != "error"}
    return {key: float(value) for key, value in named.items() if is_number(value)}


def _mean(numbers: Mapping[str, float]) -> float:
    return sum(numbers.values()) / len(numbers)


def _verdict(reached: Mapping[str, Any], asked: dict[str, Any], **found: Any) -> dict[str, Any]:
    objective, note = choose(reached, asked["objective"], asked["features"])
    return {"metrics": reached, "artifacts": {}, **found, "objective": objective, "note": note}


def score_status(evaluator: str, program: str, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Calls `evaluate`, which says itself whether the program counts."""
    found = _await(load(evaluator).evaluate(program))
    if not isinstance(found, dict):
        raise TypeError(f"expected a dictionary with a `score`, got {found!r:.200}")
    status = found.get("status", "success")
    status, summary = str(getattr(status, "value", status)).lower(), found.get("summary", "")
    return {
        "objective": found.get("score"),
        "metrics": found.get("metrics") or {},
        "artifacts": {"summary": summary, **(found.get("artifacts") or {})},
        "failed": "" if status == "success" else f"{status}: {summary}",
        "is_invalid": status == "validation_failed",
    }


def score_script(evaluator: str, program: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Runs the evaluator as a script, which leaves `metrics.json` and `correct.json`."""
    results = os.path.join(os.path.dirname(program), "their_results")
    os.makedirs(results, exist_ok=True)
    given = ["--program_path", program, "--results_dir", results, *asked["arguments"]]
    names = _run_script(evaluator, given)
    if not os.path.exists(os.path.join(results, "metrics.json")) and "main" in names:
        names["main"](program, results)
    metrics = _read_json(os.path.join(results, "metrics.json"))
    correct = _read_json(os.path.join(results, "correct.json"))
    public = metrics.get("public") or {}
    objective = asked["objective"] or "combined_score"
    return {
        "objective": public.get(objective, metrics.get(objective)),
        "metrics": public,
        "artifacts": {"feedback": metrics.get("text_feedback") or ""},
        "failed": "" if correct["correct"] else correct.get("error") or "not correct",
    }


def score_results(evaluator: str, program: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Runs the evaluator as a script, which writes its metrics into the file it is given."""
    results = os.path.join(os.path.dirname(program), "their_results.json")
    names = _run_script(evaluator, [program, results])
    if not os.path.exists(results) and "evaluate" in names:
        names["evaluate"](program, results)
    return _verdict(_read_json(results), asked)


def score_function(evaluator: str, program: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Calls `score_fn` with the program's function, and with the problem's inputs if it has any."""
    problem = load(evaluator)
    function = getattr(load(program, "candidate"), asked["arguments"][0])
    given = [function]
    if len(inspect.signature(problem.score_fn).parameters) > 1:
        make = getattr(problem, "get_inputs", None)
        given.append(make() if make else getattr(problem, "INPUTS", None))
    return _name_score(_await(problem.score_fn(*given)), asked)


def score_candidate(evaluator: str, program: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Calls a function with the program's text, alone or as the one entry of a dictionary."""
    name, *keys = asked["arguments"]
    with open(program, encoding="utf-8") as file:
        text = file.read()
    found = _await(getattr(load(evaluator), name)({keys[0]: text} if keys else text))
    score, side = found if isinstance(found, tuple) else (found, {})
    scores = side.pop("scores", None) or {}
    return _name_score({**side, **scores, "score": score}, asked)


def _name_score(found: Any, asked: dict[str, Any]) -> dict[str, Any]:
    metrics = found if isinstance(found, dict) else {"score": found}
    return _verdict(metrics, {**asked, "objective": asked["objective"] or "score"})


_FORMS: dict[str, Callable[[str, str, dict[str, Any]], dict[str, Any]]] = {
    "stages": score_stages,
    "status": score_status,
    "script": score_script,
    "results": score_results,
    "function": score_function,
    "candidate": score_candidate,
}


def run_experiments(  # noqa: PLR0917 - their signature
    program_path: str,
    results_dir: str,
    experiment_fn_name: str,
    num_runs: int,
    get_experiment_kwargs: Callable[[int], dict[str, Any]] | None = None,
    aggregate_metrics_fn: Callable[[list[Any]], dict[str, Any]] | None = None,
    validate_fn: Callable[[Any], tuple[bool, str | None]] | None = None,
    **others: Any,
) -> tuple[dict[str, Any], bool, str | None]:
    """Does what ShinkaEvolve's evaluators call to run a program several times."""
    if others.get("early_stop_method"):
        raise ImportError("their early stopping is not offered here", name="shinka")
    error: str | None = None
    metrics: dict[str, Any] = dict(others.get("default_metrics_on_error") or {})
    metrics.setdefault("combined_score", 0.0)
    try:
        function = getattr(load(program_path, "program"), experiment_fn_name)
        answers, seconds = [], []
        for number in range(num_runs):
            given = get_experiment_kwargs(number) if get_experiment_kwargs else {"seed": number + 1}
            start = time.perf_counter()
            answers.append(function(**given))
            seconds.append(time.perf_counter() - start)
            is_valid, message = validate_fn(answers[-1]) if validate_fn else (True, None)
            if not is_valid and error is None:
                error = f"validation failed: {message}"
        metrics = aggregate_metrics_fn(answers) if aggregate_metrics_fn else {}
        metrics.setdefault("execution_time_mean", sum(seconds) / max(len(seconds), 1))
    except Exception as caught:  # noqa: BLE001 - whatever the program raises is its failure
        traceback.print_exc()
        error = f"{type(caught).__name__}: {caught}"
    save_results(results_dir, metrics, error is None, error)
    return metrics, error is None, error


def save_results(
    results_dir: str,
    metrics: dict[str, Any],
    correct: bool,  # noqa: FBT001 - their signature
    error: str | None = None,
    **_: object,
) -> None:
    """Writes the two files in which ShinkaEvolve's evaluators answer."""
    os.makedirs(results_dir, exist_ok=True)
    for name, content in (
        ("metrics.json", metrics),
        ("correct.json", {"correct": correct, "error": error}),
    ):
        with open(os.path.join(results_dir, name), "w", encoding="utf-8") as file:
            json.dump(content, file, default=_plain)


def _ask(function: Callable[[str], Any], program: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the metrics and artifacts that a function of theirs reports."""
    returned = _await(function(program))
    metrics = returned if isinstance(returned, dict) else getattr(returned, "metrics", None)
    if not isinstance(metrics, dict):
        raise TypeError(f"their evaluator: expected metrics as a dictionary, got {returned!r:.200}")
    return dict(metrics), dict(getattr(returned, "artifacts", None) or {})


def _ask_later(stage: Callable[[str], Any], program: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Does the same for a later stage, after whose failure the earlier ones count."""
    try:
        return _ask(stage, program)
    except _MACHINE:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the program makes it raise
        traceback.print_exc()
        name = stage.__name__
        passed = f"{name.removeprefix('evaluate_')}_passed"
        return {passed: 0.0}, {name: f"{type(error).__name__}: {error}"}


def _await(returned: Any) -> Any:
    """Returns what an `async` function of theirs comes to."""
    if not inspect.isawaitable(returned):
        return returned

    async def wait() -> Any:
        return await returned

    return asyncio.run(wait())


def _run_script(path: str, arguments: list[str]) -> dict[str, Any]:
    sys.argv = [path, *arguments]
    try:
        return runpy.run_path(path, run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"their evaluator exited with {ended.code}") from None
        return {}


def _read_json(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    if not isinstance(found, dict):
        raise TypeError(f"{os.path.basename(path)}: expected an object, got {found!r:.200}")
    return found


def _lay_out_data(here: str) -> None:
    """Shows large files of theirs, which lie in the problem's data, at their own places."""
    root = os.path.join(here, "data", "theirs")
    for folder, _, names in os.walk(root):
        place = os.path.join(here, "theirs", os.path.relpath(folder, root))
        os.makedirs(place, exist_ok=True)
        for name in names:
            os.symlink(os.path.join(folder, name), os.path.join(place, name))


def _offer_python(here: str) -> None:
    """Makes `python` and `python3` mean this interpreter with its packages."""
    place = os.path.join(here, "their_python")
    os.makedirs(place)
    for name in ("python", "python3"):
        with open(os.path.join(place, name), "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        os.chmod(file.name, 0o755)  # noqa: S103 - a command of the sandbox
    os.environ["PATH"] = f"{place}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def _offer_modules() -> None:
    """Stands in for the parts of other systems that their evaluators import, if not installed."""
    results = {"EvaluationResult": EvaluationResult}
    runs = {"run_shinka_eval": run_experiments, "save_json_results": save_results}
    anything = {"__getattr__": lambda _: lambda *_, **__: None}
    offered: dict[str, dict[str, Any]] = {
        "openevolve": results,
        "openevolve.evaluation_result": results,
        "skydiscover": {},
        "skydiscover.evaluation": results,
        "skydiscover.evaluation.evaluation_result": results,
        "shinka": {},
        "shinka.core": runs,
        "shinka.core.wrap_eval": runs,
        # Only starts runs, which nobody asks for here.
        "gepa": anything,
        "gepa.optimize_anything": anything,
    }
    roots = {name.partition(".")[0] for name in offered}
    installed = {root for root in roots if importlib.util.find_spec(root) is not None}
    for name, parts in offered.items():
        if name.partition(".")[0] not in installed:
            module = types.ModuleType(name)
            module.__path__ = []
            vars(module).update(parts)
            sys.modules[name] = module


def _explain_import(error: ImportError) -> str:
    name = (error.name or "").partition(".")[0]
    advice = f"; install `{name}` where evolve is installed" if name else ""
    return f"{type(error).__name__}: {error}{advice}"


def _plain(value: Any) -> Any:
    """Returns what NumPy's numbers and arrays stand for; of anything else its text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text[:2000]


if __name__ == "__main__":
    main(sys.argv[1])
