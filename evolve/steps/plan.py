"""The first step: what to try. A language model's form and a model-free one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.models.protocol import ReplyError
from evolve.models.tokens import count_for
from evolve.operators import OPERATOR_JOIN, TUNE, choose_operator
from evolve.records import Plan, Rejected
from evolve.records.chat import Request
from evolve.steps import prompt, shapes, told
from evolve.steps.blocks import Block
from evolve.steps.parse import (
    as_names,
    as_number,
    as_tags,
    as_text,
    complete_object,
    find_object,
    find_objects,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from evolve.operators import OperatorStats
    from evolve.problem import Problem
    from evolve.records import Selection
    from evolve.records.chat import Message
    from evolve.settings import Settings
    from evolve.steps.memory import Calibration, Digest
    from evolve.steps.tools import Ask

_LEAP_OPERATORS = 6
UNPLANNED = Plan("Find a change of your own that improves the objective.")
"""What an editor is told where nothing is planned."""


def make_plan(
    problem: Problem,
    selection: Selection,
    digest: Digest,
    *,
    ask: Ask,
    settings: Settings,
    seed: int,
    leaps: bool = False,
    earlier: Sequence[Plan] = (),
) -> Plan | Rejected:
    """Asks the planner for a change to the parent; of several, takes the most promising one.

    A reply without the JSON object that was asked for is taken as the change in words.

    Args:
        problem: What is solved.
        selection: The parent and its inspirations.
        digest: What the run has learnt.
        ask: Asks the model.
        settings: Limits and temperature, and how many plans to ask for.
        seed: Of the request.
        leaps: Whether a new formulation is wanted, since the search has stalled.
        earlier: Plans that others follow from the same start, and that this one shall differ from.

    Raises:
        BudgetExhaustedError: The call might pass a cap.
        ModelError: The model cannot be used, or does not answer.
    """
    messages = plan_messages(
        problem, selection, digest, settings=settings, leaps=leaps, earlier=earlier
    )
    count = settings.steps.plans
    request = Request(
        "leap" if leaps else "planner",
        messages,
        settings.models.max_tokens,
        settings.models.temperature,
        seed,
        schema=shapes.PLAN if count == 1 else shapes.plans(count),
    )
    try:
        plans = parse_plans(ask(request).text)
    except ReplyError as error:
        return Rejected(f"the planner's reply cannot be used: {error.reason}")
    if isinstance(plans, Rejected):
        return plans
    return choose_plan(plans, digest.calibration)


def plan_messages(
    problem: Problem,
    selection: Selection,
    digest: Digest,
    *,
    settings: Settings,
    leaps: bool = False,
    earlier: Sequence[Plan] = (),
) -> tuple[Message, ...]:
    """Gives what the planner is told."""
    blocks = [
        *prompt.parent_blocks(selection.parent.attempt),
        prompt.inspirations_block(selection.inspirations),
        *told.digest_blocks(digest, problem.direction),
        told.earlier_block(earlier),
        _answer_block(settings.steps.plans),
    ]
    return prompt.compose(
        "leap" if leaps else "plan",
        problem,
        blocks,
        most=settings.models.digest_tokens,
        counter=count_for(settings.models, "planner"),
    )


def parse_plans(text: str) -> list[Plan] | Rejected:
    """Gives the plans in a reply, at least one; rejected when there are no words in it."""
    listed = (find_object(text) or {}).get("plans")
    objects = listed if isinstance(listed, list) else find_objects(text)
    cut_off = None if objects else complete_object(text)
    if cut_off is not None:
        objects = [cut_off]
    plans = [_read_plan(item) for item in objects if isinstance(item, dict)]
    known = [plan for plan in plans if plan is not None]
    if known:
        return known
    if objects:
        return Rejected("the planner's reply names no change")
    words = as_text(text)
    return [Plan(words)] if words else Rejected("the planner's reply is empty")


def choose_plan(plans: Sequence[Plan], calibration: Calibration) -> Plan:
    """Gives the plan with the highest gain to expect, the first one among equals."""
    return max(plans, key=calibration.expect)


def _read_plan(found: dict[str, object]) -> Plan | None:
    change = as_text(found.get("change"))
    if not change:
        return None
    return Plan(
        change=change,
        hypothesis=as_text(found.get("hypothesis")),
        predicted_gain=as_number(found.get("predicted_gain")),
        risk=as_text(found.get("risk")),
        tags=as_tags(found.get("tags")),
        lessons=as_names(found.get("lessons")),
    )


def _answer_block(count: int) -> Block:
    if count == 1:
        text = "Propose one change. Answer with one JSON object and nothing else. Its keys:"
    else:
        text = (
            f"Propose {count} changes that differ in kind. Answer with one JSON object and "
            f"nothing else. Its only key, `plans`, holds a list of {count} objects with these keys:"
        )
    return Block("answer", (f"{text}\n\n{shapes.list_keys(shapes.PLAN_KEYS)}",), rank=0)


def make_operator_plan(stats: OperatorStats, rng: np.random.Generator, *, leap: bool) -> Plan:
    """Chooses an operator by how well each has paid so far; for a leap, several in a row."""
    names = [choose_operator(stats, rng) for _ in range(_LEAP_OPERATORS if leap else 1)]
    change = " then ".join(name.replace("_", " ") for name in names)
    return Plan(change=change, operator=OPERATOR_JOIN.join(names), tags=("leap",) if leap else ())


def make_tuning_plan(constants: int, first: int, last: int) -> Plan:
    """Says which samples of a session of tuning are made, counted from 1."""
    change = f"tune {constants} constants by CMA-ES, samples {first} to {last}"
    return Plan(change=change, operator=TUNE)
