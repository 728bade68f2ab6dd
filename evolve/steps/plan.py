"""The first step: what to try. A language model's form and the model-free ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evolve.models.model import ReplyError
from evolve.operators.changes import choose_operator
from evolve.records import OPERATOR_JOIN, TUNE, Plan, Rejected
from evolve.records.chat import Message, Request
from evolve.steps.execute import is_plan, make_plan, name_fields
from evolve.steps.jobs import Ask, Digest, ask_until_read
from evolve.steps.page import compose, page_blocks
from evolve.steps.parse import find_objects, finish_object, plans_shape, select_objects
from evolve.steps.prompt import Block

_LEAP_OPERATORS = 6
_LESSONS_FORM = (
    "- `lessons`: a list of the ids of the lessons above that the change follows, often empty"
)


def make_plans(digest: Digest, count: int, *, ask: Ask, seed: int) -> list[Plan] | Rejected:
    """Asks the planner for as many different changes as a generation has slots.

    Args:
        digest: What the run has learnt, and the programs that a change may start from.
        count: How many plans are wanted; there may be fewer.
        ask: Asks the model.
        seed: Of the request.

    Returns:
        Plans in the planner's order, each with the program that it starts from.

    Raises:
        BudgetExhaustedError: The call might pass a cap.
        ModelError: The model cannot be used, or does not answer.
    """
    shape = plans_shape(count, follows_lessons=bool(digest.lessons))
    request = Request("planner", plan_messages(digest, count), seed=seed, schema=shape)
    try:
        return ask_until_read(ask, request, lambda text: parse_plans(text, digest, count))
    except ReplyError as error:
        return Rejected(f"the planner's reply cannot be used: {error.reason}")


def plan_messages(digest: Digest, count: int) -> tuple[Message, ...]:
    """Returns what the planner is shown."""
    blocks = [
        *page_blocks(digest),
        Block("count", (str(count),), rank=0),
        Block("lessons_form", (_LESSONS_FORM,) if digest.lessons else (), rank=0),
    ]
    return compose("plan", "planner", digest, blocks)


def parse_plans(text: str, digest: Digest, count: int) -> list[Plan] | Rejected:
    """Returns the plans in a reply, at least one; rejected where none names a change.

    The last list of plans counts, else the last plans that stand alone.
    """
    found = find_objects(text, _is_answer)
    # What is complete in a list that was cut off is found, too, but is not all of it.
    cut_off = [*select_objects(finish_object(text), _is_answer)]
    listed = [one["plans"] for one in found if "plans" in one] or [
        one["plans"] for one in cut_off if "plans" in one
    ]
    alone = (found or cut_off)[-count:]
    plans = [*select_objects(listed[-1], is_plan)][:count] if listed else alone
    made = [_read_plan(name_fields(one), digest) for one in plans]
    return made or Rejected("the planner's reply names no change")


def _is_answer(found: dict[str, object]) -> bool:
    return any(select_objects(found.get("plans"), is_plan)) or is_plan(found)


def _read_plan(fields: Mapping[str, str], digest: Digest) -> Plan:
    return make_plan(fields, digest.find(fields.get("base", "").strip()) or digest.programs[0])


def make_operator_plan(
    chances: Mapping[str, float], rng: np.random.Generator, *, leap: bool
) -> Plan:
    """Returns an operator drawn by its chance; for a leap, several in a row."""
    count = _LEAP_OPERATORS if leap else 1
    names = [choose_operator(chances, rng) for _ in range(count)]
    change = " then ".join(name.replace("_", " ") for name in names)
    return Plan(change=change, operator=OPERATOR_JOIN.join(names), tags=("leap",) if leap else ())


def make_tuning_plan(constants: int, first: int, last: int) -> Plan:
    """Returns which samples of a session of tuning are made, counted from 1."""
    change = f"tune {constants} constants by CMA-ES, samples {first} to {last}"
    return Plan(change=change, operator=TUNE)
