"""The third step: what the attempts taught. A language model's form and a model-free one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.models.protocol import ReplyError
from evolve.records import Request, Summary
from evolve.steps import prompt
from evolve.steps.parse import as_tags, as_text, find_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.problem import Problem
    from evolve.records import Attempt, Plan, Selection
    from evolve.settings import ModelSettings
    from evolve.steps.tools import Ask

_CAUSES = ("idea", "implementation", "time", "noise")


def summarize_attempts(
    problem: Problem,
    selection: Selection,
    plan: Plan,
    attempts: Sequence[Attempt],
    *,
    ask: Ask,
    settings: ModelSettings,
    seed: int,
) -> Summary:
    """Asks the summarizer what was learnt; says so where its reply cannot be used.

    Raises:
        BudgetExhaustedError: The call might pass a cap.
        ModelError: The model cannot be used, or does not answer.
    """
    parent = selection.parent.attempt.objective
    shown = [prompt.show_evaluation(attempt, detail_characters=800) for attempt in attempts]
    before = "" if parent is None else f"The parent's objective was {parent:.10g}.\n\n"
    values = prompt.common_values(problem) | {
        "plan": prompt.show_plan(plan),
        "attempts": before + "\n\n".join(shown),
    }
    messages = prompt.fill_template("summarize", problem.folder, values)
    request = Request("summarizer", messages, settings.summary_tokens, settings.temperature, seed)
    try:
        return parse_summary(ask(request).text)
    except ReplyError as error:
        return Summary(f"no summary: the reply cannot be used: {error.reason}")


def parse_summary(text: str) -> Summary:
    """Gives the summary in a reply; one without a lesson when there is no object in it."""
    found = find_object(text)
    if found is None:
        return Summary("no summary: the reply holds no JSON object")
    cause = as_text(found.get("cause")).lower()
    return Summary(
        verdict=as_text(found.get("verdict"), 500),
        cause=cause if cause in _CAUSES else "idea",
        lesson=as_text(found.get("lesson"), 1000),
        tags=as_tags(found.get("tags")),
    )
