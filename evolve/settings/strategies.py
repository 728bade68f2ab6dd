"""How parents are chosen, by name: MAP-Elites, its alternatives, and baselines."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Strategy:
    """Where parents come from.

    Attributes:
        about: What it does, in words.
        pool: `elites` of the slot's island; the `initial` program; the `champion`; or all
            `evaluated` programs.
        rule: How one is drawn from `elites`: `boltzmann`, `greedy`, `uniform`, `tournament` or
            `curiosity`; others draw evenly.
    """

    about: str
    pool: str = "elites"
    rule: str = "uniform"

    @property
    def is_baseline(self) -> bool:
        """Returns whether parents come from elsewhere than cells.

        Such a strategy shows no inspirations, does not answer to stalls and needs one island.
        """
        return self.pool != "elites"


DEFAULT_STRATEGY = "map-elites"
STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "map-elites": Strategy("better elites more often, to a target entropy", rule="boltzmann"),
        "curiosity": Strategy("elites of cells whose offspring improve", rule="curiosity"),
        "tournament": Strategy("the best of a few elites", rule="tournament"),
        "greedy": Strategy("the best elite of the island", rule="greedy"),
        "uniform": Strategy("any elite of the island", rule="uniform"),
        "hill-climb": Strategy("the champion, alone", pool="champion"),
        "best-of-n": Strategy("the starting program, always", pool="initial"),
        "random": Strategy("any program evaluated so far", pool="evaluated"),
    }
)
