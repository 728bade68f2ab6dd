from __future__ import annotations

import runpy
from typing import TYPE_CHECKING, Any

import pytest

from evolve.errors import UsageError
from evolve.problem import Purpose, load_problem
from evolve.problem.gallery import scaffold_problem
from evolve.source import BUILT_IN_MEASURES

if TYPE_CHECKING:
    from pathlib import Path


class DirectProgram:
    """Calls the functions of a program file without any sandbox."""

    def __init__(self, path: Path) -> None:
        self._names = runpy.run_path(str(path))

    def call(self, function: str, *args: Any) -> Any:
        return self._names[function](*args)


def test_a_new_folder_loads_and_its_program_scores(tmp_path: Path) -> None:
    folder = tmp_path / "my first-problem"
    paths = scaffold_problem(folder)
    assert sorted(path.name for path in paths) == sorted(p.name for p in folder.iterdir())
    problem = load_problem(folder)
    assert problem.name == "my_first_problem"
    evaluate = runpy.run_path(str(problem.evaluator))[problem.functions[Purpose.SEARCH]]
    score = evaluate(DirectProgram(folder / "initial.py"), **problem.parameters)
    assert problem.baseline is not None
    assert score.objective > problem.baseline.value
    reported = {m.name for m in problem.measures if m.name not in BUILT_IN_MEASURES}
    assert set(score.measures) == reported


def test_the_recorded_baseline_is_what_the_evaluator_gives(tmp_path: Path) -> None:
    scaffold_problem(tmp_path)
    problem = load_problem(tmp_path)
    line = tmp_path / "line.py"
    line.write_text(
        "def predict(minutes):\n    return [71.68351648 - 0.91868132 * m for m in minutes]\n"
    )
    evaluate = runpy.run_path(str(problem.evaluator))["evaluate"]
    score = evaluate(DirectProgram(line), **problem.parameters)
    assert problem.baseline is not None
    assert score.objective == pytest.approx(problem.baseline.value, abs=1e-4)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "statement.md").write_text("mine")
    with pytest.raises(UsageError, match=r"statement\.md: expected no such file"):
        scaffold_problem(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["statement.md"]


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert len(scaffold_problem(tmp_path)) == 4
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        scaffold_problem(tmp_path / "file" / "inside")
