"""What a slot keeps: its attempts, each program checked, looked up, and evaluated if it is new."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence

from evolve.problem import Problem
from evolve.records import (
    Attempt,
    AttemptKey,
    Evaluation,
    EvaluationPlace,
    Plan,
    Program,
    Rejected,
    Status,
)
from evolve.records.results import SlotResult
from evolve.source.analysis import fingerprint
from evolve.source.parsing import find_undefined, list_names, parse_python
from evolve.steps.execute import UNNAMED
from evolve.steps.jobs import GenerationJob, ModelJob, SlotJob
from evolve.steps.journal import SlotJournal

_TELLING = frozenset({"numpy", "scipy", "numba", "sklearn", "pandas", "networkx", "sympy", "torch"})


class Recorder:
    """Evaluates the programs of a slot, unless they were evaluated before, and keeps attempts.

    Args:
        job: What the slot does.
        generation: The generation that it is part of.
        journal: The slot's way to models and evaluators.
    """

    def __init__(self, job: SlotJob, generation: GenerationJob, journal: SlotJournal) -> None:
        self.journal = journal
        self.attempts: list[Attempt] = []
        self._job = job
        self._generation = generation
        # The first attempt at each program, by fingerprint.
        self._first: dict[str, AttemptKey] = {}

    @property
    def evaluations(self) -> int:
        """Returns how many of the attempts were evaluated."""
        verdicts = (attempt.evaluation for attempt in self.attempts)
        return sum(verdict.status is not Status.REJECTED for verdict in verdicts)

    def attempt(self, base: Attempt, plan: Plan, made: Program | Rejected) -> Attempt:
        """Keeps an attempt, evaluated if its program is new."""
        if isinstance(made, Rejected):
            return self.reject(base, plan, made)
        return self.attempt_all(base, plan, [made])[0]

    def reject(
        self, base: Attempt, plan: Plan, rejected: Rejected, program: Program | None = None
    ) -> Attempt:
        """Keeps an attempt that is not worth an evaluation."""
        return self._record(base, plan, program, reject(rejected))

    def attempt_all(self, base: Attempt, plan: Plan, programs: Sequence[Program]) -> list[Attempt]:
        """Keeps attempts at several programs that do not depend on each other."""
        refusals: list[Rejected | None] = []
        first: dict[str, int] = {}
        for number, program in enumerate(programs, start=len(self.attempts)):
            earlier = first.setdefault(fingerprint(program), number)
            refusal = self.find_duplicate(base, program)
            if refusal is None and earlier != number:
                refusal = same_as(AttemptKey(self._generation.number, self._job.slot, earlier))
            refusals.append(refusal)
        pairs = list(zip(programs, refusals, strict=True))
        verdicts = self.journal.evaluate_all([made for made, known in pairs if known is None])
        return [
            self._record(base, plan, made, *next(verdicts))
            if refusal is None
            else self.reject(base, plan, refusal, made)
            for made, refusal in pairs
        ]

    def objective_of(self, attempt: Attempt) -> float | None:
        """Returns the objective of an attempt, or that of the one it is a duplicate of."""
        if attempt.evaluation.status is not Status.REJECTED or attempt.program is None:
            return attempt.objective
        mark = fingerprint(attempt.program)
        earlier = self._generation.find_duplicate(mark)
        if earlier is not None:
            return self._generation.objective_of(earlier)
        return self.attempts[self._first[mark].number].objective

    def _record(
        self,
        base: Attempt,
        plan: Plan,
        program: Program | None,
        evaluation: Evaluation,
        place: EvaluationPlace | None = None,
    ) -> Attempt:
        # What a model makes of the starting program, which stands on all islands, is the job's.
        is_of_base = isinstance(self._job, ModelJob) and base.parent is not None
        attempt = Attempt(
            key=AttemptKey(self._generation.number, self._job.slot, len(self.attempts)),
            island=base.island if is_of_base else self._job.island,
            parent=base.key,
            depth=base.depth + 1,
            plan=plan,
            program=program,
            evaluation=evaluation,
            evaluated=place,
        )
        if program is not None:
            self._first.setdefault(fingerprint(program), attempt.key)
        self.attempts.append(attempt)
        return attempt

    def find_duplicate(self, base: Attempt, program: Program) -> Rejected | None:
        """Returns why a program is not worth an evaluation: it is its base, or was evaluated."""
        mark = fingerprint(program)
        if mark == fingerprint(base.program_or_fail):
            return Rejected("the change alters nothing that matters: same program as the base")
        earlier = self._generation.find_duplicate(mark)
        if earlier is not None:
            return seen_before(earlier)
        return same_as(self._first[mark]) if mark in self._first else None


def reject_plan(job: GenerationJob, refused: Rejected) -> SlotResult:
    """Returns the result of a generation whose planner gave no plan."""
    if job.digest is None:
        raise ValueError("generation: expected a digest for its models, got None")
    base = job.digest.programs[0]
    attempt = Attempt(
        key=AttemptKey(job.number, 0, 0),
        island=base.island,
        parent=base.key,
        depth=base.depth + 1,
        plan=Plan(UNNAMED, base=str(base.key)),
        program=None,
        evaluation=reject(refused),
    )
    return SlotResult(0, (attempt,))


def seen_before(key: AttemptKey) -> Rejected:
    """Returns why a program is not evaluated that an earlier generation has."""
    return Rejected(f"the same program was evaluated before, by attempt {key}")


def same_as(key: AttemptKey) -> Rejected:
    """Returns why a program is not evaluated that another attempt of its generation has."""
    return Rejected(f"the same program as attempt {key}")


def reject(rejected: Rejected) -> Evaluation:
    """Returns the verdict on what is not worth an evaluation."""
    artifacts = {"detail": rejected.detail} if rejected.detail else {}
    return Evaluation(Status.REJECTED, artifacts=artifacts, reason=rejected.reason)


def check_program(program: Program, problem: Problem, modules: frozenset[str]) -> Rejected | None:
    """Returns why a program fails, or would fail; None where nothing is seen.

    Args:
        program: That can be parsed.
        problem: Names what must be defined.
        modules: What can be imported in the sandbox beside the standard library; nothing is said
            about imports when it is empty.
    """
    path, text = program.entry
    if not path.endswith(".py"):
        return None
    missing = [name for name in problem.entry if name not in list_names(text)]
    if missing:
        return Rejected(f"{path}: expected a function `{missing[0]}` at the top level, found none")
    for name, source in program.files:
        undefined = find_undefined(source) if name.endswith(".py") else None
        if undefined is not None:
            unknown, line = undefined
            place = f"in what begins on line {line}" if line else "at the top level"
            return Rejected(f"{name}: nothing defines the name `{unknown}`, used {place}")
    if not modules:
        return None
    own = {name.split("/")[0].removesuffix(".py") for name, _ in program.files}
    known = modules | own | sys.stdlib_module_names
    if "program" in problem.asks:
        known |= {"evolve"}
    for name in _imports_of(text):
        if name not in known:
            listed = ", ".join(sorted(set(problem.packages) | (modules & _TELLING)))[:200]
            return Rejected(
                f"{path}: imports `{name}`, which programs do not have here"
                + (f"; there are: {listed}" if listed else "")
                + _explain_additions(problem)
            )
    return None


def _explain_additions(problem: Problem) -> str:
    if problem.may_add:
        return f"; a file may be added whose name matches {' or '.join(problem.may_add)}"
    return "; no file can be added"


def _imports_of(text: str) -> Iterator[str]:
    """Returns the modules that are imported whenever the file is; those in `try` may fail."""
    tree = parse_python(text)
    for node in tree.body if tree is not None else []:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]
