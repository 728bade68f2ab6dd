"""Elites by objective, kept in order while a few of them change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Where more than one in so many changed, sorting anew is no slower.
_FEW = 8


class Ranking:
    """Positions from best to worst, the smaller position first on ties.

    Bringing it up to date takes time linear in the number of positions, with a small factor; it
    is put off until the order is asked for. The order depends on the objectives alone, not on how
    they came about.

    Args:
        sign: +1 when larger objectives are better, -1 when smaller are.
    """

    def __init__(self, sign: float) -> None:
        self._sign = sign
        self._order: NDArray[np.int64] = np.empty(0, np.int64)
        self._changed: set[int] = set()
        self._is_known = True

    def change(self, position: int) -> None:
        """Takes note that the objective at a position is new."""
        self._changed.add(position)

    def forget(self) -> None:
        """Takes note that any position may hold another objective now."""
        self._is_known = False

    def order(self, objectives: NDArray[np.float64]) -> NDArray[np.int64]:
        """Returns the positions in order, shape `(len(objectives),)`; not to be written to."""
        if not self._is_known or len(self._changed) * _FEW > len(objectives):
            self._order = np.argsort(-self._sign * objectives, kind="stable")
        elif self._changed:
            self._order = self._merge(-self._sign * objectives)
        self._changed.clear()
        self._is_known = True
        return self._order

    def _merge(self, keys: NDArray[np.float64]) -> NDArray[np.int64]:
        changed = np.array(sorted(self._changed))
        changed = changed[np.argsort(keys[changed], kind="stable")]
        moves = np.zeros(len(keys), bool)
        moves[changed] = True
        kept = self._order[~moves[self._order]]
        known = keys[kept]
        places = np.searchsorted(known, keys[changed], side="left")
        ends = np.searchsorted(known, keys[changed], side="right")
        for at in np.flatnonzero(ends > places).tolist():
            equals = kept[places[at] : ends[at]]
            places[at] += np.searchsorted(equals, changed[at])
        places += np.arange(len(changed))
        merged = np.empty(len(keys), np.int64)
        stays = np.ones(len(keys), bool)
        stays[places] = False
        merged[places] = changed
        merged[stays] = kept
        return merged


def dense_ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the rank of each of some sorted values, from 0; equal values share theirs."""
    ranks = np.zeros(len(values), np.int64)
    np.cumsum(values[1:] != values[:-1], out=ranks[1:])
    return ranks
