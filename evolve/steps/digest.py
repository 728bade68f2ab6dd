"""What the steps of a generation are shown: frozen records of the run as it is committed."""

from __future__ import annotations

from dataclasses import dataclass

from evolve.problem import Reference
from evolve.records import Attempt, AttemptKey, Plan
from evolve.steps.memory import KnownLesson, TriedChange, TunedProgram


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Where the run stands.

    Attributes:
        generation: The generation that is about to begin.
        generations: The last one that the run may have.
        evaluations: Evaluations used so far.
        evaluations_left: `None` without a cap.
        cost_usd_left: US dollars that the cap on money leaves; `None` without a cap.
        start: Objective of the starting program; `None` while no program has one.
        champion: The best attempt so far.
        objective: Its objective; `None` while no program has one.
        islands: The best objective of each island.
        references: What it is compared with, by name.
    """

    generation: int
    generations: int
    evaluations: int
    start: float | None
    champion: AttemptKey
    objective: float | None
    evaluations_left: int | None = None
    cost_usd_left: float | None = None
    islands: tuple[float, ...] = ()
    references: tuple[tuple[str, Reference], ...] = ()


@dataclass(frozen=True, slots=True)
class Digest:
    """What the prompts of a generation show; the same for all of its slots.

    Attributes:
        status: Where the run stands.
        programs: Attempts whose programs are shown in full, the champion first.
        tried: What every committed slot tried, in order.
        tuned: What tuning brought, in order.
        lessons: Those that most deserve to be shown, the best first.
        pending: Plans of the generations in flight.
        tuning: Evaluations that tune constants in each generation; 0 for none.
        rewrites: Whether edits kept failing, so that whole programs are asked for.
        machine: What programs find in the sandbox, in words.
        modules: What they can import beside the standard library; empty when it is not known.
        hints: What people say about the search.
        pins: Programs that people want it to work on.
    """

    status: RunStatus
    programs: tuple[Attempt, ...]
    tried: tuple[TriedChange, ...] = ()
    tuned: tuple[TunedProgram, ...] = ()
    lessons: tuple[KnownLesson, ...] = ()
    pending: tuple[Plan, ...] = ()
    tuning: int = 0
    rewrites: bool = False
    machine: str = ""
    modules: frozenset[str] = frozenset()
    hints: tuple[str, ...] = ()
    pins: tuple[AttemptKey, ...] = ()

    def find(self, key: str) -> Attempt | None:
        """Returns the program that is shown under a key; `None` where there is none."""
        return next((one for one in self.programs if str(one.key) == key), None)


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of a slot among those of its generation that follow the same prompt.

    Attributes:
        number: From 0.
        count: How many there are.
        leap: Whether a new formulation is asked for, since the search has stalled.
    """

    number: int = 0
    count: int = 1
    leap: bool = False
