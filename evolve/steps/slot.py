"""One slot: a plan is carried out, checked, evaluated and, where it failed, repaired."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evolve.errors import BudgetExhaustedError
from evolve.problem import Problem
from evolve.records import INJECT, Attempt, AttemptKey, Evaluation, Plan, Program, Rejected, Status
from evolve.records.results import EvaluationPlace, ModelUse, PlacedAttempt, SlotResult
from evolve.settings.sections import WORKSPACE, ModelSettings, StepSettings
from evolve.source import fingerprint, list_names, parse_python
from evolve.source.parsing import find_undefined
from evolve.steps.agents import Agent, WorkspaceEditor
from evolve.steps.execute import UNNAMED, Draft, Editor, execute_operator
from evolve.steps.jobs import (
    GenerationJob,
    InjectedJob,
    Known,
    Library,
    ModelJob,
    OperatorJob,
    SlotJob,
    TuningJob,
)
from evolve.steps.journal import SlotJournal
from evolve.steps.plan import make_operator_plan, make_tuning_plan

_TELLING = frozenset({"numpy", "scipy", "numba", "sklearn", "pandas", "networkx", "sympy", "torch"})
_MOST_NAMED = 8


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
    recorder = _Recorder(job.slot, generation, problem, journal)
    cut_by = ""
    try:
        if isinstance(job, OperatorJob):
            _run_operator(job, recorder, rng)
        elif isinstance(job, TuningJob):
            _run_tuning(job, recorder)
        elif isinstance(job, InjectedJob):
            plan = Plan(change=job.origin, operator=INJECT)
            recorder.attempt(job.start, plan, job.program, island=job.island)
        elif generation.digest is None:
            raise ValueError("generation: expected a digest for its models, got None")
        else:
            editor = Editor(
                problem,
                generation.digest,
                job.seat,
                plan,
                ask=journal.ask,
                steps=steps,
                models=models,
            )
            slot = _ModelSlot(job, editor, recorder, rng)
            slot.run(on_plan)
    except BudgetExhaustedError as error:
        cut_by = error.cap
    finally:
        on_plan(None)
    return SlotResult(job.slot, tuple(recorder.attempts), cut_by, journal.uses)


def _run_operator(job: OperatorJob, recorder: _Recorder, rng: np.random.Generator) -> None:
    plan = make_operator_plan(job.chances, rng, leap=job.leap)
    made = execute_operator(job.selection, plan, rng)
    recorder.attempt(job.selection.parent, plan, made, island=job.island)


def _run_tuning(job: TuningJob, recorder: _Recorder) -> None:
    """Continues a session of tuning, for as many evaluations as the slot has."""
    tuner = job.tuner
    first = len(tuner.objectives) + 1
    left = job.evaluations
    plan = make_tuning_plan(tuner.constants, first, first + left - 1)
    while left:
        programs = tuner.ask(left)
        attempts = recorder.attempt_all(job.start, plan, programs, island=job.island)
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
        if self.job.library is not None:
            self._let_agent_work(self.job.library)
            return
        if self.editor.steps.executor == WORKSPACE:
            self._let_command_work()
            return
        draft = self.editor.draft(self.editor.open(), self._draw_seed())
        on_plan(draft.plan)
        attempt = self._attempt(draft)
        for _ in range(self.editor.steps.repairs):
            # What was stopped for being weak has nothing to repair.
            if attempt.evaluation.status in {Status.OK, Status.STOPPED} or self._is_spent():
                return
            draft = self.editor.repair(draft, attempt, self._draw_seed())
            attempt = self._attempt(draft)

    def _let_agent_work(self, library: Library) -> None:
        agent = Agent(self.editor, attempt=self._attempt, library=library)
        agent.work(self._draw_seed, self.job.evaluations)
        if not self.recorder.attempts:
            agent.give_up()

    def _let_command_work(self) -> None:
        recorder = self.recorder

        def preview(base: Attempt, program: Program) -> Evaluation:
            refusal = check_program(program, recorder.problem, self.editor.digest.modules)
            refusal = refusal or recorder.find_duplicate(base, program)
            return recorder.journal.preview(program) if refusal is None else reject(refusal)

        WorkspaceEditor(
            self.editor, attempt=self._attempt, preview=preview, evaluations=self.job.evaluations
        ).work(self._draw_seed())

    def _attempt(self, draft: Draft) -> Attempt:
        made = draft.made
        if isinstance(made, Program):
            refusal = check_program(made, self.recorder.problem, self.editor.digest.modules)
            if refusal is not None:
                return self.recorder.reject(
                    draft.base, draft.plan, refusal, made, island=self._island_of(draft.base)
                )
        return self.recorder.attempt(
            draft.base, draft.plan, made, island=self._island_of(draft.base)
        )

    def _island_of(self, base: Attempt) -> int:
        """Returns the island of a program; the starting program stands on all of them."""
        return self.job.island if base.parent is None else base.island

    def _is_spent(self) -> bool:
        return self.recorder.evaluations >= self.job.evaluations

    def _draw_seed(self) -> int:
        return int(self.rng.integers(2**31))


class _Recorder:
    """Evaluates the programs of a slot, unless they were evaluated before, and keeps attempts.

    Args:
        slot: Place of the slot in the generation.
        generation: The generation that it is part of.
        problem: What is solved.
        journal: The slot's way to models and evaluators.
    """

    def __init__(
        self, slot: int, generation: GenerationJob, problem: Problem, journal: SlotJournal
    ) -> None:
        self.problem = problem
        self.journal = journal
        self.attempts: list[PlacedAttempt] = []
        self.evaluations = 0
        self._slot = slot
        self._generation = generation.number
        self._known: Known = generation.known

    def attempt(
        self, base: Attempt, plan: Plan, made: Program | Rejected, *, island: int
    ) -> Attempt:
        """Keeps an attempt, evaluated if its program is new."""
        if isinstance(made, Rejected):
            return self.reject(base, plan, made, island=island)
        duplicate = self.find_duplicate(base, made)
        if duplicate is not None:
            return self.reject(base, plan, duplicate, made, island=island)
        evaluation, place = self.journal.evaluate(made)
        self.evaluations += evaluation.status is not Status.REJECTED
        return self._record(base, plan, made, evaluation, place, island=island)

    def reject(
        self,
        base: Attempt,
        plan: Plan,
        rejected: Rejected,
        program: Program | None = None,
        *,
        island: int,
    ) -> Attempt:
        """Keeps an attempt that is not worth an evaluation."""
        return self._record(base, plan, program, reject(rejected), island=island)

    def attempt_all(
        self, base: Attempt, plan: Plan, programs: Sequence[Program], *, island: int
    ) -> list[Attempt]:
        """Keeps attempts at several programs that do not depend on each other."""
        duplicates: list[Rejected | None] = []
        marks: list[str] = []
        for program in programs:
            mark = fingerprint(program)
            duplicate = self.find_duplicate(base, program)
            if duplicate is None and mark in marks:
                number = len(self.attempts) + marks.index(mark)
                duplicate = same_as(AttemptKey(self._generation, self._slot, number))
            duplicates.append(duplicate)
            marks.append(mark)
        pairs = list(zip(programs, duplicates, strict=True))
        verdicts = self.journal.evaluate_all([made for made, known in pairs if known is None])
        return [
            self._record(base, plan, made, *next(verdicts), island=island)
            if duplicate is None
            else self._record(base, plan, made, reject(duplicate), island=island)
            for made, duplicate in pairs
        ]

    def objective_of(self, attempt: Attempt) -> float | None:
        """Returns the objective of an attempt, or that of the one it is a duplicate of."""
        if attempt.evaluation.status is not Status.REJECTED or attempt.program is None:
            return attempt.objective
        mark = fingerprint(attempt.program)
        earlier = self._known.find_duplicate(mark)
        if earlier is not None:
            return self._known.objective_of(earlier)
        same = (placed.attempt for placed in self.attempts if placed.attempt.program is not None)
        return next(
            (one.objective for one in same if fingerprint(one.program_or_fail) == mark), None
        )

    def _record(
        self,
        base: Attempt,
        plan: Plan,
        program: Program | None,
        evaluation: Evaluation,
        place: EvaluationPlace | None = None,
        *,
        island: int,
    ) -> Attempt:
        attempt = Attempt(
            key=AttemptKey(self._generation, self._slot, len(self.attempts)),
            island=island,
            parent=base.key,
            depth=base.depth + 1,
            plan=plan,
            program=program,
            evaluation=evaluation,
        )
        self.attempts.append(PlacedAttempt(attempt, place))
        return attempt

    def find_duplicate(self, base: Attempt, program: Program) -> Rejected | None:
        """Returns why a program is not worth an evaluation: it is its base, or was evaluated."""
        mark = fingerprint(program)
        if mark == fingerprint(base.program_or_fail):
            return Rejected("the change alters nothing that matters: same program as the base")
        earlier = self._known.find_duplicate(mark)
        if earlier is not None:
            return seen_before(earlier)
        for placed in self.attempts:
            if placed.attempt.program is not None and fingerprint(placed.attempt.program) == mark:
                return same_as(placed.attempt.key)
        return None


def reject_plan(job: GenerationJob, refused: Rejected, uses: tuple[ModelUse, ...]) -> SlotResult:
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
    return SlotResult(0, (PlacedAttempt(attempt),), uses=uses)


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
            )
    return None


def _imports_of(text: str) -> Iterator[str]:
    """Returns the modules that are imported whenever the file is; those in `try` may fail."""
    tree = parse_python(text)
    for node in tree.body if tree is not None else []:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]
