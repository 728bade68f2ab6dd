"""The third step: what the attempts of a generation taught, compared with one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evolve.models.model import ReplyError
from evolve.records import Attempt, Direction, Lesson, Rejected, Status, Summary
from evolve.records.chat import Message, Request
from evolve.steps import prompt
from evolve.steps.jobs import Ask, Digest, ask_until_read
from evolve.steps.page import compose, lessons_blocks, show_outcomes, show_status
from evolve.steps.parse import (
    SUMMARY,
    as_names,
    as_tags,
    as_text,
    as_words,
    find_objects,
    finish_object,
    select_objects,
)
from evolve.steps.prompt import Block, fence

_MOST_LESSONS = 3


def summarize_attempts(
    digest: Digest, slots: Sequence[Sequence[Attempt]], *, ask: Ask, seed: int
) -> Summary | None:
    """Asks the summarizer what a generation taught.

    Args:
        digest: What its prompts showed.
        slots: The attempts of each slot.
        ask: Asks the model.
        seed: Of the request.

    Returns:
        The summary; None where no program was evaluated, or the reply cannot be used.

    Raises:
        BudgetExhaustedError: The call might pass a cap.
        ModelError: The model cannot be used, or does not answer.
    """
    attempts = [attempt for slot in slots for attempt in slot]
    if all(attempt.evaluation.status is Status.REJECTED for attempt in attempts):
        return None
    request = Request("summarizer", summary_messages(digest, slots), seed=seed, schema=SUMMARY)
    try:
        found = ask_until_read(
            ask, request, lambda text: parse_summary(text) or Rejected("it holds no summary")
        )
    except ReplyError:
        return None
    return None if isinstance(found, Rejected) else found


def summary_messages(digest: Digest, slots: Sequence[Sequence[Attempt]]) -> tuple[Message, ...]:
    """Returns what the summarizer is shown."""
    blocks = [
        Block("status", (show_status(digest),), rank=1),
        Block("outcomes", tuple(_show_slots(digest, slots)), rank=3),
        *lessons_blocks(digest.lessons),
    ]
    return compose("summarize", "summarizer", digest, blocks)


def _show_slots(digest: Digest, slots: Sequence[Sequence[Attempt]]) -> Iterator[str]:
    """Yields each plan with what came of it, the best objective first."""
    problem, tried = digest.problem, [slot for slot in slots if slot]
    for slot in sorted(tried, key=lambda slot: _best_of(slot, problem.direction), reverse=True):
        plan = slot[-1].plan
        base = digest.find(plan.base) if plan is not None else None
        before = ""
        if base is not None and base.objective is not None:
            before = f" (objective {base.objective:.10g})"
        name = f"## Plan of slot {slot[0].key.slot}, on program {slot[0].parent}{before}"
        change = fence(prompt.show_plan(plan)) if plan is not None else ""
        yield "\n\n".join(filter(None, (name, change, show_outcomes(base, slot, problem))))


def _best_of(slot: Sequence[Attempt], direction: Direction) -> float:
    objectives = [one.objective for one in slot if one.objective is not None]
    return max((direction.sign * value for value in objectives), default=-float("inf"))


def parse_summary(text: str) -> Summary | None:
    """Returns the summary in a reply; None where there is neither a verdict nor a lesson."""
    objects = find_objects(text, _is_summary)
    objects = objects or [*select_objects(finish_object(text), _is_summary)]
    if not objects:
        return None
    found = objects[-1]
    listed = found.get("lessons")
    items = listed if isinstance(listed, list) else [found]
    lessons = [lesson for item in items if (lesson := _read_lesson(item)) is not None]
    verdict = as_text(as_words(found.get("verdict")), 500)
    if not verdict and not lessons:
        return None
    outdated = as_names(found.get("outdated") or [])
    return Summary(verdict, tuple(lessons[:_MOST_LESSONS]), outdated)


def _is_summary(found: dict[str, object]) -> bool:
    return any(name in found for name in ("verdict", "lessons", "lesson"))


def _read_lesson(item: object) -> Lesson | None:
    if isinstance(item, str):
        item = {"claim": item}
    if not isinstance(item, dict):
        return None
    item = {str(key).lower(): value for key, value in item.items()}
    claim = as_text(as_words(item.get("claim") or item.get("lesson")), 1000)
    if not claim:
        return None
    works = item.get("works", True)
    return Lesson(
        claim,
        evidence=as_text(as_words(item.get("evidence")), 600),
        scope=as_text(as_words(item.get("scope")), 400),
        works=works if isinstance(works, bool) else str(works).strip().lower() != "false",
        tags=as_tags(item.get("tags")),
    )
