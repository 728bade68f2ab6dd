import sqlite3
from contextlib import closing

import numpy as np
import pytest

from evolve.operators import TUNE
from evolve.operators.sessions import TuningPlanner, TuningSession, TuningSessions
from evolve.problem import load_problem
from evolve.records import INITIAL, AttemptKey, Program, SourceFile, Status
from evolve.records.results import LightAttempt
from evolve.search.population import Population
from evolve.settings.sections import SearchSettings
from tests.commands import run_evolve, run_json, write_problem

TUNED = ("--set", "tuning.share=0.6", "--set", "loop.slots=4", "--generations", 12)


@pytest.fixture
def problem(tmp_path):
    return write_problem(tmp_path / "valley")


def rows(run, columns: str) -> list[tuple]:
    with closing(sqlite3.connect(run / "run.db")) as connection:
        return connection.execute(
            f"SELECT {columns} FROM attempts a LEFT JOIN evaluations e ON e.generation = "
            "a.generation AND e.slot = a.slot AND e.number = a.evaluation "
            "ORDER BY a.generation, a.slot, a.number"
        ).fetchall()


def test_constants_are_tuned_beside_the_slots_and_any_number_of_workers_tunes_alike(
    tmp_path, problem
):
    for name, workers in (("one", 1), ("many", 8)):
        run_evolve(
            "run", problem, *TUNED, "--run-dir", name, "--workers", workers,
            "--set", f"sandbox.processes={1 + workers // 4}", cwd=tmp_path,
        )  # fmt: skip
    columns = "a.generation, a.slot, a.number, a.island, a.program, a.plan, e.objective"
    assert rows(tmp_path / "one", columns) == rows(tmp_path / "many", columns)
    state = run_json("show", "one", cwd=tmp_path)
    assert state["tuning"] == {"attempts": 6 * 12, "sessions": 1}
    assert "72 attempts in 1 sessions" in run_evolve("show", "one", cwd=tmp_path).stdout
    log = run_evolve("log", "one", "--generation", 11, cwd=tmp_path).stdout
    assert "tune 2 constants by CMA-ES, samples 61 to 72" in log
    assert run_evolve("replay", "one", cwd=tmp_path).stdout.startswith("equal: ")


def test_a_share_of_zero_tunes_nothing_and_a_cap_on_evaluations_holds(tmp_path, problem):
    run_evolve("run", problem, *TUNED, "--set", "tuning.share=0", "--run-dir", "r", cwd=tmp_path)
    assert run_json("show", "r", cwd=tmp_path)["tuning"]["attempts"] == 0
    capped = ("--max-evaluations", 40, "--run-dir", "c")
    run_evolve("run", problem, *TUNED, *capped, cwd=tmp_path, code=0)
    state = run_json("show", "c", cwd=tmp_path)
    assert state["evaluations"] == 40
    assert 0 < state["tuning"]["attempts"] < 40


def attempt(key, parent=None, *, objective=0.0, operator="", program="p", status=Status.OK):
    return LightAttempt(
        AttemptKey(*key), 0, parent, 1, operator, program, program, status, objective,
        {"first": 0.0}, {},
    )  # fmt: skip


def test_a_duplicate_counts_in_its_session_with_the_objective_of_the_first(problem):
    population = Population(load_problem(problem), SearchSettings(islands=1))
    population.add(0, [attempt(INITIAL, objective=-13.0)])
    same = attempt((1, 8, 1), INITIAL, operator=TUNE, objective=None, status=Status.REJECTED)
    lost = attempt(
        (1, 8, 2), INITIAL, operator=TUNE, objective=None, status=Status.ERROR, program="q"
    )
    better = attempt((1, 8, 0), INITIAL, operator=TUNE, objective=-9.0, program="r")
    population.add(1, [better, same, lost])
    assert population.sessions.objectives == {INITIAL: [-9.0, -13.0, None]}
    assert population.sessions.last == TuningSession(0, INITIAL)


def test_a_spent_session_is_followed_by_one_on_another_structure(problem):
    texts = {
        INITIAL: "x, y = 1.5, 2.5\n",
        AttemptKey(1, 0, 0): "x, y = 1.5, 7.5\n",
        AttemptKey(1, 1, 0): "x, y = 1.5, 2.5 + 0.25\n",
        AttemptKey(1, 2, 0): "x, y = 1, 2\n",
    }
    population = Population(load_problem(problem), SearchSettings(islands=1))
    population.add(0, [attempt(INITIAL, objective=-13.0)])
    planner = TuningPlanner(
        population, lambda key: Program((SourceFile("a.py", texts[key]),)), seed=0
    )
    rng = np.random.default_rng(0)
    assert planner.next_session(rng) == TuningSession(0, INITIAL)
    samples = [attempt((1, 8, i), INITIAL, operator=TUNE, objective=-14.0) for i in range(99)]
    objectives = (-12.0, -12.5, -11.0)
    others = [
        attempt((1, slot, 0), INITIAL, objective=value, program=str(slot))._replace(
            measures={"first": 9.0 * slot - 9.0}
        )
        for slot, value in enumerate(objectives)
    ]
    population.add(1, [*others, *samples])
    assert planner.next_session(rng) == TuningSession(0, AttemptKey(1, 1, 0))


def test_attempts_outside_of_sessions_are_no_samples():
    sessions = TuningSessions()
    sessions.record(attempt((1, 0, 0), INITIAL, operator="nudge_all"), 1.0)
    assert sessions.objectives == {}
    assert sessions.last is None
