"""Judges programs of the gallery in a real sandbox, as a run does, but in this process."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from evolve.evaluation.evaluator import EvaluationRequest
from evolve.evaluation.verdict import evaluate_program, load_evaluator
from evolve.problem import load_problem
from evolve.records import Evaluation, Program, SourceFile
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.layout import find_view
from evolve.scoring.runner import ProgramRunner
from tests.builders import make_runner

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


class Judge:
    """The evaluator of one problem on a bench of its own.

    Args:
        name: Of the problem.
        bench: Where programs run.
        parameters: Other values for the problem's parameters.
    """

    def __init__(self, name: str, bench: ProgramRunner, parameters: dict[str, object]) -> None:
        self.problem = load_problem(ROOT / "problems" / name, parameters)
        self._bench = bench
        self._functions = load_evaluator(self.problem)

    def __call__(self, *changes: tuple[str, str], path: str | None = None) -> Evaluation:
        """Evaluates the starting program with texts of one file replaced, all of it by `""`."""
        path = path or self.problem.initial.entry.path
        files = []
        for name, text in self.problem.initial.files:
            changed = text
            for old, new in changes if name == path else ():
                assert old in text, old
                changed = changed.replace(old, new) if old else new
            files.append(SourceFile(name, changed))
        request = EvaluationRequest(Program(tuple(files)))
        return evaluate_program(self.problem, self._functions, self._bench, request)


def open_judge(name: str, **parameters: object) -> Iterator[Judge]:
    """Returns a judge for one test module; for fixtures."""
    problem = load_problem(ROOT / "problems" / name)
    with closing(open_sandbox("auto", find_view(problem.packages))) as sandbox:
        yield Judge(name, make_runner(sandbox, problem), parameters)
