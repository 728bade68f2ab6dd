"""Timing runs take turns, whatever process they are in."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from evolve.errors import SandboxError
from evolve.evaluation.machine import find_own_folder, hold_quiet
from evolve.evaluation.pool import LocalEvaluators
from evolve.problem import load_problem
from evolve.records import Status
from tests.builders import make_config
from tests.commands import write_problem

TIMED = """
from evolve.scoring import Score

def evaluate(program):
    timing = program.time("point", repeats=1)
    return Score(timing.seconds.median, measures={"first": timing.values[0][0]})
"""


def test_a_second_timing_run_waits_for_the_first_and_says_so() -> None:
    told: list[str] = []
    waits = threading.Event()

    def tell() -> None:
        told.append("tell")
        waits.set()

    def second() -> None:
        with hold_quiet(tell) as core:
            told.append(f"core {core >= 0}")

    with ThreadPoolExecutor(1) as pool:
        with hold_quiet(lambda: None):
            done = pool.submit(second)
            assert waits.wait(20)
            told.append("first ends")
        done.result()
    assert told == ["tell", "first ends", "tell", "core True"]


def test_a_folder_that_others_may_write_holds_no_lock(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "own").mkdir(0o700)
    (tmp_path / "link").symlink_to("own")
    (tmp_path / "file").write_text("")
    unfit = [tmp_path / name for name in ("open", "link", "file", "none/below")]
    assert find_own_folder([*unfit, tmp_path / "new"]) == tmp_path / "new"
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    with pytest.raises(SandboxError, match="only this user can write"):
        find_own_folder(unfit)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_holds_no_lock(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(0o700)
    os.chown(tmp_path / "theirs", 64000, 64000)
    with pytest.raises(SandboxError, match="TMPDIR"):
        find_own_folder([tmp_path / "theirs"])


def test_the_wait_for_others_is_not_the_programs(tmp_path: Path) -> None:
    seconds = 3.0
    problem = load_problem(write_problem(tmp_path / "problem", evaluator=TIMED))
    with (
        closing(LocalEvaluators(problem, make_config(seconds=seconds), 1)) as evaluators,
        ThreadPoolExecutor(1) as pool,
    ):
        evaluators.start()
        evaluators.wait()
        with hold_quiet(lambda: None):
            done = pool.submit(evaluators.evaluate, problem.initial)
            time.sleep(seconds + 0.5)
        evaluation = done.result()
    assert evaluation.status is Status.OK, evaluation.reason
