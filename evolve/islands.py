"""Islands: archives of their own, joined by migration in a ring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evolve.archive import AddStatus, Archive, Elite
from evolve.cells import GridCells, OneCell
from evolve.selection import draw, parent_probabilities
from evolve.strategies import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from evolve.cells import Cells
    from evolve.measures import Measure
    from evolve.records import Direction
    from evolve.settings import SearchSettings


@dataclass(frozen=True, slots=True)
class Choice:
    """The elites chosen for a slot: whose source is changed, and what is shown beside it."""

    island: int
    parent: Elite
    inspirations: tuple[Elite, ...]


class Islands:
    """Several archives that own their elites.

    Args:
        axes: Measures of every archive.
        direction: Whether larger or smaller objectives win.
        settings: Number of islands, migration, selection.
    """

    def __init__(
        self, axes: Sequence[Measure], direction: Direction, settings: SearchSettings
    ) -> None:
        self.settings = settings
        self.strategy = STRATEGIES[settings.strategy]
        cells: Cells = GridCells(axes) if settings.archive == "grid" else OneCell(axes)
        self.archives = tuple(Archive(cells, direction) for _ in range(settings.islands))

    def island_of(self, generation: int, slot: int, slots: int) -> int:
        """Gives the island that a slot works for; islands take turns."""
        return (generation * slots + slot) % len(self.archives)

    def seed(self, elite: Elite) -> None:
        """Puts the initial program on every island."""
        for archive in self.archives:
            archive.add(elite)

    def add(self, island: int, elite: Elite) -> AddStatus:
        """Offers a new elite to the archive of its island."""
        return self.archives[island].add(elite)

    def migrate(self) -> int:
        """Copies the best elites of each island to the next one in the ring.

        All migrants are chosen before the first one lands, so that none travels twice.

        Returns:
            How many copies were taken in.
        """
        if len(self.archives) == 1:
            return 0
        leaving = []
        for archive in self.archives:
            best = archive.ranking()[: self.settings.migrants]
            leaving.append([archive.elites[position] for position in best])
        taken = 0
        for island, migrants in enumerate(leaving):
            target = self.archives[(island + 1) % len(self.archives)]
            taken += sum(bool(target.add(elite)) for elite in migrants)
        return taken

    def choose(
        self, slots: Sequence[tuple[int, np.random.Generator]], pool: Sequence[Elite]
    ) -> list[Choice]:
        """Chooses parents and inspirations for all slots of a generation.

        Args:
            slots: Island and random stream of each slot.
            pool: Where a baseline takes parents from; other strategies pass it over.
        """
        if self.strategy.is_baseline:
            return [Choice(island, pool[int(rng.integers(len(pool)))], ()) for island, rng in slots]
        cumulative = {
            island: np.cumsum(
                parent_probabilities(
                    self.archives[island],
                    self.strategy.rule,
                    entropy=self.settings.entropy,
                    visit_penalty=self.settings.visit_penalty,
                )
            )
            for island in {island for island, _ in slots}
        }
        return [self._choose(island, cumulative[island], rng) for island, rng in slots]

    def _choose(
        self, island: int, cumulative: NDArray[np.float64], rng: np.random.Generator
    ) -> Choice:
        archive = self.archives[island]
        parent = archive.elites[draw(cumulative, rng)]
        inspirations: dict[str, Elite] = {}
        # The best of the island first, then alternately from another island and other cells;
        # a bounded number of draws, for there may be fewer elites than asked for.
        for turn in range(3 * self.settings.inspirations):
            if len(inspirations) == self.settings.inspirations:
                break
            elite = self._inspiration(turn, island, cumulative, rng)
            if elite.program_id != parent.program_id:
                inspirations.setdefault(elite.program_id, elite)
        return Choice(island, parent, tuple(inspirations.values()))

    def _inspiration(
        self, turn: int, island: int, cumulative: NDArray[np.float64], rng: np.random.Generator
    ) -> Elite:
        archive = self.archives[island]
        if turn == 0 and archive.best is not None:
            return archive.best
        if turn % 2 == 1 and len(self.archives) > 1:
            step = 1 + int(rng.integers(len(self.archives) - 1))
            other = self.archives[(island + step) % len(self.archives)]
            return other.elites[int(rng.integers(len(other)))]
        return archive.elites[draw(cumulative, rng)]
