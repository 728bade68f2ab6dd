"""What the steps of a slot are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from evolve.archive.stalls import StallLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from evolve.models.roster import Part
    from evolve.operators import OperatorStats, Tuner
    from evolve.records import AttemptKey, Selection
    from evolve.records.chat import Reply, Request
    from evolve.steps.memory import Digest
    from evolve.steps.start import PlanBoard


class Ask(Protocol):
    """Asks the model of the request's role."""

    def __call__(self, request: Request) -> Reply:
        """Gives the reply.

        Raises:
            ReplyError: The reply cannot be used.
            BudgetExhaustedError: The call might pass a cap.
            ModelError: The model cannot be used, or does not answer.
        """


class Library(Protocol):
    """What an agent may read of the run, as of the state that its job follows from."""

    def elites(self) -> str:
        """Gives the best programs, one a line, with their ids and objectives."""

    def program(self, name: str) -> str:
        """Gives the files of a program and its verdict; empty when there is none of that id."""

    def search(self, words: str) -> str:
        """Gives plans, outcomes and lessons with these words, one a line."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that a slot depends on, besides replies and verdicts.

    Attributes:
        generation: Number of the generation.
        slot: Place in it.
        island: Island it works for.
        selection: The parent and its inspirations.
        digest: What the planner is told; None without a model.
        operators: How well each operator has paid; None with a model.
        open_tuner: Gives what tunes the parent's constants; None outside of the tuning lane.
        evaluations: Most evaluations that the slot may use.
        find_twin: Gives the attempt at an equal program among committed ones, by fingerprint.
        objective_of: Gives the objective of a committed attempt that has one.
        stall: How far the search has gone in answering a stall; from `OPERATORS` on, choices that
            learn from experience (operators, models) are to be made evenly.
        parts: Which model plays each role, and how; empty without a model.
        leap: Whether to try a new formulation, far from the parent, and not a small change.
        library: What an agent may read; None where there is none.
        board: Where first plans are left for one another; None after the start.
    """

    generation: int
    slot: int
    island: int
    selection: Selection
    digest: Digest | None
    operators: OperatorStats | None
    open_tuner: Callable[[], Tuner] | None
    evaluations: int
    find_twin: Callable[[str], AttemptKey | None]
    objective_of: Callable[[AttemptKey], float | None]
    stall: StallLevel = StallLevel.NONE
    leap: bool = False
    library: Library | None = None
    board: PlanBoard | None = None
    parts: Mapping[str, Part] = field(default_factory=dict)
