"""A digest as the blocks of a planner's prompt."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from evolve.steps import prompt
from evolve.steps.blocks import Block, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evolve.records import Ancestor, Direction, Plan
    from evolve.source.ledger import LineRecord
    from evolve.steps.lessons import Lesson
    from evolve.steps.memory import Digest, Idea, Trial

_LONGEST = 300


def digest_blocks(digest: Digest, direction: Direction) -> list[Block]:
    """Gives everything that a planner is told beside the parent and its inspirations."""
    return [
        prompt.machine_block(digest),
        Block("progress", (_show_progress(digest),), rank=1),
        Block(
            "ancestors",
            _show_line(digest.ancestors, direction),
            "# How the parent came about, nearest first",
            share=0.12,
            rank=4,
            is_data=True,
        ),
        Block(
            "siblings",
            _show_siblings(digest.siblings),
            "# Tried on this parent already",
            share=0.15,
            rank=5,
            is_data=True,
        ),
        Block(
            "added_lines",
            tuple(map(_show_record, digest.lines)),
            "# Lines that changes near this parent added without a gain",
            share=0.06,
            rank=8,
            is_data=True,
        ),
        lessons_block(digest),
        Block(
            "failing",
            tuple(f"[{lesson.id}] {_short(lesson.text)}" for lesson in digest.failing),
            "# Lessons that never paid when they were followed",
            share=0.05,
            rank=9,
            is_data=True,
        ),
        _ideas_block("ideas", digest.ideas, "# Ideas tried in this run"),
        _ideas_block("failures", digest.failures, "# Ideas that never gained"),
    ]


def lessons_block(digest: Digest) -> Block:
    """Gives the lessons of the run."""
    items = tuple(_show_lesson(lesson) for lesson in digest.lessons)
    return Block("lessons", items, "# Lessons so far", share=0.15, rank=7, is_data=True)


def earlier_block(plans: Sequence[Plan]) -> Block:
    """Gives the plans that others follow from the same start."""
    items = tuple(f"- {_short(plan.change)}" for plan in plans)
    heading = "# Plans that are followed already from the same start"
    return Block("earlier", items, heading, share=0.15, rank=3, is_data=True)


def _ideas_block(name: str, ideas: Sequence[Idea], heading: str) -> Block:
    items = tuple(_show_idea(idea) for idea in ideas)
    return Block(name, items, heading, share=0.12, rank=8, is_data=True)


def _show_progress(digest: Digest) -> str:
    parts = [f"This is generation {digest.generation} of {digest.generations}."]
    if digest.remaining.evaluations is not None:
        parts.append(f"Evaluations left: {digest.remaining.evaluations}.")
    if digest.remaining.cost_usd is not None:
        parts.append(f"Money left for models: ${digest.remaining.cost_usd:.2f}.")
    known = digest.calibration
    if known.predictions:
        parts.append(
            f"Of the gains predicted so far, {known.share:.0%} came true "
            f"({known.predictions} predictions)."
        )
    return " ".join(parts)


def _show_line(line: Sequence[Ancestor], direction: Direction) -> tuple[str, ...]:
    """Gives one item for each program with a parent: predicted and measured change, lesson."""
    items = []
    for one, parent in pairwise(line):
        plan = one.attempt.plan
        change = _short(plan.change) if plan else "an unknown change"
        parts = [f"- {change}"]
        if plan is not None and plan.predicted_gain is not None:
            parts.append(f"predicted {plan.predicted_gain:+.6g}")
        new, old = one.attempt.objective, parent.attempt.objective
        if new is not None and old is not None:
            parts.append(f"measured {direction.sign * (new - old):+.6g}")
        if one.lesson:
            parts.append(f"lesson: {_short(one.lesson)}")
        items.append("; ".join(parts))
    return tuple(items)


def _show_siblings(siblings: Sequence[Trial]) -> tuple[str, ...]:
    """Gives trials grouped by outcome: gains, then losses, then failures."""
    ranked = sorted(siblings, key=_outcome_of)
    return tuple(f"- {_show_trial(trial)}" for trial in ranked)


def _outcome_of(trial: Trial) -> int:
    if trial.gain is None:
        return 2
    return 0 if trial.gain > 0 else 1


def _show_trial(trial: Trial) -> str:
    change = _short(trial.change)
    if trial.gain is not None:
        words = ("gained", "lost", "")
        word = words[_outcome_of(trial)] if trial.gain else "changed nothing"
        return f"{word} {abs(trial.gain):.6g}: {change}" if trial.gain else f"{word}: {change}"
    return f"failed ({trial.status}): {change}; {_short(trial.reason)}"


def _show_record(record: LineRecord) -> str:
    counts = f"added {record.added}"
    if record.removed:
        counts += f", removed {record.removed}"
    if record.failed:
        counts += f", failed {record.failed}"
    return f"- {_short(record.line)} ({counts})"


def _show_idea(idea: Idea) -> str:
    parts = [f"- {plain(idea.tag)}: tried {idea.tried}, gained {idea.gained}, failed {idea.failed}"]
    if idea.best is not None:
        parts.append(f"best: {_show_trial(idea.best)}")
    if idea.latest is not None and idea.latest != idea.best:
        parts.append(f"last: {_show_trial(idea.latest)}")
    return "; ".join(parts)


def _show_lesson(lesson: Lesson) -> str:
    counts = f"taught {lesson.taught}"
    if lesson.followed:
        counts += f", followed {lesson.followed}, paid {lesson.paid}"
    text = f"[{lesson.id}] {_short(lesson.text)} ({counts})"
    return f"{text} Next: {_short(lesson.next_step)}" if lesson.next_step else text


def _short(text: str) -> str:
    return plain(text)[:_LONGEST]
