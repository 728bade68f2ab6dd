from __future__ import annotations

import ast
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evolve.operators.syntax import Number
from evolve.operators.tuning import (
    MAX_CONSTANTS,
    Tunable,
    TunableRange,
    Tuner,
    TuningPlanner,
    TuningSession,
    TuningSessions,
    find_tunables,
    hash_skeleton,
    is_spent,
    set_tunables,
)
from evolve.problem import load_problem
from evolve.records import INITIAL, TUNE, AttemptKey, Direction, Plan, Program, SourceFile, Status
from evolve.records.results import LightAttempt
from evolve.search.population import Population
from evolve.settings.sections import SearchSettings
from tests.builders import make_program
from tests.commands import run_evolve, run_json, write_problem

PYTHON = """size, count = 0.3, 8
# EVOLVE-BLOCK-START
margin, turns = 0.01, 3
def area(x, scale=-2.0):
    return 0.5 * x - (-1.5) + scale * 2.0 + 0.125 * x
# EVOLVE-BLOCK-END
"""


def values(text: str, path: str = "initial.py") -> list[float]:
    return [tunable.number.value for tunable in find_tunables(make_program(text, path))]


def test_without_marks_the_evolvable_constants_that_are_no_formula_are_found() -> None:
    assert values(PYTHON) == [0.01, -2.0, -1.5, 0.125]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.json", '{"a": 0.5, "b": [-7, 1e-3], "c": "9 and 8", "v1": 2}'),
        ("a.toml", 'a = 0.5 # 9\nb = [-7, 1e-3]\nc = "8"\nv1 = 2\nday = 2026-01-02\n'),
        ("a.yaml", "a: 0.5 # 9\nb: [-7, 1e-3]\nc: '8'\nv1: 2\nat: 12:30\n"),
    ],
)
def test_all_numbers_of_data_are_found_and_keep_their_kind(path: str, text: str) -> None:
    assert values(text, path) == [0.5, -7.0, 0.001, 2.0]
    parent = make_program(text, path)
    child = set_tunables(parent, find_tunables(parent), [0.0, -1.0, -0.00999, 1.0])
    assert "-14, 1.0e-06]" in child.entry.text
    assert "4" in child.entry.text


def test_no_more_constants_are_given_than_asked_for() -> None:
    assert len(find_tunables(make_program("x = [" + "0.3, " * 99 + "]"))) == MAX_CONSTANTS


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("a.py", "x = 2.5  # tune: 0.1 .. 10 log"),
        ("a.c", "double x = 2.5; // tune: 0.1..10 log"),
        ("a.c", "double x = 2.5; /* tune: 0.1 .. 1e1 log */"),
        ("a.sql", "SET x = 2.5; -- tune: .1 .. 10 log"),
        ("a.lisp", "(defvar x 2.5) ; tune: 0.1 .. 10 log"),
        ("a.m", "% tune: 0.1 .. 10 log\nx = 2.5"),
    ],
)
def test_a_mark_in_any_comment_syntax_names_a_constant_and_its_range(path: str, line: str) -> None:
    (tunable,) = find_tunables(make_program(f"y1 = 4.5\n{line}\n", path))
    assert (tunable.number.value, tunable.range) == (2.5, TunableRange(0.1, 10.0, is_log=True))


def test_several_ranges_belong_to_the_constants_of_the_line_in_order() -> None:
    tunables = find_tunables(make_program("x = f(0.5, 7, 3.0)  # tune: 0 .. 1, 1 .. 9\n"))
    assert [repr(tunable.number.value) for tunable in tunables] == ["0.5", "7"]


def test_marks_outside_the_blocks_and_ranges_that_are_none_count_for_nothing() -> None:
    text = "a = 0.7 # tune: 0 .. 1\n# EVOLVE-BLOCK-START\nb = 0.3 # tune: 1 .. 0\n"
    assert values(text + "# EVOLVE-BLOCK-END\n") == [0.3]


def test_a_sign_that_may_be_an_operator_stays() -> None:
    parent = make_program("y = x -2.0  # tune: 1 .. 3\n")
    tunables = find_tunables(parent)
    assert set_tunables(parent, tunables, [1.0]).entry.text == "y = x -3.0  # tune: 1 .. 3\n"


def test_turned_constants_stay_in_their_ranges_and_the_rest_of_the_text_as_it_was() -> None:
    parent = make_program(PYTHON)
    child = set_tunables(parent, find_tunables(parent), [1.0, 2.0, 0.0, -20.0])
    assert child.entry.text == PYTHON.replace("0.01,", "0.11,").replace("-2.0", "2.0").replace(
        "0.125", "(-2.375)"
    )


def test_programs_that_differ_in_constants_only_have_one_skeleton() -> None:
    parent = make_program(PYTHON)
    tunables = find_tunables(parent)
    child = set_tunables(parent, tunables, [0.3, 1.0, 0.5, 1.7])
    assert hash_skeleton(child, find_tunables(child)) == hash_skeleton(parent, tunables)
    other = make_program(PYTHON.replace("turns", "turn"))
    assert hash_skeleton(other, find_tunables(other)) != hash_skeleton(parent, tunables)


@given(
    st.floats(1e-6, 1e6),
    st.floats(1e-3, 1e6),
    st.floats(0.0, 1.0),
    st.booleans(),
)
def test_coordinates_and_values_are_each_others_inverse(
    low: float, width: float, share: float, is_log: bool
) -> None:
    tunable = Tunable(0, Number(0, 1, low + share * width), TunableRange(low, low + width, is_log))
    assert 0.0 <= tunable.position <= 1.0
    assert tunable.value_at(tunable.position) == pytest.approx(tunable.number.value, rel=1e-6)
    assert low <= tunable.value_at(share * 3 - 1) <= low + width


TEXT = "def point():\n    x, y = 1.25, 1.75\n    return x, y\n"


def start(text: str = TEXT) -> Program:
    return Program((SourceFile("initial.py", text),))


def distance(made: Program) -> float:
    assigned = ast.parse(made.entry.text).body[0].body[0]  # type: ignore[attr-defined]
    x, y = ast.literal_eval(assigned.value)
    return float((x - 3.0) ** 2 + 10.0 * (y + 2.0) ** 2)


def tune(tuner: Tuner, samples: int, batch: int = 64) -> list[str]:
    texts: list[str] = []
    while len(texts) < samples:
        made = tuner.ask(min(batch, samples - len(texts)))
        tuner.add([distance(one) for one in made])
        texts += [one.entry.text for one in made]
    return texts


def test_a_session_finds_the_best_constants() -> None:
    tuner = Tuner(start(), Direction.MINIMIZE, seed=[1])
    assert tuner.constants == 2
    tune(tuner, 300)
    assert min(one for one in tuner.objectives if one is not None) < 1e-6


def test_the_scale_of_objectives_and_its_direction_do_not_matter() -> None:
    up = Tuner(start(), Direction.MAXIMIZE, seed=[2])
    down = Tuner(start(), Direction.MINIMIZE, seed=[2])
    for _ in range(40):
        (one,), (other,) = up.ask(1), down.ask(1)
        assert one == other
        up.add([-(distance(one) ** 3)])
        down.add([distance(other)])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(0, 40))
def test_a_session_goes_on_from_what_was_told_however_it_was_cut(
    seed: int, batch: int, cut: int
) -> None:
    whole = Tuner(start(), Direction.MINIMIZE, seed=[seed])
    texts = tune(whole, 60)
    first = Tuner(start(), Direction.MINIMIZE, seed=[seed])
    begun = tune(first, cut, batch) if cut else []
    again = Tuner(start(), Direction.MINIMIZE, seed=[seed], known=first.objectives)
    assert begun + tune(again, 60 - cut, batch) == texts


def test_where_small_steps_tell_nothing_larger_ones_are_taken() -> None:
    # Whoever moves `y` by less than half of its size sees no difference.
    tuner = Tuner(start(), Direction.MINIMIZE, seed=[5])
    for _ in range(12):
        made = tuner.ask(8)
        tuner.add([float(distance(one) // 60.0) for one in made])
    best = min(one for one in tuner.objectives if one is not None)
    assert tuner.objectives[0] == 2.0
    assert best == 0.0


def test_failures_alone_do_not_make_steps_larger() -> None:
    tuner = Tuner(start(), Direction.MINIMIZE, seed=[6])
    for _ in range(6):
        tuner.add([None] * len(tuner.ask(8)))
    assert max(distance(one) for one in tuner.ask(8)) < 1000.0


def test_programs_that_fail_are_the_worst() -> None:
    tuner = Tuner(start(), Direction.MINIMIZE, seed=[3])
    for _ in range(40):
        made = tuner.ask(8)
        tuner.add([distance(one) if distance(one) < 120 else None for one in made])
    assert min(one for one in tuner.objectives if one is not None) < 1e-3


@pytest.mark.parametrize("direction", Direction)
def test_a_session_is_spent_when_its_later_half_brings_next_to_nothing(
    direction: Direction,
) -> None:
    def told(*values: float) -> list[float]:
        return [direction.sign * value for value in values]

    assert not is_spent(told(*range(50)), 2, direction)
    assert not is_spent(told(*range(200)), 2, direction)
    assert is_spent(told(*range(100), *[99.5] * 100), 2, direction)
    assert is_spent([0.0, *[None] * 100], 2, direction)
    assert not is_spent([0.0, *[None] * 100], 9, direction)


TUNED = ("--set", "tuning.share=0.6", "--set", "loop.slots=4", "--generations", 12)


@pytest.fixture
def valley(tmp_path):
    return write_problem(tmp_path / "valley")


def rows(run, columns: str) -> list[tuple]:
    with closing(sqlite3.connect(run / "run.db")) as connection:
        return connection.execute(
            f"SELECT {columns} FROM attempts a LEFT JOIN evaluations e ON e.generation = "
            "a.generation AND e.slot = a.slot AND e.number = a.evaluation "
            "ORDER BY a.generation, a.slot, a.number"
        ).fetchall()


def test_constants_are_tuned_beside_the_slots_and_any_number_of_workers_tunes_alike(
    tmp_path, valley
):
    for name, workers in (("one", 1), ("many", 8)):
        run_evolve(
            "run", valley, *TUNED, "--run-dir", name, "--workers", workers,
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


def test_a_share_of_zero_tunes_nothing_and_a_cap_on_evaluations_holds(tmp_path, valley):
    run_evolve("run", valley, *TUNED, "--set", "tuning.share=0", "--run-dir", "r", cwd=tmp_path)
    assert run_json("show", "r", cwd=tmp_path)["tuning"]["attempts"] == 0
    capped = ("--max-evaluations", 40, "--run-dir", "c")
    run_evolve("run", valley, *TUNED, *capped, cwd=tmp_path, code=0)
    state = run_json("show", "c", cwd=tmp_path)
    assert state["evaluations"] == 40
    assert 0 < state["tuning"]["attempts"] < 40


def attempt(key, parent=None, *, objective=0.0, operator="", program="p", status=Status.OK):
    plan = Plan("", operator=operator)
    return LightAttempt(
        AttemptKey(*key), 0, parent, 1, plan, program, program, status, objective,
        {"first": 0.0}, {},
    )  # fmt: skip


def test_a_duplicate_counts_in_its_session_with_the_objective_of_the_first(valley):
    population = Population(load_problem(valley), SearchSettings(islands=1))
    population.add(0, [attempt(INITIAL, objective=-13.0)])
    same = attempt((1, 8, 1), INITIAL, operator=TUNE, objective=None, status=Status.REJECTED)
    lost = attempt(
        (1, 8, 2), INITIAL, operator=TUNE, objective=None, status=Status.ERROR, program="q"
    )
    better = attempt((1, 8, 0), INITIAL, operator=TUNE, objective=-9.0, program="r")
    population.add(1, [better, same, lost])
    assert population.sessions.objectives == {INITIAL: [-9.0, -13.0, None]}
    assert population.sessions.last == TuningSession(0, INITIAL)


def test_a_spent_session_is_followed_by_one_on_another_structure(valley):
    texts = {
        INITIAL: "x, y = 1.5, 2.5\n",
        AttemptKey(1, 0, 0): "x, y = 1.5, 7.5\n",
        AttemptKey(1, 1, 0): "x, y = 1.5, 2.5 + 0.25\n",
        AttemptKey(1, 2, 0): "x, y = 1, 2\n",
    }
    population = Population(load_problem(valley), SearchSettings(islands=1))
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
