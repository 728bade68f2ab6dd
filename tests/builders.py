"""Made-up parts of a run, and evaluators wired as in a run; each is made here alone."""

import dataclasses

from evolve.archive import Elite
from evolve.archive.credit import Merit
from evolve.evaluation.evaluator import EvaluationRequest
from evolve.evaluation.pool import LocalEvaluators
from evolve.evaluation.verdict import evaluate_program, load_evaluator
from evolve.problem import Problem, Purpose, Reference
from evolve.records import (
    INITIAL,
    Attempt,
    AttemptKey,
    Evaluation,
    Lesson,
    Plan,
    Program,
    SourceFile,
    Status,
)
from evolve.records.results import SlotNote
from evolve.sandbox.backends import Sandbox
from evolve.sandbox.guest.wire import ProgramLimits
from evolve.scoring.runner import ProgramRunner
from evolve.settings import Settings, change_settings
from evolve.settings.sections import SandboxSettings
from evolve.steps.jobs import Digest, RunStatus
from evolve.steps.memory import KnownLesson, TriedChange, TunedProgram

SETTINGS = change_settings(Settings(), {"models.model": ["scripted"]}, where="test")
PLAN = Plan(
    "Move the first number towards 3",
    hypothesis="the objective falls with the distance from a hidden point",
    tags=("constants",),
    lessons=("2.1",),
    base="2.1.0",
)


# Programs in C and in Python: what may change is between the markers.
C = """\
#define KEPT 5
// EVOLVE-BLOCK-START
#define LIMIT 64 /* not 7 */
#include <int8.h>
static const double rate = 0.25f; // not 8, "nor" 9
int x86[] = {10, 0x1F, 007, 1'000, (-3)};
const char *s = "not \\" 11", c = '4';
int step(int a2) { return f(-6) + a2 <= 12UL && .5 < 1e-3; }
// EVOLVE-BLOCK-END
int kept = 13;
"""
MARKED = """import math
# EVOLVE-BLOCK-START
A = 1
# EVOLVE-BLOCK-END
B = 2
    # EVOLVE-BLOCK-START the second
C = 3
D = 4
    # EVOLVE-BLOCK-END
"""


def make_program(text: str, path: str = "initial.py") -> Program:
    return Program((SourceFile(path, text),))


def make_elite(
    number: int, objective: float, *measures: float, island: int = 0, others: tuple[float, ...] = ()
) -> Elite:
    return Elite(
        AttemptKey(number, 0, 0), f"p{number}", objective, measures, island, number, None, others,
        Merit(objective),
    )  # fmt: skip


def open_pool(
    problem: Problem, backend: str = "auto", *, seconds: float = 20.0, memory_mb: int = 1024
) -> LocalEvaluators:
    """Returns a pool of one evaluator process."""
    sandbox = SandboxSettings(
        backend=backend, allow_weak=True, processes=1, evaluator_memory_mb=memory_mb
    )
    problem = dataclasses.replace(problem, evaluator_seconds=seconds)
    return LocalEvaluators(problem, Settings(sandbox=sandbox))


def make_runner(sandbox: Sandbox, problem: Problem, *, is_fresh: bool = False) -> ProgramRunner:
    limits = ProgramLimits(**{"seconds": 60.0, **problem.limits})
    return ProgramRunner(sandbox, limits, problem.recipe, is_fresh=is_fresh)


def judge_program(
    sandbox: Sandbox,
    problem: Problem,
    program: Program | None = None,
    purpose: Purpose = Purpose.SEARCH,
) -> Evaluation:
    """Evaluates a program, by default the starting one, as a run does, but in this process."""
    functions, runner = load_evaluator(problem), make_runner(sandbox, problem)
    request = EvaluationRequest(program or problem.initial, purpose)
    return evaluate_program(problem, functions, runner, request)


def change_number(problem: Problem, value: float) -> Program:
    path, text = problem.initial.entry
    return Program((SourceFile(path, text.replace("first = 1.0", f"first = {value}")),))


def make_attempt(problem: Problem, key: AttemptKey, objective: float | None, **fields) -> Attempt:
    evaluation = (
        Evaluation(
            Status.ERROR,
            reason="ValueError: no such point",
            artifacts={"traceback": 'File "initial.py", line 4\nValueError: no such point'},
            seconds=0.25,
        )
        if objective is None
        else Evaluation(
            Status.OK, objective, {"distance": 1.5}, {"first": 2.0}, {"output": "x"}, seconds=0.5
        )
    )
    parent = None if key == INITIAL else INITIAL
    program = problem.initial if key == INITIAL else change_number(problem, key.generation + 1.5)
    attempt = Attempt(
        key, 0, parent, key.generation, None if key == INITIAL else PLAN, program, evaluation
    )
    return dataclasses.replace(attempt, **fields)


def make_tried(key: AttemptKey, objective: float | None, change: str, **fields) -> TriedChange:
    leads, tags = fields.pop("leads", False), fields.pop("tags", ("constants",))
    note = SlotNote(
        generation=key.generation,
        slot=key.slot,
        key=key,
        parent=INITIAL,
        plan=Plan(change, tags=tags),
        before=-13.0,
        objective=objective,
        seconds=0.5,
        attempts=1,
        unapplied=0,
        status=Status.OK if objective is not None else Status.INFEASIBLE,
        reason="" if objective is not None else "2 numbers expected",
    )
    gain = None if objective is None else objective + 13.0
    return TriedChange(note._replace(**fields), gain, leads)


def make_digest(problem: Problem, **fields) -> Digest:
    digest = Digest(
        problem,
        SETTINGS.steps,
        SETTINGS.models,
        status=RunStatus(
            generation=3,
            generations=30,
            evaluations=41,
            start=-13.0,
            champion=AttemptKey(2, 1, 0),
            objective=-8.25,
            evaluations_left=59,
            cost_usd_left=1.5,
            islands=(-8.25, -9.25),
            references=(("best known", Reference(0.0, "the hidden point itself")),),
        ),
        programs=(
            make_attempt(problem, AttemptKey(2, 1, 0), -8.25),
            make_attempt(problem, AttemptKey(1, 0, 0), -9.25),
        ),
        tried=(
            make_tried(AttemptKey(1, 0, 0), -9.25, "Double the first number", leads=True),
            make_tried(AttemptKey(1, 1, 0), -14.0, "Negate both numbers", tags=("sign",)),
            make_tried(AttemptKey(1, 2, 0), None, "Return three numbers"),
            make_tried(AttemptKey(2, 1, 0), -8.25, "Add one", leads=True),
            make_tried(
                AttemptKey(2, 2, 0),
                None,
                "Add one again",
                status=Status.REJECTED,
                reason="the same program as attempt 2.1.0",
            ),
        ),
        tuned=(TunedProgram(AttemptKey(1, 0, 0), 24, -9.25, -9.0, AttemptKey(2, 2, 3)),),
        lessons=(
            KnownLesson(
                "2.1",
                Lesson("Larger numbers help.", "-9.25 against -13", "up to 4"),
                taught=3,
                followed=2,
                new_bests=1,
            ),
            KnownLesson("1.0", Lesson("Negative numbers lose.", works=False)),
        ),
        tuning=24,
        machine="It runs with Python 3.12.1, numpy 2.1.0.",
    )
    return dataclasses.replace(digest, **fields)
