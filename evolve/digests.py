"""What planners are told: from the store's committed generations to digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.lessons import Lesson
from evolve.machine import Machine
from evolve.memory import Digest, Memory, Remaining
from evolve.store.notes import load_notes

if TYPE_CHECKING:
    from collections.abc import Callable

    from evolve.launches import SettingsHistory
    from evolve.records import Ancestor, AttemptKey, Direction, Selection
    from evolve.settings import BudgetSettings
    from evolve.store import Store

LESSONS_FACT, MACHINE_FACT = "inherited_lessons", "machine"

_ANCESTORS = 3
_SIBLINGS = 12
_LESSONS = 12
_FAILING = 4
_IDEAS = 16
_COSTS = (
    "SELECT SUM(cost_usd) FROM calls WHERE generation > ? AND generation <= ? "
    "GROUP BY generation ORDER BY generation"
)


class DigestMaker:
    """Makes digests; what it reads of the store is read once.

    Args:
        store: May hold later generations, when a run is resumed; they are passed over.
        history: The settings of each generation.
        direction: Whether a larger or a smaller objective is better.
        load: Gives an attempt with its lesson.
    """

    def __init__(
        self,
        store: Store,
        history: SettingsHistory,
        direction: Direction,
        load: Callable[[AttemptKey], Ancestor],
    ) -> None:
        facts = store.facts()
        self.memory = Memory(direction, map(Lesson.from_dict, facts.get(LESSONS_FACT, [])))
        self._store = store
        self._history = history
        self._load = load
        machine = facts.get(MACHINE_FACT)
        self._machine = None if machine is None else Machine.from_dict(machine)
        self._told = -1
        self._cost_usd = 0.0
        self._shared: tuple[int, Digest] | None = None

    def advance(self, horizon: int) -> None:
        """Takes in what was committed up to a generation.

        Raises:
            StoreError: The database cannot be read.
        """
        if horizon <= self._told:
            return
        for note in load_notes(self._store, self._told, horizon):
            self.memory.tell(note)
        for (cost_usd,) in self._store.query(_COSTS, self._told, horizon):
            self._cost_usd += cost_usd or 0.0
        self._told = horizon

    def make(self, selection: Selection, generation: int, evaluations: int) -> Digest:
        """Gives the digest for one selection.

        Args:
            selection: The parent and its inspirations.
            generation: The generation that the digest is for.
            evaluations: How many were used up to the state that it follows from.
        """
        shared = self._share(generation, evaluations)
        ancestors: list[Ancestor] = []
        key = selection.parent.attempt.parent
        while key is not None and len(ancestors) < _ANCESTORS:
            ancestors.append(self._load(key))
            key = ancestors[-1].attempt.parent
        return Digest(
            ancestors=(selection.parent, *ancestors),
            siblings=self.memory.siblings(selection.parent.attempt.key, _SIBLINGS),
            lessons=shared.lessons,
            failing=shared.failing,
            ideas=shared.ideas,
            failures=shared.failures,
            calibration=shared.calibration,
            rewrites=shared.rewrites,
            remaining=shared.remaining,
            machine=self._machine.describe() if self._machine else "",
            modules=self._machine.modules if self._machine else frozenset(),
            generation=generation,
            generations=shared.generations,
        )

    def _share(self, generation: int, evaluations: int) -> Digest:
        """Gives what all slots of a generation are told alike."""
        if self._shared is not None and self._shared[0] == generation:
            return self._shared[1]
        settings = self._history.at(generation)
        memory, told = self.memory, settings.steps.lessons
        digest = Digest(
            lessons=memory.book.rank(generation, _LESSONS) if told else (),
            failing=memory.book.failing(_FAILING) if told else (),
            ideas=memory.ideas(_IDEAS),
            failures=memory.failures(_IDEAS),
            calibration=memory.calibration(),
            rewrites=memory.prefers_rewrites(),
            remaining=self._find_remaining(settings.budget, evaluations),
            generations=settings.loop.generations or generation,
        )
        self._shared = generation, digest
        return digest

    def _find_remaining(self, budget: BudgetSettings, evaluations: int) -> Remaining:
        most, most_usd = budget.max_evaluations, budget.max_cost_usd
        return Remaining(
            None if most is None else max(0, most - evaluations),
            None if most_usd is None else max(0.0, most_usd - self._cost_usd),
        )
