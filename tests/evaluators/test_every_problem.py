"""What holds for every problem of the gallery."""

import importlib
import math
import re
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evolve.problem import Problem, Purpose, load_problem
from evolve.records import Direction
from evolve.scoring import Infeasible, Score
from evolve.source.analysis import BUILT_IN_MEASURES
from tests.direct_program import DirectProgram, reply_with

ROOT = Path(__file__).parents[2]
# Programs that are started, timed, or ask a model have tests of their own.
FOLDERS = [
    path.parent
    for path in sorted(ROOT.glob("problems/*/problem.toml"))
    if (path.parent / "initial.py").is_file()
    and not re.search(
        r"program\.(run\(|time\(|asked)", load_problem(path.parent).evaluator.read_text()
    )
]
CONSTRUCTIONS = [
    folder
    for folder in FOLDERS
    if Purpose.HOLDOUT not in load_problem(folder).functions
    and load_problem(folder).entry[:1]
    in {(name,) for name in ("pack", "place", "heights", "coefficients", "build", "decompose")}
]


class Liar(float):
    def __le__(self, other: object) -> bool:
        return True

    __lt__ = __ge__ = __gt__ = __eq__ = __le__
    __hash__ = float.__hash__


def score(problem: Problem, program: Any) -> Score:
    evaluate = importlib.import_module(problem.evaluator.stem).evaluate
    return evaluate(program, **problem.parameters)


@cache
def load(folder: Path) -> Problem:
    return load_problem(folder)


@cache
def initial_reply(folder: Path) -> Any:
    problem = load(folder)
    arguments = [value for value in problem.parameters.values() if type(value) is int]
    program = DirectProgram.from_file(problem.folder / "initial.py")
    return program.call(problem.entry[0], *arguments)


def replace_first(reply: Any, value: Any) -> Any:
    """Returns a reply with another value in place of its first number."""
    if type(reply) in {list, tuple}:
        return [replace_first(reply[0], value), *reply[1:]]
    return value


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_starting_program_counts_lies_below_the_baseline_and_scores_the_same_twice(folder):
    problem = load(folder)
    first, second = (
        score(problem, DirectProgram.from_file(folder / "initial.py")) for _ in range(2)
    )
    assert first == second
    assert {axis.name for axis in problem.measures} - {*first.measures, *BUILT_IN_MEASURES} == set()
    assert problem.baseline is not None
    sign = 1.0 if problem.direction is Direction.MAXIMIZE else -1.0
    assert sign * first.objective < sign * problem.baseline.value
    for known in (problem.best_known, problem.bound):
        assert known is None or sign * problem.baseline.value <= sign * known.value


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        1e300,
        10**400,
        True,
        "1",
        "__import__('os')",
        None,
        1j,
        [],
        {},
        Liar(1.0),
        Fraction(1),
        np.array([1.0], dtype=object),
    ],
    ids=repr,
)
@pytest.mark.parametrize("folder", CONSTRUCTIONS, ids=lambda folder: folder.name)
def test_a_number_of_another_kind_is_infeasible(folder, value):
    problem = load(folder)
    with pytest.raises(Infeasible, match=f"^{problem.entry[0]}"):
        score(problem, reply_with(replace_first(initial_reply(folder), value)))


@pytest.mark.parametrize("folder", CONSTRUCTIONS, ids=lambda folder: folder.name)
def test_the_size_of_a_construction_is_the_problems_own(folder):
    problem = load(folder)
    reply = list(initial_reply(folder))
    if problem.name == "sums_differences":
        reply = [*range(2001)]
    with pytest.raises(Infeasible, match=f"^{problem.entry[0]}"):
        score(problem, reply_with([*reply, reply[-1]]))
    with pytest.raises(Infeasible, match=f"^{problem.entry[0]}"):
        score(problem, reply_with([]))


@pytest.mark.parametrize("folder", CONSTRUCTIONS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("kind", [object, complex, bool, "U4"])
def test_arrays_of_another_type_are_infeasible(folder, kind):
    problem = load(folder)
    reply = initial_reply(folder)
    if problem.name == "matrix_multiplication":
        array: Any = [np.array(part).astype(kind) for part in reply]
    else:
        array = np.array(reply).astype(kind)
    with pytest.raises(Infeasible, match=f"^{problem.entry[0]}"):
        score(problem, reply_with(array))
