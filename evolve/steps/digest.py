"""What the steps of a generation are shown: frozen records of the run as it is committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evolve.problem import Reference
    from evolve.records import Attempt, AttemptKey, Plan, Status
    from evolve.steps.lessons import KnownLesson


@dataclass(frozen=True, slots=True)
class Trial:
    """What one slot tried and what came of it, in a line.

    Attributes:
        key: Its best attempt, or its last one where none has an objective.
        base: The attempt whose program it changed.
        change: The change, in the plan's words.
        tags: Those of the plan.
        objective: Of its best attempt; `None` where none has one.
        gain: On the base, positive is better; `None` without an objective.
        leads: Whether it was a new best objective of the run.
        seconds: Time in the sandbox.
        status: Of that attempt.
        reason: Why it has no objective.
    """

    key: AttemptKey
    base: AttemptKey
    change: str
    tags: tuple[str, ...]
    objective: float | None
    gain: float | None
    leads: bool
    seconds: float
    status: Status
    reason: str


@dataclass(frozen=True, slots=True)
class TuningRecord:
    """What the tuning of a program's constants brought.

    Attributes:
        key: The attempt whose program was tuned.
        samples: Evaluations so far.
        before: Its objective.
        best: The best objective of the samples; `None` where none has one.
        best_key: The attempt that has it.
    """

    key: AttemptKey
    samples: int
    before: float
    best: float | None = None
    best_key: AttemptKey | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the run stands.

    Attributes:
        generation: The generation that is about to begin.
        generations: The last one that the run may have.
        evaluations: Evaluations used so far.
        evaluations_left: `None` without a cap.
        cost_usd_left: US dollars that the cap on money leaves; `None` without a cap.
        start: Objective of the starting program.
        champion: The best attempt so far.
        objective: Its objective.
        islands: The best objective of each island.
        references: What it is compared with, by name.
    """

    generation: int
    generations: int
    evaluations: int
    start: float
    champion: AttemptKey
    objective: float
    evaluations_left: int | None = None
    cost_usd_left: float | None = None
    islands: tuple[float, ...] = ()
    references: tuple[tuple[str, Reference], ...] = ()


@dataclass(frozen=True, slots=True)
class Digest:
    """What the prompts of a generation show; the same for all of its slots.

    Attributes:
        standing: Where the run stands.
        programs: Attempts whose programs are shown in full, the champion first.
        trials: What every committed slot tried, in order.
        tuned: What tuning brought, in order.
        lessons: Those that most deserve to be shown, the best first.
        pending: Plans of the generations in flight.
        tuning: Evaluations that tune constants in each generation; 0 for none.
        rewrites: Whether edits kept failing, so that whole programs are asked for.
        machine: What programs find in the sandbox, in words.
        modules: What they can import beside the standard library; empty when it is not known.
    """

    standing: Standing
    programs: tuple[Attempt, ...]
    trials: tuple[Trial, ...] = ()
    tuned: tuple[TuningRecord, ...] = ()
    lessons: tuple[KnownLesson, ...] = ()
    pending: tuple[Plan, ...] = ()
    tuning: int = 0
    rewrites: bool = False
    machine: str = ""
    modules: frozenset[str] = frozenset()

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
