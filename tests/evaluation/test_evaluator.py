"""The world of an evaluator: what it prints, reads, starts and awaits, and what it is shown."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from evolve.errors import ProblemError
from evolve.evaluation.pool import LocalEvaluators
from evolve.problem import load_problem
from evolve.records import Evaluation, Status
from evolve.runs.wiring import open_evaluators
from evolve.settings import Settings, change_settings
from tests.commands import write_problem

if TYPE_CHECKING:
    from pathlib import Path

PROBLEM = 'direction = "maximize"\npackages = []\n[limits]\nseconds = 2\n'
HEAD = "from evolve.scoring import Score\n"


def open_pool(folder: Path, evaluator: str, toml: str = PROBLEM) -> LocalEvaluators:
    problem = load_problem(write_problem(folder / "p", evaluator=HEAD + evaluator, toml=toml))
    return open_evaluators(problem, change_settings(Settings(), {"sandbox.processes": 1}, where=""))


def evaluate(folder: Path, evaluator: str, toml: str = PROBLEM) -> tuple[Evaluation, str]:
    """Returns the verdict on the starting program, and what the evaluator printed."""
    with closing(open_pool(folder, evaluator, toml)) as pool:
        verdict = pool.evaluate(load_problem(folder / "p").initial)
        return verdict, pool.printed


@pytest.mark.parametrize(
    "value",
    ["numpy.array(2.5)", "numpy.float32(2.5)", "numpy.array(2.5, dtype='f2')", "Fraction(5, 2)"],
)
def test_an_objective_may_be_any_number(tmp_path: Path, value: str) -> None:
    text = f"import numpy\nfrom fractions import Fraction\ndef evaluate(p): return Score({value})\n"
    assert evaluate(tmp_path, text)[0].objective == 2.5


@pytest.mark.parametrize("value", ["numpy.array(True)", "numpy.array([2.5])", "'2.5'"])
def test_what_is_no_number_is_no_objective(tmp_path: Path, value: str) -> None:
    text = f"import numpy\ndef evaluate(program): return Score({value})\n"
    found = evaluate(tmp_path, text)[0]
    assert found.status is Status.EVALUATOR_FAILED
    assert "objective: expected a number" in found.reason


def test_an_evaluator_may_be_asynchronous_and_keeps_its_loop(tmp_path: Path) -> None:
    text = (
        "import asyncio\nLOOPS = set()\n"
        "async def evaluate(program):\n"
        "    await asyncio.sleep(0)\n"
        "    LOOPS.add(asyncio.get_running_loop())\n"
        "    return Score(len(LOOPS))\n"
    )
    with closing(open_pool(tmp_path, text)) as pool:
        program = load_problem(tmp_path / "p").initial
        assert [pool.evaluate(program).objective for _ in range(2)] == [1.0, 1.0]


def test_functions_of_an_evaluator_reach_processes_that_it_spawns(tmp_path: Path) -> None:
    text = (
        "import multiprocessing\n"
        "def double(x): return 2 * x\n"
        "def evaluate(program):\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        return Score(pool.map(double, [4])[0])\n"
    )
    assert evaluate(tmp_path, text)[0].objective == 8.0


def test_standard_input_is_empty_for_an_evaluator_and_what_it_starts(tmp_path: Path) -> None:
    text = (
        "import subprocess, sys\n"
        "def evaluate(program):\n"
        "    ours = sys.stdin.read()\n"
        "    theirs = subprocess.run(['cat'], capture_output=True, timeout=9).stdout\n"
        "    return Score(len(ours) + len(theirs))\n"
    )
    assert evaluate(tmp_path, text)[0].objective == 0.0


def test_the_end_of_what_an_evaluator_prints_is_kept_whatever_it_prints(tmp_path: Path) -> None:
    text = (
        "def evaluate(program):\n"
        "    for i in range(200_000): print('progress', i)\n"
        "    print('last')\n"
        "    return Score(1.0)\n"
    )
    verdict, printed = evaluate(tmp_path, text)
    assert verdict.objective == 1.0
    assert verdict.artifacts == {}
    assert printed.endswith("\nlast")
    assert len(printed) <= 2000


@pytest.mark.parametrize("end", ["1 / 0", "import os; sys.stdout.flush(); os._exit(3)"])
def test_what_an_evaluator_printed_is_kept_with_its_failure(tmp_path: Path, end: str) -> None:
    text = f"import sys\ndef evaluate(program):\n    print('so far, so good')\n    {end}\n"
    found = evaluate(tmp_path, text)[0]
    assert found.status is Status.EVALUATOR_FAILED
    assert "so far, so good" in f"{found.reason} {found.artifacts}"
    assert "so far, so good" not in str(found.for_models())


def test_what_an_evaluator_printed_before_it_could_not_be_imported_is_shown(tmp_path: Path) -> None:
    with closing(open_pool(tmp_path, "print('loading')\n1 / 0\n")) as pool:
        pool.start()
        with pytest.raises(ProblemError, match=r"ZeroDivisionError(.|\n)*printed:\nloading"):
            pool.wait()


# Set for all tests, and none of those that an evaluator always sees.
NAME = "XDG_STATE_HOME"
READS = f"import os\nROOT = os.environ['{NAME}']\ndef evaluate(p): return Score(len(ROOT))\n"
NAMED = f'{PROBLEM}[evaluator]\nenvironment = ["{NAME}"]\n'


def test_an_evaluator_sees_the_variables_that_its_problem_names(tmp_path: Path) -> None:
    assert evaluate(tmp_path, READS, NAMED)[0].objective == len(os.environ[NAME])


def test_a_variable_that_is_named_and_not_set_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"`environment`: expected DATA_ROOT to be set"):
        open_pool(tmp_path, READS, NAMED.replace(NAME, "DATA_ROOT"))


@pytest.mark.parametrize("where", ["", "def evaluate(program):\n    "])
def test_a_variable_that_is_not_let_through_is_named(tmp_path: Path, where: str) -> None:
    with closing(open_pool(tmp_path, f"import os\n{where}os.environ['{NAME}']\n")) as pool:
        try:
            reason = pool.evaluate(load_problem(tmp_path / "p").initial).reason
        except ProblemError as error:
            reason = str(error)
    assert f'write `[evaluator]` and `environment = ["{NAME}"]` in problem.toml' in reason


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("import time; time.sleep(9)", "[limits] seconds"),
        ("x = bytearray(900_000_000)", "[limits] memory_mb"),
        ("open('x', 'wb').write(bytes(9 << 20)); open('y', 'wb').write(b'')", "workspace_mb"),
        ("return bytes(3 << 20)", "reply_mb"),
        ("import os; [os.fork() for _ in range(40)]", "[limits] processes"),
    ],
)
def test_every_limit_is_named_with_its_key(tmp_path: Path, source: str, key: str) -> None:
    limits = "seconds = 1\nmemory_mb = 200\nworkspace_mb = 8\nreply_mb = 2\nprocesses = 4\n"
    toml = f'direction = "maximize"\npackages = []\n[limits]\n{limits}'
    folder = write_problem(
        tmp_path / "p",
        initial=f"def point():\n    {source}\n",
        evaluator=f"{HEAD}def evaluate(p): return Score(len(p.call('point') or b''))\n",
        toml=toml,
    )
    problem = load_problem(folder)
    with closing(open_evaluators(problem, Settings())) as pool:
        assert key in pool.evaluate(problem.initial).reason


def test_the_deadline_of_the_evaluator_itself_is_named_with_its_key(tmp_path: Path) -> None:
    text = "import time\ndef evaluate(program): time.sleep(9)\n"
    found = evaluate(tmp_path, text, "evaluator_seconds = 1\n" + PROBLEM)[0]
    assert "did not answer within 1 s; make it faster, or raise `evaluator_seconds`" in found.reason
