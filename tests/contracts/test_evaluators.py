"""What every place of evaluation keeps to: this machine, a Ray cluster."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from evolve.errors import EvaluationCutError, EvaluatorError
from evolve.evaluation.pool import Evaluators
from evolve.problem import load_problem
from evolve.records import Status
from evolve.runs.wiring import open_evaluators
from evolve.settings import Settings
from evolve.settings.sections import ClusterSettings, SandboxSettings
from tests.builders import make_program
from tests.clusters import ray_nodes
from tests.commands import EVALUATOR, INITIAL, PROBLEM, write_problem

PROGRAMS = {
    Status.OK: INITIAL,
    Status.INFEASIBLE: INITIAL.replace("[first, second]", "[first]"),
    Status.ERROR: INITIAL.replace("[first, second]", "[first, secnd]"),
    Status.TIMEOUT: INITIAL.replace("    return", "    while True: pass\n    return"),
    Status.MEMORY: INITIAL.replace("    return", "    first = b'x' * 10**10\n    return"),
}
TIMELESS = ("seconds", "machine")


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    toml = PROBLEM.replace("seconds = 2.0", "seconds = 2.0\nmemory_mb = 256")
    folder = tmp_path_factory.mktemp("places") / "valley"
    return load_problem(write_problem(folder, toml=toml, evaluator=EVALUATOR))


@pytest.fixture(scope="module", params=["this machine", "cluster"])
def evaluators(request, problem) -> Iterator[Evaluators]:
    with ExitStack() as stack:
        address = ""
        if request.param == "cluster":
            address = stack.enter_context(ray_nodes(2)).address
        settings = Settings(
            cluster=ClusterSettings(address=address),
            sandbox=SandboxSettings(backend="bubblewrap", processes=2),
        )
        place = stack.enter_context(closing(open_evaluators(problem, settings)))
        place.start()
        assert place.wait().is_strong
        yield place


@pytest.mark.parametrize("status", PROGRAMS, ids=str)
def test_a_program_gets_the_verdict_that_it_deserves(evaluators: Evaluators, status: Status):
    verdict = evaluators.evaluate(make_program(PROGRAMS[status]))
    assert verdict.status is status, verdict.reason
    # A failure is never a number.
    assert (verdict.objective is None) == (status is not Status.OK)
    assert bool(verdict.reason) == (status is not Status.OK)
    assert verdict.seconds > (1.5 if status is Status.TIMEOUT else 0)


def test_the_same_program_gets_the_same_verdict_from_many_threads(evaluators: Evaluators):
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(evaluators.evaluate, [make_program(INITIAL)] * 8))
    assert {(verdict.status, verdict.objective) for verdict in found} == {(Status.OK, -13.0)}
    assert {tuple(verdict.measures.items()) for verdict in found} == {(("first", 1.0),)}


def test_what_runs_can_be_cut_and_others_follow(evaluators: Evaluators):
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(evaluators.evaluate, make_program(PROGRAMS[Status.TIMEOUT]))
        time.sleep(0.5)
        evaluators.cut()
        with pytest.raises(EvaluationCutError, match="the evaluation was cut"):
            running.result(30)
    assert evaluators.evaluate(make_program(INITIAL)).status is Status.OK


def test_a_closed_place_evaluates_nothing_and_may_be_closed_again(problem):
    place = open_evaluators(problem, Settings(sandbox=SandboxSettings(backend="bubblewrap")))
    place.start()
    place.close()
    place.close()
    with pytest.raises(EvaluatorError, match="the pool is closed"):
        place.evaluate(problem.initial)
