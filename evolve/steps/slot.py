"""One slot: a plan is carried out, checked, evaluated and, where it failed, repaired."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evolve.errors import BudgetExhaustedError
from evolve.problem import Problem
from evolve.records import (
    INJECT,
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
from evolve.settings.sections import WORKSPACE, ModelSettings, StepSettings
from evolve.source.analysis import fingerprint
from evolve.source.parsing import find_undefined, list_names, parse_python
from evolve.steps.agents import Agent, WorkspaceEditor
from evolve.steps.execute import UNNAMED, Draft, Editor, execute_operator
from evolve.steps.jobs import (
    GenerationJob,
    InjectedJob,
    ModelJob,
    OperatorJob,
    SlotJob,
    TuningJob,
)
from evolve.steps.journal import SlotJournal
from evolve.steps.plan import make_operator_plan, make_tuning_plan

_TELLING = frozenset({"numpy", "scipy", "numba", "sklearn", "pandas", "networkx", "sympy", "torch"})


def run_slot(
    job: SlotJob,
    generation: GenerationJob,
    plan: Plan | None,
    *,
    problem: Problem,
    steps: StepSettings,
    models: ModelSettings,
    rng: np.random.Generator,
    journal: SlotJournal,
    on_plan: Callable[[Plan | None], None] = lambda _: None,
) -> SlotResult:
    """Runs a slot to its end; a budget that runs out cuts it short and keeps what there is.

    Args:
        job: What the slot does.
        generation: The generation that it is part of.
        plan: What a model is to carry out; None where it plans for itself.
        problem: What is solved.
        steps: How plans are executed.
        models: The cap on prompts.
        rng: The slot's random stream.
        journal: The slot's way to models and evaluators.
        on_plan: Called once, as soon as the slot's plan is known, or that there is none.

    Raises:
        MachineError: A model, the sandbox, the evaluator or the store failed.
    """
    recorder = _Recorder(job, generation, journal)
    cut_by = ""
    try:
        if isinstance(job, OperatorJob):
            operation = make_operator_plan(job.chances, rng, leap=job.leap)
            made = execute_operator(job.selection, operation, rng)
            recorder.attempt(job.selection.parent, operation, made)
        elif isinstance(job, TuningJob):
            _run_tuning(job, recorder)
        elif isinstance(job, InjectedJob):
            injection = Plan(change=job.origin, operator=INJECT)
            recorder.attempt(job.start, injection, job.program)
        elif not isinstance(job, ModelJob) or generation.digest is None:
            raise ValueError(f"slot: expected a job, of a model with a digest, got {job!r:.200}")
        else:
            editor = Editor(
                problem, generation.digest, job.seat, plan,
                ask=journal.ask, steps=steps, models=models,
            )  # fmt: skip
            _ModelSlot(job, editor, recorder, rng).run(on_plan)
    except BudgetExhaustedError as error:
        cut_by = error.cap
    finally:
        on_plan(None)
    return SlotResult(job.slot, tuple(recorder.attempts), cut_by, journal.uses)


def _run_tuning(job: TuningJob, recorder: _Recorder) -> None:
    """Continues a session of tuning, for as many evaluations as the slot has."""
    tuner = job.tuner
    first = len(tuner.objectives) + 1
    left = job.evaluations
    plan = make_tuning_plan(tuner.constants, first, first + left - 1)
    while left:
        programs = tuner.ask(left)
        attempts = recorder.attempt_all(job.start, plan, programs)
        tuner.add([recorder.objective_of(attempt) for attempt in attempts])
        left -= len(programs)


@dataclass(frozen=True, slots=True)
class _ModelSlot:
    """A slot in which a model works.

    Attributes:
        job: What the slot does.
        editor: Asks the model.
        recorder: Evaluates and keeps attempts.
        rng: The slot's random stream.
    """

    job: ModelJob
    editor: Editor
    recorder: _Recorder
    rng: np.random.Generator

    def run(self, on_plan: Callable[[Plan | None], None]) -> None:
        """Makes attempts until one succeeds or the slot has used what it may."""
        steps, job = self.editor.steps, self.job
        if job.library is not None:
            agent = Agent(self.editor, attempt=self._attempt, library=job.library)
            agent.work(self._draw_seed, job.evaluations)
            if not self.recorder.attempts:
                agent.give_up()
            return
        if steps.executor == WORKSPACE:
            WorkspaceEditor(self.editor, self._attempt, self._preview, job.evaluations).work(
                self._draw_seed()
            )
            return
        draft = self.editor.draft(self.editor.open(), self._draw_seed())
        on_plan(draft.plan)
        attempt = self._attempt(draft)
        for _ in range(steps.repairs):
            # What was stopped for being weak has nothing to repair.
            is_done = attempt.evaluation.status in {Status.OK, Status.STOPPED}
            if is_done or self.recorder.evaluations >= job.evaluations:
                return
            draft = self.editor.repair(draft, attempt, self._draw_seed())
            attempt = self._attempt(draft)

    def _attempt(self, draft: Draft) -> Attempt:
        made = draft.made
        if isinstance(made, Program):
            refusal = check_program(made, self.editor.problem, self.editor.digest.modules)
            if refusal is not None:
                return self.recorder.reject(draft.base, draft.plan, refusal, made)
        return self.recorder.attempt(draft.base, draft.plan, made)

    def _preview(self, base: Attempt, program: Program) -> Evaluation:
        """Returns the verdict on a program that is not kept yet."""
        recorder = self.recorder
        refusal = check_program(program, self.editor.problem, self.editor.digest.modules)
        refusal = refusal or recorder.find_duplicate(base, program)
        return recorder.journal.preview(program) if refusal is None else reject(refusal)

    def _draw_seed(self) -> int:
        return int(self.rng.integers(2**31))


class _Recorder:
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
