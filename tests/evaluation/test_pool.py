"""The evaluator's own process: its limits, and what becomes of it."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from evolve.errors import EvaluatorError, SandboxError
from evolve.problem import load_problem
from evolve.records import Evaluation, Program, SourceFile, Status
from tests.builders import open_pool
from tests.commands import EVALUATOR, PROBLEM, write_problem

if TYPE_CHECKING:
    from pathlib import Path

PID = "import os\n" + EVALUATOR.replace(
    'measures={"first": first}', 'measures={"first": first}, metrics={"pid": os.getpid()}'
)
GREEDY = PID.replace("evaluate(program):", "evaluate(program):\n    data = b'x' * (200 << 20)")
LEAKING = PID.replace("def ", "LEAK = []\n\ndef ", 1).replace(
    "evaluate(program):", "evaluate(program):\n    LEAK.append(b'x' * (20 << 20))"
)
HUNG = PID.replace("evaluate(program):", "evaluate(program):\n    while True: pass")
CRASHING = PID.replace("evaluate(program):", "evaluate(program):\n    os.kill(os.getpid(), 11)")


def evaluate(folder: Path, text: str, times: int, **changes: float) -> list[Evaluation]:
    """Evaluates the starting program so many times in one process at a time."""
    write_problem(folder / "problem", evaluator=text, toml=PROBLEM)
    problem = load_problem(folder / "problem")
    with closing(open_pool(problem, **changes)) as pool:
        return [pool.evaluate(problem.initial) for _ in range(times)]


def pids_of(found: list[Evaluation]) -> list[float]:
    assert {item.status for item in found} == {Status.OK}, found
    return [item.metrics["pid"] for item in found]


def test_a_process_serves_many_programs(tmp_path: Path) -> None:
    assert len(set(pids_of(evaluate(tmp_path, PID, 5)))) == 1


def test_an_evaluator_that_leaks_is_replaced_before_its_limit(tmp_path: Path) -> None:
    assert len(set(pids_of(evaluate(tmp_path, LEAKING, 6, memory_mb=150)))) > 1


def test_an_evaluator_that_takes_too_much_memory_is_named(tmp_path: Path) -> None:
    slow = GREEDY.replace("(200 << 20)", "(200 << 20)\n    import time; time.sleep(60)")
    (found,) = evaluate(tmp_path, slow, 1, memory_mb=150)
    assert found.status is Status.EVALUATOR_FAILED
    assert "the evaluator's process used more than 150 MB" in found.reason
    assert "sandbox.evaluator_memory_mb" in found.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [(HUNG, "did not answer within 1 s"), (CRASHING, "was killed by signal 11")],
    ids=["hung", "crashing"],
)
def test_an_evaluator_that_breaks_is_told_apart_from_a_program(
    tmp_path: Path, text: str, reason: str
) -> None:
    first, second = evaluate(tmp_path, text, 2, seconds=1.0)
    assert first.status is second.status is Status.EVALUATOR_FAILED
    assert reason in first.reason


def test_an_evaluator_that_always_breaks_stops_the_run(tmp_path: Path) -> None:
    broken = PID.replace("evaluate(program):", "evaluate(program):\n    1 / 0")
    with pytest.raises(EvaluatorError, match=r"failed on 10 programs in a row.*ZeroDivisionError"):
        evaluate(tmp_path, broken, 10)


def test_what_programs_return_cannot_stop_the_run(tmp_path: Path) -> None:
    asked = 'program.call("point")'
    trusting = EVALUATOR.replace(f'as_floats({asked}, (2,), where="point")', asked)
    problem = load_problem(write_problem(tmp_path / "problem", evaluator=trusting, toml=PROBLEM))
    hostile = Program((SourceFile("initial.py", "def point(): return 'ab'"),))
    with closing(open_pool(problem)) as pool:
        found = [pool.evaluate(hostile) for _ in range(21)]
    assert {item.status for item in found} == {Status.EVALUATOR_FAILED}


COUNTING = """
import os
from pathlib import Path
from evolve.scoring import Score

COUNT = Path(__file__).with_name("count")

def count():
    COUNT.write_text(str(int(COUNT.read_text()) + 1 if COUNT.exists() else 1))

def smoke(program):
    count()
    program.call("point")

def evaluate(program):
    count()
    value = program.call("point")
    if value == "break the evaluator":
        os.abort()
    return Score(float(value))
"""
LIMITS_ITSELF = """import resource
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
        while True: pass"""
THROWS = """
import os

def point():
    roll = os.urandom(1)[0]
    if roll < 250:
        {action}
    return roll
"""


@pytest.mark.parametrize("backend", ["docker", "bubblewrap", "native"])
@pytest.mark.parametrize(
    ("action", "smoke"),
    [
        ("os._exit(roll)", ""),
        ("os._exit(roll)", 'smoke = "smoke"\n'),
        ("os.abort()", ""),
        ("return 'break the evaluator'", ""),
        (LIMITS_ITSELF, ""),
    ],
    ids=["exit", "exit in the smoke check", "abort", "breaks the evaluator", "killed by its limit"],
)
def test_a_program_throws_its_dice_once(
    tmp_path: Path, backend: str, action: str, smoke: str
) -> None:
    program = THROWS.format(action=action)
    toml = smoke + PROBLEM
    problem = load_problem(
        write_problem(tmp_path / "problem", evaluator=COUNTING, toml=toml, initial=program)
    )
    with closing(open_pool(problem, backend)) as pool:
        try:
            pool.wait()
        except SandboxError as error:
            if backend in os.environ.get("EVOLVE_REQUIRE_SANDBOXES", ""):
                raise
            pytest.skip(str(error))
        for number in range(1, 4):
            found = pool.evaluate(problem.initial)
            is_both = bool(smoke) and found.status is not Status.REJECTED
            times = int((problem.folder / "count").read_text())
            (problem.folder / "count").unlink()
            assert times == 1 + is_both, (number, found)
