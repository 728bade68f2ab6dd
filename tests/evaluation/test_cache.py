import sqlite3

import pytest

from evolve.errors import StoreError, UsageError
from evolve.evaluation.cache import EvaluationCache, hash_evaluator
from evolve.problem import load_problem
from evolve.records import Evaluation, Program, SourceFile, Status
from tests.commands import EVALUATOR, PROBLEM, run_evolve, run_json, write_problem

OK = Evaluation(Status.OK, 1.5, {"m": 2.0}, {"first": 0.5}, {"note": "seen\n"}, 0.25)


class Counting:
    def __init__(self, evaluation=OK):
        self.evaluation = evaluation
        self.count = 0

    def __call__(self, program):
        self.count += 1
        return self.evaluation


def program(text="x = 1\n"):
    return Program((SourceFile("initial.py", text),))


def open_cache(tmp_path, evaluate, version="v"):
    return EvaluationCache(tmp_path / "verdicts.db", version, evaluate)


def test_a_verdict_is_given_again_whole_by_another_run(tmp_path):
    first, second = Counting(), Counting()
    assert open_cache(tmp_path, first).evaluate(program()) == OK
    again = open_cache(tmp_path, second)
    assert again.evaluate(program()) == OK
    assert (first.count, second.count, again.hits) == (1, 0, 1)


def test_another_program_or_evaluator_is_evaluated(tmp_path):
    evaluate = Counting()
    open_cache(tmp_path, evaluate).evaluate(program())
    open_cache(tmp_path, evaluate).evaluate(program("x = 2\n"))
    open_cache(tmp_path, evaluate, "w").evaluate(program())
    assert evaluate.count == 3


@pytest.mark.parametrize("status", Status)
def test_only_what_says_something_of_the_program_itself_is_kept(tmp_path, status):
    evaluate = Counting(OK if status is Status.OK else Evaluation(status, reason="why"))
    cache = open_cache(tmp_path, evaluate)
    assert cache.evaluate(program()) == cache.evaluate(program()) == evaluate.evaluation
    is_kept = status in {Status.OK, Status.INFEASIBLE, Status.ERROR}
    assert evaluate.count == (1 if is_kept else 2)


def test_a_file_of_something_else_is_refused_by_name(tmp_path):
    (tmp_path / "verdicts.db").write_text("no database\n" * 100)
    with pytest.raises(StoreError, match=r"^sandbox\.cache: .*verdicts\.db: .* delete it"):
        open_cache(tmp_path, Counting())


def test_a_damaged_verdict_is_told(tmp_path):
    open_cache(tmp_path, Counting()).evaluate(program())
    with sqlite3.connect(tmp_path / "verdicts.db") as connection:
        connection.execute("UPDATE verdicts SET verdict = '{}'")
    with pytest.raises(StoreError, match=r"^sandbox\.cache: "):
        open_cache(tmp_path, Counting()).evaluate(program())


def test_the_evaluator_counts_with_all_that_verdicts_follow_from(tmp_path):
    folder = write_problem(tmp_path / "problem")
    seen = {hash_evaluator(load_problem(folder)), hash_evaluator(load_problem(folder))}
    assert len(seen) == 1
    seen.add(hash_evaluator(load_problem(folder), ("docker",)))
    (folder / "evaluator.py").write_text(EVALUATOR.replace("3.0", "4.0"))
    seen.add(hash_evaluator(load_problem(folder)))
    (folder / "problem.toml").write_text(PROBLEM.replace("seconds = 2.0", "seconds = 3.0"))
    seen.add(hash_evaluator(load_problem(folder)))
    assert len(seen) == 4


def test_a_problem_with_noise_has_no_cache(tmp_path):
    toml = PROBLEM.replace("packages = []", "packages = []\nnoise = 0.1")
    problem = load_problem(write_problem(tmp_path / "problem", toml=toml))
    with pytest.raises(UsageError, match=r"^sandbox\.cache: .*`noise = 0\.1`"):
        hash_evaluator(problem)


def test_a_second_run_takes_its_verdicts_from_the_file_and_is_the_same(tmp_path):
    problem = write_problem(tmp_path / "problem")
    command = ("run", problem, "--generations", 3, "--set", "sandbox.cache=shared.db")
    run_evolve(*command, "--run-dir", "first", cwd=tmp_path)
    told = run_evolve(*command, "--run-dir", "second", cwd=tmp_path).stdout
    states = [run_json("show", name, cwd=tmp_path) for name in ("first", "second")]
    paid = states[0]["evaluations"] - 1
    assert f"verdicts from shared.db: {paid};" in told
    assert states[0]["champion"] == states[1]["champion"]
    assert states[0]["evaluations"] == states[1]["evaluations"]
