"""Parents and inspirations for all slots of a generation, from islands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evolve.archive.selection import Lottery, make_lottery

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.random import Generator
    from numpy.typing import NDArray

    from evolve.archive import Archive, Elite
    from evolve.archive.islands import Islands

# An inspiration is the farthest in source of a few that are drawn from the nearest in rank.
_NEAREST = 12
_CANDIDATES = 4


@dataclass(frozen=True, slots=True)
class Choice:
    """The elites chosen for a slot: whose source is changed, and what is shown beside it."""

    island: int
    parent: Elite
    inspirations: tuple[Elite, ...]


class Chooser:
    """Chooses for one generation, from a state that does not change meanwhile.

    Args:
        islands: Archives and settings.
        entropy: The target of parent selection.
        pool: Where a baseline takes parents from; other strategies pass it over.
        sketch_of: Gives the sketch of an elite's source.
        champion: What a climbing slot changes.
        climb: Share of the slots that climb.
    """

    def __init__(
        self,
        islands: Islands,
        *,
        entropy: float,
        pool: Sequence[Elite],
        sketch_of: Callable[[Elite], NDArray[np.uint32]],
        champion: Elite | None = None,
        climb: float = 0.0,
    ) -> None:
        self._islands = islands
        self._entropy = entropy
        self._pool = pool
        self._sketch_of = sketch_of
        self._champion = champion
        self._climb = climb
        self._lotteries: dict[int, Lottery] = {}
        self._orders: dict[int, _Order] = {}

    def choose(self, island: int, rng: Generator) -> Choice:
        """Returns the parent and the inspirations of one slot.

        The best elite of the island is shown first, where it is not the parent. The others are
        near the parent in objective and far from it in source; they come from another island and
        from other cells of the parent's own in turns. A slot that climbs changes the champion,
        for the island that found it.
        """
        if self._islands.strategy.is_baseline:
            return Choice(island, self._pool[int(rng.integers(len(self._pool)))], ())
        wanted = self._islands.settings.inspirations
        if self._champion is not None and self._climb and rng.random() < self._climb:
            island, parent = self._champion.origin, self._champion
            wanted = 0
        else:
            parent = self._islands.archives[island].elites[self._lottery_of(island).draw(rng)]
        archive = self._islands.archives[island]
        shown: dict[str, Elite] = {}
        if wanted and archive.best is not None and archive.best.program_id != parent.program_id:
            shown[archive.best.program_id] = archive.best
        # There may be fewer different programs than are asked for.
        for turn in range(4 * wanted):
            if len(shown) == wanted:
                break
            found = self._find_far(self._source_of(turn, island, rng), parent, shown, rng)
            if found is not None:
                shown[found.program_id] = found
        return Choice(island, parent, tuple(shown.values()))

    def _source_of(self, turn: int, island: int, rng: Generator) -> int:
        count = len(self._islands.archives)
        if turn % 2 == 1 or count == 1:
            return island
        return (island + 1 + int(rng.random() * (count - 1))) % count

    def _find_far(
        self, island: int, parent: Elite, shown: dict[str, Elite], rng: Generator
    ) -> Elite | None:
        """Returns the elite of an island that shares least with the parent, of a few near it."""
        elites = self._islands.archives[island].elites
        near = self._order_of(island).near(parent.objective, _NEAREST)
        candidates: list[Elite] = []
        # More than are wanted are drawn, for some may be shown already; in one call, for calls
        # are most of what a slot takes.
        drawn = rng.random(2 * _CANDIDATES).tolist()
        for place in dict.fromkeys([int(share * len(near)) for share in drawn]):
            elite = elites[near[place]]
            if elite.program_id != parent.program_id and elite.program_id not in shown:
                candidates.append(elite)
                if len(candidates) == _CANDIDATES:
                    break
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        own = self._sketch_of(parent)
        # One by one: of four, a table takes longer. Bytes are counted quicker than truth values.
        shared = [(own == self._sketch_of(elite)).tobytes().count(1) for elite in candidates]
        return candidates[shared.index(min(shared))]

    def _lottery_of(self, island: int) -> Lottery:
        if island not in self._lotteries:
            self._lotteries[island] = make_lottery(
                self._islands.archives[island],
                self._islands.strategy.rule,
                entropy=self._entropy,
                visit_penalty=self._islands.settings.visit_penalty,
            )
        return self._lotteries[island]

    def _order_of(self, island: int) -> _Order:
        if island not in self._orders:
            self._orders[island] = _Order(self._islands.archives[island])
        return self._orders[island]


class _Order:
    """An archive's elites by objective."""

    def __init__(self, archive: Archive) -> None:
        self._positions = archive.by_objective()
        self._sign = archive.direction.sign
        self._keys = -self._sign * archive.objectives[self._positions]

    def near(self, objective: float, count: int) -> list[int]:
        """Returns the positions of at most so many elites around an objective, by rank."""
        middle = int(self._keys.searchsorted(-self._sign * objective))
        start = max(0, min(middle - count // 2, len(self._keys) - count))
        near: list[int] = self._positions[start : start + count].tolist()
        return near
