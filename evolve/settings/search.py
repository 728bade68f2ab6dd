"""Settings of the population, and of the lane that tunes constants."""

from __future__ import annotations

from dataclasses import dataclass

from evolve.settings.defaults import (
    LEAST_TUNING,
    MOST_TUNING,
    SLOW_SECONDS,
    TUNING_SECONDS,
    WITH_MODEL,
    WITHOUT_MODEL,
)
from evolve.settings.strategies import DEFAULT_STRATEGY, STRATEGIES
from evolve.settings.values import setting


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Population, selection and migration."""

    strategy: str = setting(DEFAULT_STRATEGY, "where parents come from", choices=tuple(STRATEGIES))
    archive: str = setting("grid", "how measure space is cut", choices=("grid", "cvt", "single"))
    cells: int = setting(200, "cells of an archive that is `cvt`", low=1, high=2000)
    centroids: str = setting(
        "ranges",
        "where the cells of `cvt` lie: evenly, or closer around the first programs",
        choices=("ranges", "start"),
    )
    islands: int = setting(2, "islands, each with an archive of its own", low=1, high=256)
    migration_every: int = setting(10, "generations between migrations; 0 never", low=0)
    migrants: int = setting(2, "best elites that each island sends to the next", low=1)
    topology: str = setting("ring", "where migrants go", choices=("ring", "full"))
    quota: str = setting(
        "progress", "how islands get slots beside their minimum", choices=("progress", "turns")
    )
    entropy: float = setting(
        0.3, "normalised entropy of parent selection: 0 greedy, 1 uniform", low=0, high=1
    )
    visit_penalty: float = setting(0.5, "exponent of 1 / (1 + children)", low=0, high=4)
    climb: bool = setting(
        True,  # noqa: FBT003
        "change the champion alone in many slots, while that surely pays more",
    )
    inspirations: int = setting(
        3, "programs shown beside the champion, or mixed into the parent", low=0, high=16
    )
    stall_after: int | None = setting(
        None,
        "evaluations without progress that make a stall; by default "
        f"{WITH_MODEL.stall_after} with a model, {WITHOUT_MODEL.stall_after} without; 0 never",
        low=0,
    )


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """The lane in which constants are tuned beside the slots, without a model."""

    share: float | None = setting(
        None,
        "share of the evaluations that tunes constants, 0 for none; by default "
        f"{WITHOUT_MODEL.tuning_share:g} without a model, none where that is fewer than "
        f"{LEAST_TUNING} evaluations; with a model what fits into {TUNING_SECONDS:g} s a "
        f"generation, at most {MOST_TUNING} evaluations, none where one takes longer than "
        f"{SLOW_SECONDS:g} s",
        low=0,
        high=0.99,
    )
