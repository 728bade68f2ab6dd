"""Defaults that depend on whether a run has a model."""

from __future__ import annotations

from typing import NamedTuple


class Defaults(NamedTuple):
    """What holds where nothing else was asked for.

    Attributes:
        generations: Generations to run.
        slots: Slots in a generation.
        stall_after: Evaluations without progress that make a stall.
        tuning_share: Share of the evaluations that tunes constants; None where it depends on how
            long an evaluation takes.
        max_seconds: Limit of time, for people who asked for no limit at all.
    """

    generations: int
    slots: int
    stall_after: int
    tuning_share: float | None
    max_seconds: float | None = None


WITH_MODEL = Defaults(generations=30, slots=4, stall_after=16, tuning_share=None)
WITHOUT_MODEL = Defaults(
    generations=600, slots=8, stall_after=240, tuning_share=0.25, max_seconds=150.0
)
# Generations that may be in flight beside the oldest.
MOST_LAG = 16
# Evaluations with which a session of tuning hardly begins.
LEAST_TUNING = 50
# With a model a generation tunes for about so long, with at most so many evaluations; not at all
# where one takes longer than a few seconds or a cap leaves too few of them.
TUNING_SECONDS = 40.0
MOST_TUNING = 96
SLOW_SECONDS = 4.0
LEAST_WITH_MODEL = 30
