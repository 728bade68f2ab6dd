"""Runs another system's evaluator next to the program it scores, inside the sandbox.

A script of its own: nothing of `evolve` is there. Its arguments are the kind of the evaluator,
the paths of evaluator, program and result, and the thresholds of the stages as JSON. What it
writes can be forged by the program, which shares this interpreter.
"""

# Paths and modules are handled as those evaluators expect them.
# ruff: noqa: PTH109, PTH118, PTH120, PTH123

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class EvaluationResult:
    """What OpenEvolve's evaluators return when they have artifacts."""

    def __init__(self, metrics: Mapping[str, Any], artifacts: Mapping[str, Any] | None = None):
        self.metrics = dict(metrics)
        self.artifacts = dict(artifacts or {})


def main(arguments: list[str]) -> None:
    """Scores the program and writes the result."""
    kind, evaluator, program, result, thresholds = arguments
    here = os.getcwd()
    program, result = os.path.join(here, program), os.path.join(here, result)
    folder = os.path.join(here, os.path.dirname(evaluator))
    sys.path.insert(0, folder)
    os.chdir(folder)
    _offer_modules()
    module = load(os.path.join(here, evaluator), "their_evaluator")
    score = {"openevolve": score_stages, "loongflow": score_once, "shinka": score_files}[kind]
    verdict = score(module, program, json.loads(thresholds))
    with open(result, "w", encoding="utf-8") as file:
        json.dump(verdict, file, default=_plain)


def load(path: str, name: str) -> types.ModuleType:
    """Imports a file under a name."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # noqa: S101 - narrows the type
    assert spec.loader is not None  # noqa: S101 - narrows the type
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def score_stages(module: Any, program: str, thresholds: list[float]) -> dict[str, Any]:
    """Goes through `evaluate_stage1` and so on while thresholds are passed, or `evaluate`."""
    names = [f"evaluate_stage{number}" for number in (1, 2, 3)]
    present = [name for name in names if hasattr(module, name)] if thresholds else []
    present = present if names[0] in present else ["evaluate"]
    metrics: dict[str, Any] = {}
    artifacts: dict[str, Any] = {}
    for number, name in enumerate(present):
        returned = getattr(module, name)(program)
        more = returned if isinstance(returned, dict) else returned.metrics
        metrics.update(more)
        artifacts.update(getattr(returned, "artifacts", {}) or {})
        if number + 1 == len(present) or number >= len(thresholds):
            continue
        reached = combine(more)
        if not reached >= thresholds[number]:
            failed = f"{name}: expected at least {thresholds[number]:g}, got {reached:g}"
            return {"metrics": metrics, "artifacts": artifacts, "failed": failed}
    failed = metrics.get("error") or ""
    objective = combine(metrics)
    return {"objective": objective, "metrics": metrics, "artifacts": artifacts, "failed": failed}


def score_once(module: Any, program: str, thresholds: list[float]) -> dict[str, Any]:  # noqa: ARG001
    """Calls `evaluate`, which says itself whether the program counts."""
    returned = module.evaluate(program)
    status = returned.get("status", "success")
    return {
        "objective": returned.get("score"),
        "metrics": returned.get("metrics") or {},
        "artifacts": {"summary": returned.get("summary", ""), **(returned.get("artifacts") or {})},
        "failed": "" if status == "success" else f"{status}: {returned.get('summary', '')}",
    }


def score_files(module: Any, program: str, thresholds: list[float]) -> dict[str, Any]:  # noqa: ARG001
    """Calls `main`, which leaves `metrics.json` and `correct.json`."""
    results = os.path.join(os.path.dirname(program), "their_results")
    os.makedirs(results, exist_ok=True)  # noqa: PTH103
    module.main(program, results)
    with open(os.path.join(results, "metrics.json"), encoding="utf-8") as file:
        metrics = json.load(file)
    with open(os.path.join(results, "correct.json"), encoding="utf-8") as file:
        correct = json.load(file)
    public = metrics.get("public") or {}
    texts = {key: value for key, value in public.items() if isinstance(value, str)}
    return {
        "objective": metrics.get("combined_score"),
        "metrics": public,
        "artifacts": {"feedback": metrics.get("text_feedback") or "", **texts},
        "failed": "" if correct["correct"] else correct.get("error") or "not correct",
    }


def combine(metrics: Mapping[str, Any]) -> float:
    """Returns `combined_score`, else the mean of all numbers."""
    if "combined_score" in metrics:
        return float(metrics["combined_score"])
    numbers = [float(value) for value in metrics.values() if is_number(value)]
    return sum(numbers) / len(numbers) if numbers else float("nan")


def is_number(value: object) -> bool:
    """Returns whether a value is a number and no boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def run_experiments(  # noqa: PLR0917 - their signature
    program_path: str,
    results_dir: str,
    experiment_fn_name: str,
    num_runs: int,
    get_experiment_kwargs: Callable[[int], dict[str, Any]] | None = None,
    aggregate_metrics_fn: Callable[[list[Any]], dict[str, Any]] | None = None,
    validate_fn: Callable[[Any], tuple[bool, str | None]] | None = None,
    **_: object,
) -> tuple[dict[str, Any], bool, str | None]:
    """Does what ShinkaEvolve's evaluators call to run a program several times."""
    error: str | None = None
    metrics: dict[str, Any] = {"combined_score": 0.0}
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
        error = f"{type(caught).__name__}: {caught}"
    save_results(results_dir, metrics, error is None, error)
    return metrics, error is None, error


def save_results(
    results_dir: str,
    metrics: dict[str, Any],
    correct: bool,  # noqa: FBT001 - their signature
    error: str | None = None,
) -> None:
    """Writes the two files in which ShinkaEvolve's evaluators answer."""
    for name, content in (
        ("metrics.json", metrics),
        ("correct.json", {"correct": correct, "error": error}),
    ):
        with open(os.path.join(results_dir, name), "w", encoding="utf-8") as file:
            json.dump(content, file, default=_plain)


def _offer_modules() -> None:
    """Stands in for the parts of the other systems that their evaluators import."""
    offered: dict[str, dict[str, Any]] = {
        "openevolve": {},
        "openevolve.evaluation_result": {"EvaluationResult": EvaluationResult},
        "shinka": {},
        "shinka.core": {"run_shinka_eval": run_experiments, "save_json_results": save_results},
        "shinka.core.wrap_eval": {
            "run_shinka_eval": run_experiments,
            "save_json_results": save_results,
        },
    }
    for name, parts in offered.items():
        module = types.ModuleType(name)
        module.__path__ = []
        vars(module).update(parts)
        sys.modules.setdefault(name, module)


def _plain(value: Any) -> Any:
    """Returns what NumPy's numbers and arrays stand for; of anything else its text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)[:2000]


if __name__ == "__main__":
    main(sys.argv[1:])
