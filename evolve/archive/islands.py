"""Islands: archives of their own, joined by migration."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evolve.archive.archives import KINDS, AddStatus, Archive, Elite, FrontArchive, find_front
from evolve.problem import Measure
from evolve.records import Direction
from evolve.settings.sections import STRATEGIES, SearchSettings

# Best elites that each island sends to the next.
MIGRANTS = 2


class Islands:
    """Several archives that own their elites.

    Args:
        axes: Measures of every archive.
        direction: Whether larger or smaller objectives win.
        settings: Number of islands, migration, selection.
        others: Directions of further objectives; cells hold fronts then.
    """

    def __init__(
        self,
        axes: Sequence[Measure],
        direction: Direction,
        settings: SearchSettings,
        others: Sequence[Direction] = (),
    ) -> None:
        self.settings = settings
        self.strategy = STRATEGIES[settings.strategy]
        self._direction = direction
        self._others = tuple(others)
        self._cells = KINDS[settings.archive](axes)
        self.archives = [self._make_archive() for _ in range(settings.islands)]
        self.migrations = 0

    def seed(self, elite: Elite) -> None:
        """Puts the initial program on every island."""
        for archive in self.archives:
            archive.add(elite)

    def add(self, island: int, elite: Elite) -> AddStatus:
        """Offers a new elite to the archive of its island."""
        return self.archives[island].add(elite)

    def assign_slots(self, generation: int, slots: int) -> list[int]:
        """Returns the island of each slot of a generation, in turns."""
        return [(generation * slots + slot) % len(self.archives) for slot in range(slots)]

    def migrate(self) -> int:
        """Copies the best elites of each island to the next one in the ring.

        All migrants are chosen before the first one lands, so that none travels twice.

        Returns:
            How many copies were taken in.
        """
        count = len(self.archives)
        leaving = [
            [archive.elites[position] for position in archive.ranked()[0][:MIGRANTS]]
            for archive in self.archives
        ]
        taken = 0
        for island, migrants in enumerate(leaving if count > 1 else []):
            target = self.archives[(island + 1) % count]
            taken += sum(bool(target.add(elite)) for elite in migrants)
        self.migrations += taken
        return taken

    def restart_weakest(self, start: Elite) -> int | None:
        """Empties the island with the worst best elite, the one with fewest elites among equals.

        It begins again with the starting program and the best elite of the island across the
        ring (Romera-Paredes 2024, Mathematical discoveries from program search with large
        language models, restarts islands from the best of others), and keeps its count of elites
        out of range.

        Args:
            start: The starting program.

        Returns:
            The island; None when there is only one.
        """
        count = len(self.archives)
        if count == 1:
            return None
        weakest = min(range(count), key=lambda island: (*self._strength(island), -island))
        fresh = self._make_archive()
        fresh.out_of_range = self.archives[weakest].out_of_range
        other = self.archives[(weakest + count // 2) % count].best
        for elite in (start, other):
            if elite is not None:
                fresh.add(elite)
        self.archives[weakest] = fresh
        return weakest

    def front(self) -> list[Elite]:
        """Returns the elites of all islands that nothing dominates, the best first.

        Empty where there is one objective, whose best elite would be all of it.
        """
        elites = {elite.program_id: elite for archive in self.archives for elite in archive.elites}
        return find_front(list(elites.values()), self._direction, self._others)

    def _make_archive(self) -> Archive:
        if self._others:
            return FrontArchive(self._cells, self._direction, self._others)
        return Archive(self._cells, self._direction)

    def _strength(self, island: int) -> tuple[float, int]:
        archive = self.archives[island]
        best = archive.best
        signed = -math.inf if best is None else archive.direction.sign * best.objective
        return signed, len(archive)
