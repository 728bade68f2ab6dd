"""A made-up state of a run, as the steps see it."""

import dataclasses
from collections.abc import Sequence

from evolve.problem import Problem
from evolve.records import (
    INITIAL,
    Ancestor,
    Attempt,
    AttemptKey,
    Evaluation,
    Plan,
    Program,
    Selection,
    SourceFile,
    Status,
)
from evolve.source.ledger import LineRecord
from evolve.steps.lessons import Lesson
from evolve.steps.memory import Calibration, Digest, Idea, Remaining, Trial

PLAN = Plan(
    "Move the first number towards 3",
    hypothesis="the objective falls with the distance from a hidden point",
    predicted_gain=0.5,
    risk="the hidden point may lie elsewhere",
    tags=("constants",),
    lessons=("2.1",),
)


def change_number(problem: Problem, value: float) -> Program:
    path, text = problem.initial.entry
    return Program((SourceFile(path, text.replace("first = 1.0", f"first = {value}")),))


def make_attempt(problem: Problem, key: AttemptKey, objective: float | None, **fields) -> Attempt:
    evaluation = (
        Evaluation(
            Status.ERROR,
            reason="ValueError: no such point",
            artifacts={"traceback": 'File "initial.py", line 4\nValueError: no such point'},
        )
        if objective is None
        else Evaluation(Status.OK, objective, {"distance": 1.5}, {"first": 2.0})
    )
    parent = None if key == INITIAL else INITIAL
    program = problem.initial if key == INITIAL else change_number(problem, key.generation + 1.5)
    attempt = Attempt(
        key, 0, parent, key.generation, None if key == INITIAL else PLAN, program, evaluation
    )
    return dataclasses.replace(attempt, **fields)


def make_selection(problem: Problem) -> Selection:
    parent = make_attempt(problem, AttemptKey(2, 1, 0), -8.25)
    other = make_attempt(problem, AttemptKey(1, 0, 0), -9.25)
    return Selection(Ancestor(parent, "Larger numbers helped."), (Ancestor(other),))


def make_digest(problem: Problem, *, extra: Sequence[Trial] = ()) -> Digest:
    gained = Trial("Double the second number", 0.25, -8.0, Status.OK, "", ("constants",))
    lost = Trial("Negate both numbers", -3.0, -11.25, Status.OK, "", ("sign",))
    failed = Trial("Return three numbers", None, None, Status.INFEASIBLE, "2 numbers expected")
    return Digest(
        ancestors=(
            make_selection(problem).parent,
            Ancestor(make_attempt(problem, INITIAL, -13.0)),
        ),
        siblings=(failed, lost, gained, *extra),
        lines=(LineRecord("first = -first", 2, 1, 0, -3.0, -3.5),),
        lessons=(
            Lesson("2.1", "Larger numbers helped.", taught=3, followed=2, paid=1, next_step="5"),
            Lesson("1.0", "Signs matter."),
        ),
        failing=(Lesson("1.4", "Return zeros.", followed=4),),
        ideas=(
            Idea("constants", 4, 2, 0, gained, lost),
            Idea("sign", 1, 0, 0, lost, lost),
        ),
        failures=(Idea("sign", 1, 0, 0, lost, lost),),
        calibration=Calibration(0.3, 7, (("constants", 0.4),)),
        remaining=Remaining(120, 1.5),
        machine="It runs with Python 3.12.1, numpy 2.1.0.",
        generation=3,
        generations=30,
    )
