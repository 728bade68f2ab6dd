"""The prompts of a run's first generation, without a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from evolve.models.budget import estimate_tokens, prompt_cap
from evolve.problem import Problem
from evolve.records import INITIAL, Attempt, AttemptKey, Evaluation, Plan, Status
from evolve.records.chat import Message
from evolve.search.digests import find_machine
from evolve.search.schedule import size_of
from evolve.settings import Settings
from evolve.settings.sections import ModelSettings
from evolve.steps.agents import TOOLS
from evolve.steps.execute import edit_messages, repair_messages
from evolve.steps.jobs import Digest, RunStatus, Seat
from evolve.steps.page import PROGRAMS_SHARE
from evolve.steps.plan import plan_messages
from evolve.steps.prompt import show_program
from evolve.steps.summarize import summary_messages

_PLAN = Plan("(the planned change)", hypothesis="(why)", base=str(INITIAL))
_REASON = "(why the program failed)"


def find_misfit(problem: Problem, models: ModelSettings) -> list[str]:
    """Returns a line where no prompt holds the starting program, even without its frozen text."""
    most = int(PROGRAMS_SHARE * prompt_cap(models, "editor"))
    tokens = estimate_tokens(show_program(problem.initial, is_short=True))
    if tokens <= most:
        return []
    line = (
        f"warning: the program does not fit into a prompt, which holds {most} tokens of programs: "
        f"it takes about {tokens}, so its end is cut; raise `models.digest_tokens` (at least "
        f"{int(1.2 * tokens / PROGRAMS_SHARE)}, where the model can read as much), or put less "
        "between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END"
    )
    return [line]


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
    edit = partial(edit_messages, problem, digest, steps=settings.steps, models=settings.models)
    return {
        "edit": edit(seat, None),
        "leap": edit(Seat(0, slots, leap=True), None),
        "plan": plan_messages(problem, digest, slots, models=settings.models),
        "planned": edit(seat, _PLAN),
        "agent": edit(seat, None, tools=TOOLS),
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
