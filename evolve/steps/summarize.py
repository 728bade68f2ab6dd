"""The third step: what the attempts taught. A language model's form and a model-free one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.models.protocol import ReplyError
from evolve.models.tokens import count_for
from evolve.records import Status, Summary
from evolve.records.chat import Request
from evolve.steps import prompt
from evolve.steps.blocks import Block
from evolve.steps.parse import as_tags, as_text, complete_object, find_object
from evolve.steps.shapes import CAUSES, SUMMARY, SUMMARY_KEYS, list_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.problem import Problem
    from evolve.records import Attempt, Direction, Plan, Selection
    from evolve.records.chat import Message
    from evolve.settings import Settings
    from evolve.steps.tools import Ask


def summarize_attempts(
    problem: Problem,
    selection: Selection,
    plan: Plan,
    attempts: Sequence[Attempt],
    *,
    ask: Ask,
    settings: Settings,
    seed: int,
) -> Summary:
    """Asks the summarizer what was learnt; where its reply cannot be used, says what is known.

    Raises:
        BudgetExhaustedError: The call might pass a cap.
        ModelError: The model cannot be used, or does not answer.
    """
    known = judge_attempts(problem.direction, selection, attempts)
    request = Request(
        "summarizer",
        summary_messages(problem, selection, plan, attempts, settings=settings),
        settings.models.max_tokens,
        settings.models.temperature,
        seed,
        schema=SUMMARY,
    )
    try:
        return parse_summary(ask(request).text, known)
    except ReplyError:
        return known


def summary_messages(
    problem: Problem,
    selection: Selection,
    plan: Plan,
    attempts: Sequence[Attempt],
    *,
    settings: Settings,
) -> tuple[Message, ...]:
    """Gives what the summarizer is told."""
    shown = [
        f"Attempt {number} of {len(attempts)}:\n\n"
        + prompt.show_evaluation(attempt, detail_characters=800)
        for number, attempt in enumerate(attempts, 1)
    ]
    comparison = _compare(problem.direction, selection, plan, attempts)
    blocks = [
        Block("attempts", tuple(shown), rank=3),
        Block("comparison", (comparison,) if comparison else (), rank=2),
        Block("plan", (prompt.show_plan(plan),), rank=1),
        Block("keys", (list_keys(SUMMARY_KEYS),), rank=0),
    ]
    return prompt.compose(
        "summarize",
        problem,
        blocks,
        most=settings.models.digest_tokens,
        counter=count_for(settings.models, "summarizer"),
    )


def parse_summary(text: str, known: Summary) -> Summary:
    """Gives the summary in a reply; what it does not say is taken from what is known."""
    found = find_object(text) or complete_object(text)
    if found is None:
        return known
    cause = as_text(found.get("cause")).lower()
    return Summary(
        verdict=as_text(found.get("verdict"), 500) or known.verdict,
        cause=cause if cause in CAUSES else known.cause,
        lesson=as_text(found.get("lesson"), 1000),
        tags=as_tags(found.get("tags")),
        evidence=as_text(found.get("evidence"), 500),
        next_step=as_text(found.get("next") or found.get("next_step"), 500),
    )


def judge_attempts(
    direction: Direction, selection: Selection, attempts: Sequence[Attempt]
) -> Summary:
    """Gives what can be told of attempts without a model: a verdict and a likely cause."""
    before = selection.parent.attempt.objective
    gains = measure_gains(direction, before, attempts)
    if gains:
        gain = max(gains)
        word = "gained" if gain > 0 else "lost" if gain < 0 else "changed nothing:"
        return Summary(f"{word} {abs(gain):.6g} against the parent", "idea")
    last = attempts[-1].evaluation if attempts else None
    if last is None:
        return Summary("no attempt was made", "implementation")
    cause = "time" if last.status is Status.TIMEOUT else "implementation"
    return Summary(f"no program with an objective: {last.status}", cause)


def measure_gains(
    direction: Direction, before: float | None, attempts: Sequence[Attempt]
) -> list[float]:
    """Gives the gains of the attempts with an objective, positive is better."""
    if before is None:
        return []
    objectives = [attempt.objective for attempt in attempts if attempt.objective is not None]
    return [direction.sign * (objective - before) for objective in objectives]


def _compare(
    direction: Direction, selection: Selection, plan: Plan, attempts: Sequence[Attempt]
) -> str:
    before = selection.parent.attempt.objective
    if before is None:
        return ""
    lines = [f"The parent's objective was {before:.10g}."]
    if plan.predicted_gain is not None:
        lines.append(f"Predicted gain: {plan.predicted_gain:.6g}.")
    gains = measure_gains(direction, before, attempts)
    measured = f"{max(gains):.6g}" if gains else "none, no program got an objective"
    lines.append(f"Measured gain: {measured}.")
    return " ".join(lines)
