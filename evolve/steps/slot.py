"""One slot: plan, execute, summarize."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from evolve.archive.stalls import StallLevel
from evolve.errors import BudgetExhaustedError
from evolve.records import Attempt, AttemptKey, Evaluation, Plan, Program, Rejected, Status
from evolve.records.results import SlotResult, Told
from evolve.source import fingerprint
from evolve.steps.agent import Agent
from evolve.steps.checks import check_program
from evolve.steps.execute import Draft, Editor, execute_operator
from evolve.steps.plan import UNPLANNED, make_operator_plan, make_plan, make_tuning_plan
from evolve.steps.summarize import summarize_attempts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evolve.journal import SlotJournal
    from evolve.operators import Tuner
    from evolve.problem import Problem
    from evolve.records import Summary
    from evolve.records.chat import Message
    from evolve.settings import Settings
    from evolve.steps.memory import Digest
    from evolve.steps.tools import Job


def run_slot(job: Job, problem: Problem, settings: Settings, journal: SlotJournal) -> SlotResult:
    """Runs a slot to its end; a budget that runs out cuts it short and keeps what there is.

    Raises:
        MachineError: A model, the sandbox, the evaluator or the store failed.
    """
    slot = _Slot(job, problem, settings, journal)
    summary, cut_by = None, ""
    try:
        if job.open_tuner is not None:
            slot.run_tuning(job.open_tuner())
        elif job.digest is None:
            slot.run_operator()
        else:
            slot.run_models()
            summary = slot.summarize()
    except BudgetExhaustedError as error:
        cut_by = error.cap
    finally:
        if job.board is not None:
            # Without a plan by now there will be none: nobody shall wait for it.
            job.board.leave(job.slot, None, cut_by=cut_by or "a failure of the machine")
    return SlotResult(job.slot, tuple(slot.told), summary, cut_by, journal.uses)


class _Slot:
    def __init__(
        self, job: Job, problem: Problem, settings: Settings, journal: SlotJournal
    ) -> None:
        self._job = job
        self._problem = problem
        self._settings = settings
        self._journal = journal
        stream = [settings.loop.seed, job.generation, job.slot]
        self._rng = np.random.default_rng(stream)
        self._plan: Plan | None = None
        self._evaluations = 0
        self.told: list[Told] = []

    def run_operator(self) -> None:
        """Applies one operator to the parent."""
        job = self._job
        if job.operators is None:
            raise ValueError("job: expected how operators have paid, got None")
        self._plan = make_operator_plan(job.operators, self._rng, leap=job.leap)
        self._attempt(execute_operator(job.selection, self._plan, self._rng))

    def run_tuning(self, tuner: Tuner) -> None:
        """Goes on with a session of tuning, for as many evaluations as the slot has."""
        first = len(tuner.told) + 1
        left = self._job.evaluations
        self._plan = make_tuning_plan(tuner.constants, first, first + left - 1)
        while left:
            programs = tuner.ask(left)
            attempts = self._attempt_all(programs)
            tuner.tell([self._objective_of(attempt) for attempt in attempts])
            left -= len(programs)

    def run_models(self) -> None:
        """Makes a plan and executes it."""
        plan = self._make_plan()
        if isinstance(plan, Rejected):
            self._attempt(plan)
            return
        if self._job.leap:
            plan = dataclasses.replace(plan, tags=(*plan.tags, "leap"))
        self._plan = plan
        executor = self._settings.steps.executor
        if executor == "agent" or (executor == "fuse" and self._job.stall > StallLevel.NONE):
            self._let_agent_work(plan)
        else:
            self._converse(plan)

    def summarize(self) -> Summary | None:
        """Asks what the attempts taught; None when there was no plan."""
        if self._plan is None or not self._settings.steps.summarize:
            return None
        return summarize_attempts(
            self._problem,
            self._job.selection,
            self._plan,
            [told.attempt for told in self.told],
            ask=self._journal.ask,
            settings=self._settings,
            seed=self._draw_seed(),
        )

    def _make_plan(self) -> Plan | Rejected:
        job, settings = self._job, self._settings
        if not settings.steps.plan:
            return UNPLANNED
        earlier = job.board.earlier(job.slot) if job.board else ()
        plan = make_plan(
            self._problem,
            job.selection,
            self._digest,
            ask=self._journal.ask,
            settings=settings,
            seed=self._draw_seed(),
            leaps=job.leap,
            earlier=earlier,
        )
        if job.board:
            job.board.leave(job.slot, plan if isinstance(plan, Plan) else None)
        return plan

    def _converse(self, plan: Plan) -> None:
        """Makes rounds of 1, 2, 3... attempts, up to the first gain."""
        steps = self._settings.steps
        editor = Editor(
            self._problem,
            self._job.selection,
            plan,
            self._digest,
            ask=self._journal.ask,
            settings=self._settings,
        )
        for size in range(1, steps.rounds + 1):
            messages = editor.open([told.attempt for told in self.told])
            for draft in self._draft(editor, messages, size):
                if self._pursue(editor, draft):
                    return

    def _draft(self, editor: Editor, messages: tuple[Message, ...], size: int) -> Iterator[Draft]:
        if size > 1 and self._settings.steps.batch:
            drafts = editor.draft(messages, self._draw_seed(), samples=size)
            yield from drafts
            # Some providers give one sample whatever they are asked for.
            size -= len(drafts)
        for _ in range(size):
            yield from editor.draft(messages, self._draw_seed())

    def _pursue(self, editor: Editor, draft: Draft) -> bool:
        """Attempts a draft, with repairs of what fails; tells whether the slot is done."""
        attempt = self._attempt(draft.made)
        for _ in range(self._settings.steps.repairs):
            if attempt.evaluation.status is Status.OK or self._is_spent():
                break
            draft = editor.repair(draft, attempt, self._draw_seed())
            attempt = self._attempt(draft.made)
        before = self._job.selection.parent.attempt.objective
        new = attempt.objective
        gained = new is not None and (
            before is None or self._problem.direction.is_better(new, before)
        )
        return gained or self._is_spent()

    def _let_agent_work(self, plan: Plan) -> None:
        if self._job.library is None:
            raise ValueError("job: expected a library for the agent, got None")
        agent = Agent(
            self._problem,
            self._job.selection,
            plan,
            self._digest,
            ask=self._journal.ask,
            attempt=self._attempt,
            library=self._job.library,
            settings=self._settings,
        )
        agent.work(self._draw_seed, self._job.evaluations)
        if not self.told:
            self._attempt(Rejected("the agent ended without a draft"))

    @property
    def _digest(self) -> Digest:
        if self._job.digest is None:
            raise ValueError("job: expected a digest for the planner, got None")
        return self._job.digest

    def _is_spent(self) -> bool:
        return self._evaluations >= self._job.evaluations

    def _attempt(self, made: Program | Rejected) -> Attempt:
        """Records an attempt, evaluated if its program is worth it."""
        if isinstance(made, Rejected):
            return self._record(None, _reject(made))
        refusal = self._refuse(made)
        if refusal is not None:
            return self._record(made, _reject(refusal))
        evaluation, sequence = self._journal.evaluate(made)
        self._evaluations += evaluation.status is not Status.REJECTED
        return self._record(made, evaluation, sequence)

    def _attempt_all(self, programs: Sequence[Program]) -> list[Attempt]:
        """Records attempts at several programs that do not depend on each other."""
        twins = []
        for index, program in enumerate(programs):
            earlier = [self._mark(one) for one in programs[:index]]
            twin = self._find_twin(program)
            if twin is None and self._mark(program) in earlier:
                number = len(self.told) + earlier.index(self._mark(program))
                twin = _same_as(AttemptKey(self._job.generation, self._job.slot, number))
            twins.append(twin if self._settings.search.dedup else None)
        fresh = [made for made, twin in zip(programs, twins, strict=True) if twin is None]
        verdicts = self._journal.evaluate_all(fresh)
        return [
            self._record(made, *next(verdicts))
            if twin is None
            else self._record(made, _reject(twin))
            for made, twin in zip(programs, twins, strict=True)
        ]

    def _objective_of(self, attempt: Attempt) -> float | None:
        """Gives the objective of an attempt, or that of its twin where it was rejected for one."""
        if attempt.evaluation.status is not Status.REJECTED or attempt.program is None:
            return attempt.objective
        parent = self._job.selection.parent.attempt
        mark = self._mark(attempt.program)
        if mark == self._mark(parent.program_or_fail):
            return parent.objective
        earlier = self._job.find_twin(mark)
        if earlier is not None:
            return self._job.objective_of(earlier)
        same = (one.attempt for one in self.told if one.attempt.program is not None)
        return next(one.objective for one in same if self._mark(one.program_or_fail) == mark)

    def _record(
        self, program: Program | None, evaluation: Evaluation, sequence: int | None = None
    ) -> Attempt:
        parent = self._job.selection.parent.attempt
        attempt = Attempt(
            key=AttemptKey(self._job.generation, self._job.slot, len(self.told)),
            island=self._job.island,
            parent=parent.key,
            depth=parent.depth + 1,
            plan=self._plan,
            program=program,
            evaluation=evaluation,
        )
        self.told.append(Told(attempt, sequence))
        return attempt

    def _refuse(self, program: Program) -> Rejected | None:
        """Says why a program is not worth an evaluation, or gives None."""
        if self._job.digest is not None:
            refusal = check_program(program, self._problem, self._digest.modules)
            if refusal is not None:
                return refusal
        return self._find_twin(program) if self._settings.search.dedup else None

    def _mark(self, program: Program) -> str:
        return fingerprint(program)

    def _find_twin(self, program: Program) -> Rejected | None:
        mark = self._mark(program)
        if mark == self._mark(self._job.selection.parent.attempt.program_or_fail):
            return Rejected("the change alters nothing that matters: same program as the parent")
        earlier = self._job.find_twin(mark)
        if earlier is not None:
            return Rejected(f"the same program was evaluated before, by attempt {earlier}")
        for told in self.told:
            if told.attempt.program is not None and self._mark(told.attempt.program) == mark:
                return _same_as(told.attempt.key)
        return None

    def _draw_seed(self) -> int:
        return int(self._rng.integers(2**31))


def _same_as(key: AttemptKey) -> Rejected:
    return Rejected(f"the same program as attempt {key}")


def _reject(rejected: Rejected) -> Evaluation:
    artifacts = {"detail": rejected.detail} if rejected.detail else {}
    return Evaluation(Status.REJECTED, artifacts=artifacts, reason=rejected.reason)
