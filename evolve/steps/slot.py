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
from evolve.steps.plan import make_operator_plan, make_plan, make_tuning_plan
from evolve.steps.summarize import summarize_attempts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.journal import SlotJournal
    from evolve.operators import Tuner
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
        if job.open_tuner is not None:
            slot.run_tuning(job.open_tuner())
        elif job.digest is None:
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
        twin = None
        if isinstance(made, Program) and self._settings.search.dedup:
            twin = self._find_twin(made)
        if isinstance(made, Rejected):
            return self._record(None, _reject(made))
        if twin is not None:
            return self._record(made, _reject(twin))
        self._evaluations += 1
        return self._record(made, *self._journal.evaluate(made))

    def _attempt_all(self, programs: Sequence[Program]) -> list[Attempt]:
        """Records attempts at several programs that do not depend on each other."""
        twins = []
        for index, program in enumerate(programs):
            earlier = [fingerprint(one) for one in programs[:index]]
            twin = self._find_twin(program)
            if twin is None and fingerprint(program) in earlier:
                number = len(self.told) + earlier.index(fingerprint(program))
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
        mark = fingerprint(attempt.program)
        if mark == fingerprint(parent.program_or_fail):
            return parent.objective
        earlier = self._job.find_twin(mark)
        if earlier is not None:
            return self._job.objective_of(earlier)
        same = (one.attempt for one in self.told if one.attempt.program is not None)
        return next(one.objective for one in same if fingerprint(one.program_or_fail) == mark)

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

    def _find_twin(self, program: Program) -> Rejected | None:
        mark = fingerprint(program)
        if mark == fingerprint(self._job.selection.parent.attempt.program_or_fail):
            return Rejected("the change alters nothing that matters: same program as the parent")
        earlier = self._job.find_twin(mark)
        if earlier is not None:
            return Rejected(f"the same program was evaluated before, by attempt {earlier}")
        for told in self.told:
            if told.attempt.program is not None and fingerprint(told.attempt.program) == mark:
                return _same_as(told.attempt.key)
        return None

    def _draw_seed(self) -> int:
        return int(self._rng.integers(2**31))


def _same_as(key: AttemptKey) -> Rejected:
    return Rejected(f"the same program as attempt {key}")


def _reject(rejected: Rejected) -> Evaluation:
    artifacts = {"detail": rejected.detail} if rejected.detail else {}
    return Evaluation(Status.REJECTED, artifacts=artifacts, reason=rejected.reason)
