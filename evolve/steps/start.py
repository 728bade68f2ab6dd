"""A diversified start: each first plan is shown the earlier ones."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from evolve.errors import BudgetExhaustedError

if TYPE_CHECKING:
    from evolve.records import Plan


class PlanBoard:
    """Where the slots of a generation leave their plans for those after them.

    A slot waits for all slots before it, so that prompts do not depend on timing. Jobs are begun
    in slot order: whoever is waited for has begun.

    Args:
        slots: How many slots there are.
    """

    def __init__(self, slots: int) -> None:
        self._left = [threading.Event() for _ in range(slots)]
        self._plans: list[Plan | None] = [None] * slots
        self._cut_by = [""] * slots

    def earlier(self, slot: int) -> tuple[Plan, ...]:
        """Waits for the plans of all slots before one; slots without a plan are left out.

        Raises:
            BudgetExhaustedError: One of them was cut before it had planned: what it would have
                planned is part of what this one is asked.
        """
        for number in range(slot):
            self._left[number].wait()
            if self._cut_by[number]:
                cap = self._cut_by[number]
                raise BudgetExhaustedError(cap, f"slot {number} was cut before it planned: {cap}")
        return tuple(plan for plan in self._plans[:slot] if plan is not None)

    def leave(self, slot: int, plan: Plan | None, *, cut_by: str = "") -> None:
        """Leaves a slot's plan, or tells that it has none; only the first word counts."""
        if not self._left[slot].is_set():
            self._plans[slot], self._cut_by[slot] = plan, cut_by
            self._left[slot].set()
