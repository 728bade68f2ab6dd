"""What a program printed: part of every evaluation that models may learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evolve.problem import Purpose, load_problem
from evolve.records import Attempt, AttemptKey, Status
from evolve.sandbox.backends import open_sandbox
from evolve.sandbox.layout import find_view
from evolve.steps.prompt import show_evaluation
from tests.builders import judge_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evolve.problem import Problem
    from evolve.sandbox.backends import Sandbox

EVALUATOR = """
from evolve.scoring import Score

def evaluate(program):
    program.other({"initial.py": "def f(): print('reference')"}).call("f")
    program.call("f")
    program.restart()
    program.call("f")
    return Score(1.0)

def holdout(program):
    return evaluate(program)
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = open_sandbox("auto", find_view(()))
    yield sandbox
    sandbox.close()


def write_problem(folder: Path, source: str, evaluator: str = EVALUATOR, more: str = "") -> Problem:
    toml = f'{more}direction = "maximize"\npackages = []\n[limits]\nseconds = 2\n'
    for name, text in {
        "problem.toml": toml,
        "statement.md": "Print.\n",
        "initial.py": f"import sys\ndef f():\n    {source}\n",
        "evaluator.py": evaluator,
    }.items():
        (folder / name).write_text(text)
    return load_problem(folder)


def test_an_evaluation_holds_what_all_processes_of_the_program_printed(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    problem = write_problem(tmp_path, "print('out'); print('err', file=sys.stderr)")
    found = judge_program(sandbox, problem)
    assert found.status is Status.OK
    assert found.artifacts == {"output": "out\nerr\nout\nerr\n"}
    attempt = Attempt(AttemptKey(1, 0, 0), 0, None, 0, None, problem.initial, found)
    assert "output:\n\n```\nout\nerr\n" in show_evaluation(attempt, problem)


def test_only_the_end_is_kept(sandbox: Sandbox, tmp_path: Path) -> None:
    found = judge_program(sandbox, write_problem(tmp_path, "print('x' * 10**6 + '\\x1b[2Jlast')"))
    text = found.artifacts["output"]
    assert len(text) < 2050
    assert text.startswith("[...]\nx")
    assert text.endswith("x\N{REPLACEMENT CHARACTER}[2Jlast\n")


def test_a_failure_holds_both_its_traceback_and_its_output(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    found = judge_program(sandbox, write_problem(tmp_path, "print('state 7'); 1 / 0"))
    assert found.artifacts["output"] == "state 7\n"
    assert found.artifacts["traceback"].endswith("ZeroDivisionError: division by zero")


def test_a_time_out_holds_its_stack(sandbox: Sandbox, tmp_path: Path) -> None:
    found = judge_program(
        sandbox, write_problem(tmp_path, "print('state 7')\n    while True: pass")
    )
    assert "; it was in line 4 of initial.py (limit: [limits] seconds)" in found.reason
    assert found.artifacts == {
        "traceback": '  File "initial.py", line 4, in f\n    while True: pass\n',
        "output": "state 7\n",
    }


def test_an_evaluators_own_artifact_of_that_name_stays(sandbox: Sandbox, tmp_path: Path) -> None:
    evaluator = EVALUATOR.replace("Score(1.0)", "Score(1.0, artifacts={'output': 'mine'})")
    found = judge_program(sandbox, write_problem(tmp_path, "print('out')", evaluator))
    assert found.artifacts == {"output": "mine"}


@pytest.mark.parametrize(
    ("more", "purpose"), [("secret = true\n", Purpose.SEARCH), ("", Purpose.HOLDOUT)]
)
def test_of_secret_inputs_and_holdouts_nothing_is_kept(
    sandbox: Sandbox, tmp_path: Path, more: str, purpose: Purpose
) -> None:
    more += 'holdout = "holdout"\n' if purpose is Purpose.HOLDOUT else ""
    found = judge_program(
        sandbox, write_problem(tmp_path, "print('out')", more=more), purpose=purpose
    )
    assert (found.status, found.artifacts) == (Status.OK, {})
