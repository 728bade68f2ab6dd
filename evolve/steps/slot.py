"""One slot: plan, execute, summarize."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from evolve.errors import BudgetExhaustedError
from evolve.records import Attempt, AttemptKey, Evaluation, Plan, Program, Rejected, Status
from evolve.results import SlotResult, Told
from evolve.source import fingerprint
from evolve.steps.execute import Conversation, execute_operator
from evolve.steps.plan import make_operator_plan, make_plan
from evolve.steps.summarize import summarize_attempts

if TYPE_CHECKING:
    from evolve.journal import SlotJournal
    from evolve.problem import Problem
    from evolve.records import Summary
    from evolve.settings import Settings
    from evolve.steps.tools import Job


def run_slot(job: Job, problem: Problem, settings: Settings, journal: SlotJournal) -> SlotResult:
    """Runs a slot to its end; a budget that runs out cuts it short and keeps what there is.

    Raises:
        MachineError: A model, the sandbox, the evaluator or the store failed.
    """
    slot = _Slot(job, problem, settings, journal)
    summary, cut_by = None, ""
    try:
        if job.digest is None:
            slot.run_operator()
        else:
            slot.run_models()
            summary = slot.summarize()
    except BudgetExhaustedError as error:
        cut_by = error.cap
    return SlotResult(job.slot, tuple(slot.told), summary, cut_by)


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

    def run_models(self) -> None:
        """Makes a plan and executes it, with repair turns after failures."""
        job, settings = self._job, self._settings
        if job.digest is None:
            raise ValueError("job: expected a digest for the planner, got None")
        plan = make_plan(
            self._problem,
            job.selection,
            job.digest,
            ask=self._journal.ask,
            settings=settings.models,
            seed=self._draw_seed(),
        )
        if isinstance(plan, Rejected):
            self._attempt(plan)
            return
        if job.leap:
            plan = dataclasses.replace(plan, tags=(*plan.tags, "leap"))
        self._plan = plan
        conversation = Conversation(
            self._problem,
            job.selection,
            plan,
            ask=self._journal.ask,
            settings=settings.models,
            form=settings.steps.form,
            seed=self._draw_seed(),
        )
        failed: Attempt | None = None
        for _ in range(1 + settings.steps.repairs):
            failed = self._attempt(conversation.execute(failed))
            if failed.evaluation.status is Status.OK or self._evaluations >= job.evaluations:
                return

    def summarize(self) -> Summary | None:
        """Asks what the attempts taught; None when there was no plan."""
        if self._plan is None:
            return None
        return summarize_attempts(
            self._problem,
            self._job.selection,
            self._plan,
            [told.attempt for told in self.told],
            ask=self._journal.ask,
            settings=self._settings.models,
            seed=self._draw_seed(),
        )

    def _attempt(self, made: Program | Rejected) -> Attempt:
        """Records an attempt, evaluated if its program is worth it."""
        sequence: int | None = None
        twin = None
        if isinstance(made, Program) and self._settings.search.dedup:
            twin = self._find_twin(made)
        if isinstance(made, Rejected):
            evaluation = _reject(made)
        elif twin is not None:
            evaluation = _reject(twin)
        else:
            evaluation, sequence = self._journal.evaluate(made)
            self._evaluations += 1
        parent = self._job.selection.parent.attempt
        attempt = Attempt(
            key=AttemptKey(self._job.generation, self._job.slot, len(self.told)),
            island=self._job.island,
            parent=parent.key,
            depth=parent.depth + 1,
            plan=self._plan,
            program=made if isinstance(made, Program) else None,
            evaluation=evaluation,
        )
        self.told.append(Told(attempt, sequence))
        return attempt

    def _find_twin(self, program: Program) -> Rejected | None:
        mark = fingerprint(program)
        if mark == fingerprint(self._job.selection.parent.attempt.program_or_fail):
            return Rejected("the change alters nothing that matters: same program as the parent")
        earlier = self._job.find_twin(mark)
        if earlier is not None:
            return Rejected(f"the same program was evaluated before, by attempt {earlier}")
        for told in self.told:
            if told.attempt.program is not None and fingerprint(told.attempt.program) == mark:
                return Rejected(f"the same program as attempt {told.attempt.key}")
        return None

    def _draw_seed(self) -> int:
        return int(self._rng.integers(2**31))


def _reject(rejected: Rejected) -> Evaluation:
    artifacts = {"detail": rejected.detail} if rejected.detail else {}
    return Evaluation(Status.REJECTED, artifacts=artifacts, reason=rejected.reason)
