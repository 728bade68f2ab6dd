"""The first step: what to try. A language model's form and a model-free one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.chat import Request
from evolve.models.protocol import ReplyError
from evolve.operators import OPERATOR_JOIN, TUNE, choose_operator
from evolve.records import Plan, Rejected
from evolve.steps import prompt
from evolve.steps.parse import as_number, as_tags, as_text, find_object

if TYPE_CHECKING:
    import numpy as np

    from evolve.lessons import Digest
    from evolve.model_settings import ModelSettings
    from evolve.operators import OperatorStats
    from evolve.problem import Problem
    from evolve.records import Ancestor, Attempt, Selection, Summary
    from evolve.steps.tools import Ask

_LEAP_OPERATORS = 6


def make_plan(
    problem: Problem,
    selection: Selection,
    digest: Digest,
    *,
    ask: Ask,
    settings: ModelSettings,
    seed: int,
) -> Plan | Rejected:
    """Asks the planner for one change to the parent.

    A reply without the JSON object that was asked for is taken as the change in words.

    Raises:
        BudgetExhaustedError: The call might pass a cap.
        ModelError: The model cannot be used, or does not answer.
    """
    values = prompt.common_values(problem) | {
        "parent_source": prompt.show_program(selection.parent.attempt.program_or_fail),
        "parent_evaluation": prompt.show_evaluation(selection.parent.attempt),
        "ancestors": _show_ancestors(digest.ancestors),
        "siblings": _show_siblings(digest.siblings),
        "inspirations": prompt.cut(
            prompt.show_inspirations(selection.inspirations), settings.digest_tokens // 2
        ),
        "lessons": _show_lessons(digest.lessons),
        "generation": str(digest.generation),
        "generations": str(digest.generations),
    }
    messages = prompt.fill_template("plan", problem.folder, values)
    request = Request("planner", messages, settings.plan_tokens, settings.temperature, seed)
    try:
        return parse_plan(ask(request).text)
    except ReplyError as error:
        return Rejected(f"the planner's reply cannot be used: {error.reason}")


def parse_plan(text: str) -> Plan | Rejected:
    """Gives the plan in a reply; rejected when there are no words in it."""
    found = find_object(text) or {}
    change = as_text(found.get("change")) or as_text(text)
    if not change:
        return Rejected("the planner's reply is empty")
    return Plan(
        change=change,
        hypothesis=as_text(found.get("hypothesis")),
        predicted_gain=as_number(found.get("predicted_gain")),
        risk=as_text(found.get("risk")),
        tags=as_tags(found.get("tags")),
    )


def make_operator_plan(stats: OperatorStats, rng: np.random.Generator, *, leap: bool) -> Plan:
    """Chooses an operator by how well each has paid so far; for a leap, several in a row."""
    names = [choose_operator(stats, rng) for _ in range(_LEAP_OPERATORS if leap else 1)]
    change = " then ".join(name.replace("_", " ") for name in names)
    return Plan(change=change, operator=OPERATOR_JOIN.join(names), tags=("leap",) if leap else ())


def make_tuning_plan(constants: int, first: int, last: int) -> Plan:
    """Says which samples of a session of tuning are made, counted from 1."""
    change = f"tune {constants} constants by CMA-ES, samples {first} to {last}"
    return Plan(change=change, operator=TUNE)


def _show_ancestors(ancestors: tuple[Ancestor, ...]) -> str:
    if not ancestors:
        return ""
    lines = ["# How the parent came about, nearest first", ""]
    for ancestor in ancestors:
        lines.append(prompt.show_outcome(ancestor.attempt))
        if ancestor.lesson:
            lines.append(f"  lesson: {ancestor.lesson[:300]}")
    return "\n".join(lines)


def _show_siblings(siblings: tuple[Attempt, ...]) -> str:
    if not siblings:
        return ""
    lines = [prompt.show_outcome(attempt) for attempt in siblings]
    return "\n".join(["# Tried on this parent already", "", *lines])


def _show_lessons(lessons: tuple[Summary, ...]) -> str:
    if not lessons:
        return ""
    return "\n".join(["# Lessons so far", "", *(f"- {item.lesson[:300]}" for item in lessons)])
