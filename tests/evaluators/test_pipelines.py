from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pipelines
import pytest

from evolve.problem import load_problem
from evolve.scoring import Infeasible

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'evolve[ml]'")
ROOT = Path(__file__).parents[2]
NAMES = ("digits_pipeline", "tabular_pipeline")


class DirectProgram:
    """Runs a pipeline's stages without any sandbox, and counts them."""

    def __init__(self, files: dict[str, str], folder: Path) -> None:
        self.files = files
        self.calls: list[str] = []
        folder.mkdir(exist_ok=True)
        for path, text in files.items():
            (folder / path).write_text(text)
        names = [path.removesuffix(".py") for path in files]
        sys.path.insert(0, str(folder))
        try:
            self._functions = runpy.run_path(str(folder / "workflow.py"))
        finally:
            sys.path.remove(str(folder))
            for name in names:
                sys.modules.pop(name, None)

    def call(self, function: str, *arguments: Any) -> Any:
        self.calls.append(function)
        return self._functions[function](*arguments)


def load_files(name: str, **changed: str) -> dict[str, str]:
    files = dict(load_problem(ROOT / "problems" / name).initial.files)
    return files | {f"{stage}.py": text for stage, text in changed.items()}


def load_evaluator(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "evaluators" / f"{name}.py"))


@pytest.fixture
def table():
    rng = np.random.default_rng(1)
    known, unknown = rng.normal(size=(30, 3)), rng.normal(size=(8, 3))
    return pipelines.Table(known, known.sum(axis=1), unknown, 0, f"test {rng.random()}")


@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_is_scored_alike_each_time(name, tmp_path):
    problem = load_problem(ROOT / "problems" / name)
    evaluate = load_evaluator(name)["evaluate"]
    program = DirectProgram(load_files(name), tmp_path / "p")
    first = evaluate(program, **problem.parameters)
    assert evaluate(program, **problem.parameters) == first
    assert not problem.direction.is_better(first.objective, problem.baseline.value)


@pytest.mark.parametrize("name", NAMES)
def test_no_row_is_both_learnt_from_and_asked_for(name):
    parts = load_evaluator(name)["split_rows"]()
    rows = np.concatenate(list(parts.values()))
    assert len(set(rows.tolist())) == len(rows)
    assert list(parts) == ["known", "validation", "hold-out"]


def test_unchanged_stages_are_not_run_again(table, tmp_path):
    first = DirectProgram(load_files("tabular_pipeline"), tmp_path / "a")
    pipelines.run_pipeline(first, table)
    assert first.calls == ["load", "split", "features", *["train"] * 4, "ensemble"]
    later = "def ensemble(held, targets, final):\n    return final.mean(axis=0) + 1.0\n"
    second = DirectProgram(load_files("tabular_pipeline", ensemble=later), tmp_path / "b")
    said = pipelines.run_pipeline(second, table)
    assert second.calls == ["ensemble"]
    again = DirectProgram(load_files("tabular_pipeline", ensemble=later), tmp_path / "c")
    assert np.array_equal(pipelines.run_pipeline(again, table).unknown, said.unknown)


def test_a_change_of_an_early_stage_runs_all_that_follow(table, tmp_path):
    pipelines.run_pipeline(DirectProgram(load_files("tabular_pipeline"), tmp_path / "a"), table)
    split = "def split(targets):\n    return [i % 2 for i in range(len(targets))]\n"
    changed = DirectProgram(load_files("tabular_pipeline", split=split), tmp_path / "b")
    pipelines.run_pipeline(changed, table)
    assert changed.calls == ["split", "features", *["train"] * 3, "ensemble"]


@pytest.mark.parametrize(
    ("stage", "body", "message"),
    [
        ("load", "known, unknown[:-1]", r"load\[1\]: expected 8 by any number numbers"),
        ("load", "known", "load: expected two tables, got a"),
        ("load", "known, unknown[:, :1]", "expected the same number of columns"),
        ("load", "known * float('nan'), unknown", r"load\[0\]\[0\]\[0\]: expected a finite number"),
    ],
)
def test_a_stage_of_another_form_is_named(stage, body, message, table, tmp_path):
    text = f"def {stage}(known, unknown):\n    return {body}\n"
    program = DirectProgram(load_files("tabular_pipeline", **{stage: text}), tmp_path / "p")
    with pytest.raises(Infeasible, match=message):
        pipelines.run_pipeline(program, table)


def test_a_single_fold_is_refused(table, tmp_path):
    text = "def split(targets):\n    return targets * 0\n"
    program = DirectProgram(load_files("tabular_pipeline", split=text), tmp_path / "p")
    with pytest.raises(Infeasible, match="expected 2 to 10 folds, got 1"):
        pipelines.run_pipeline(program, table)


def test_a_stage_cannot_change_what_the_next_program_gets(table, tmp_path):
    spoil = "def ensemble(held, targets, final):\n    final[:] = 0\n    return final[0]\n"
    spoiling = DirectProgram(load_files("tabular_pipeline", ensemble=spoil), tmp_path / "a")
    pipelines.run_pipeline(spoiling, table)
    honest = DirectProgram(load_files("tabular_pipeline"), tmp_path / "b")
    assert pipelines.run_pipeline(honest, table).unknown.any()
