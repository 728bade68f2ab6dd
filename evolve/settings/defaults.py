"""Defaults that depend on whether a run has a model."""

from __future__ import annotations

from typing import NamedTuple


class Defaults(NamedTuple):
    """What holds where nothing else was asked for.

    Attributes:
        generations: Generations to run.
        stall_after: Evaluations without progress that make a stall.
        tuning_share: Share of the evaluations that tunes constants.
        max_seconds: Limit of time, for people who asked for no limit at all.
    """

    generations: int
    stall_after: int
    tuning_share: float
    max_seconds: float | None = None


WITH_MODEL = Defaults(generations=30, stall_after=16, tuning_share=0.5)
WITHOUT_MODEL = Defaults(generations=600, stall_after=240, tuning_share=0.25, max_seconds=150.0)
# Evaluations with which a session of tuning hardly begins.
LEAST_TUNING = 50
