"""The prompts of a run's first slot, without a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.records import (
    INITIAL,
    Ancestor,
    Attempt,
    AttemptKey,
    Evaluation,
    Plan,
    Selection,
    Status,
)
from evolve.search.digests import find_machine
from evolve.steps.agent import agent_messages
from evolve.steps.execute import edit_messages, repair_messages
from evolve.steps.memory import Digest, Remaining
from evolve.steps.plan import plan_messages
from evolve.steps.summarize import summary_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evolve.problem import Problem
    from evolve.records.chat import Message
    from evolve.settings import Settings

_PLAN = Plan("(the planner's change)", hypothesis="(the planner's hypothesis)", predicted_gain=0.0)
_REASON = "(why the program failed)"


def preview_prompts(
    problem: Problem,
    settings: Settings,
    evaluation: Evaluation,
    evaluate: Callable[..., Evaluation],
) -> Mapping[str, tuple[Message, ...]]:
    """Gives the messages of each step; what models and programs would say stands in brackets.

    Args:
        problem: What is solved.
        settings: Complete.
        evaluation: Of the starting program.
        evaluate: Evaluates a program for a purpose.
    """
    machine = find_machine(problem, evaluate)
    start = Attempt(INITIAL, 0, None, 0, None, problem.initial, evaluation)
    selection = Selection(Ancestor(start))
    budget = settings.budget
    digest = Digest(
        ancestors=(selection.parent,),
        remaining=Remaining(budget.max_evaluations, budget.max_cost_usd),
        machine=machine.describe() if machine else "",
        generations=settings.loop.generations or 1,
    )
    failed = Attempt(
        AttemptKey(1, 0, 0),
        0,
        INITIAL,
        1,
        _PLAN,
        problem.initial,
        Evaluation(Status.ERROR, artifacts={"traceback": "(its traceback)"}, reason=_REASON),
    )
    edited = (problem, selection, _PLAN, digest)
    return {
        "plan": plan_messages(problem, selection, digest, settings=settings),
        "leap": plan_messages(problem, selection, digest, settings=settings, leaps=True),
        **{
            form: edit_messages(*edited, settings=settings, form=form)
            for form in ("edit", "rewrite", "lines")
        },
        "agent": agent_messages(*edited, settings=settings),
        "repair": repair_messages(problem, failed),
        "summarize": summary_messages(problem, selection, _PLAN, (failed,), settings=settings),
    }
