"""The prompts of a run's first generation, without a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from evolve.problem import Problem
from evolve.records import INITIAL, Attempt, AttemptKey, Evaluation, Plan, Status
from evolve.records.chat import Message
from evolve.search.digests import find_machine
from evolve.search.schedule import size_of
from evolve.settings import Settings
from evolve.steps.agent import agent_messages
from evolve.steps.digest import Digest, RunStatus, Seat
from evolve.steps.execute import edit_messages, repair_messages
from evolve.steps.plan import plan_messages
from evolve.steps.summarize import summary_messages

_PLAN = Plan("(the planned change)", hypothesis="(why)", base=str(INITIAL))
_REASON = "(why the program failed)"


def preview_prompts(
    problem: Problem,
    settings: Settings,
    evaluation: Evaluation,
    evaluate: Callable[..., Evaluation],
) -> Mapping[str, tuple[Message, ...]]:
    """Returns the messages of each step; what models and programs would say stands in brackets.

    Args:
        problem: What is solved.
        settings: Complete.
        evaluation: Of the starting program.
        evaluate: Evaluates a program for a purpose.
    """
    digest = _make_digest(problem, settings, evaluation, evaluate)
    slots = settings.loop.slots
    failed = Attempt(
        AttemptKey(1, 0, 0),
        0,
        INITIAL,
        1,
        _PLAN,
        problem.initial,
        Evaluation(Status.ERROR, artifacts={"traceback": "(its traceback)"}, reason=_REASON),
    )
    seat = Seat(0, slots)
    return {
        "edit": edit_messages(
            problem, digest, seat, None, steps=settings.steps, models=settings.models
        ),
        "leap": edit_messages(
            problem,
            digest,
            Seat(0, slots, leap=True),
            None,
            steps=settings.steps,
            models=settings.models,
        ),
        "plan": plan_messages(problem, digest, slots, models=settings.models),
        "planned": edit_messages(
            problem, digest, seat, _PLAN, steps=settings.steps, models=settings.models
        ),
        "agent": agent_messages(
            problem, digest, seat, None, steps=settings.steps, models=settings.models
        ),
        "repair": repair_messages(problem, failed),
        "summarize": summary_messages(problem, digest, [[failed]], models=settings.models),
    }


def _make_digest(
    problem: Problem,
    settings: Settings,
    evaluation: Evaluation,
    evaluate: Callable[..., Evaluation],
) -> Digest:
    machine = find_machine(problem, evaluate)
    start = Attempt(INITIAL, 0, None, 0, None, problem.initial, evaluation)
    if evaluation.objective is None:
        raise ValueError("evaluation: expected an objective of the starting program, got none")
    return Digest(
        status=RunStatus(
            generation=1,
            generations=settings.loop.generations or 1,
            evaluations=1,
            start=evaluation.objective,
            champion=INITIAL,
            objective=evaluation.objective,
            evaluations_left=settings.budget.max_evaluations,
            cost_usd_left=settings.budget.max_cost_usd,
            references=tuple(problem.references.items()),
        ),
        programs=(start,),
        tuning=size_of(settings).tuning,
        machine=machine.describe() if machine else "",
    )
