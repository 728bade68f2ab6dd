"""What a run has tried: a fold over committed slots, as prompts show it.

It follows from committed generations alone, so prompts do not depend on timing, and it can be
rebuilt from the store at any generation.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from evolve.archive.credit import is_progress
from evolve.records import BROKEN_EVALUATOR, RESCORE, TUNE, AttemptKey, Direction, Status, Summary
from evolve.records.results import EDITORS, LightAttempt, SlotNote
from evolve.steps.lessons import KnownLesson, LessonBook

# A model whose edits do not apply this often, among so many, is asked for whole programs.
_EDITS_WATCHED = 12
_EDITS_FAILED = 8


class TriedChange(NamedTuple):
    """What one slot tried and what came of it.

    Attributes:
        note: The slot.
        gain: On the parent, positive is better; `None` without an objective.
        leads: Whether it was a new best objective of the run.
    """

    note: SlotNote
    gain: float | None
    leads: bool


@dataclass(frozen=True, slots=True)
class TunedProgram:
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


class Memory:
    """Collects committed attempts, in order, and keeps what prompts show of their slots.

    Args:
        direction: Whether a larger or a smaller objective is better.
        inherited: Lessons of another run.
    """

    def __init__(self, direction: Direction, inherited: Iterable[KnownLesson] = ()) -> None:
        self.book = LessonBook(inherited)
        self._direction = direction
        self._objectives: dict[AttemptKey, float | None] = {}
        self._tried: list[TriedChange] = []
        self._tuned: dict[AttemptKey, TunedProgram] = {}
        # With the sign that makes larger better: the best objective, and the first one's base.
        self._best: float | None = None
        self._first = 0.0
        self._edits: defaultdict[str, deque[bool]] = defaultdict(
            lambda: deque(maxlen=_EDITS_WATCHED)
        )
        self._rescored = -1
        self._rewriters: set[str] = set()
        self._last_editor = ""

    @property
    def tried(self) -> tuple[TriedChange, ...]:
        """What every slot tried, in order."""
        return tuple(self._tried)

    @property
    def tuned(self) -> tuple[TunedProgram, ...]:
        """What tuning brought, program by program in the order in which it began."""
        return tuple(self._tuned.values())

    @property
    def prefers_rewrites(self) -> bool:
        """Whether the edits of the last editor kept failing, so that it shall rewrite."""
        return self._last_editor in self._rewriters

    def add(self, attempts: Iterable[LightAttempt]) -> None:
        """Adds the attempts of generations, in order."""
        for _, group in groupby(attempts, key=lambda one: one.key[:2]):
            slot = list(group)
            scored = [one for one in slot if one.objective is not None]
            self._objectives.update((one.key, one.objective) for one in scored)
            made = [one for one in slot if one.plan is not None and one.parent is not None]
            if made:
                self.add_slot(self._note(made))

    def _note(self, slot: Sequence[LightAttempt]) -> SlotNote:
        """Returns what came of a slot whose attempts have plans and parents."""
        sign = self._direction.sign
        scored = [one for one in slot if one.objective is not None]
        best = max(scored, key=lambda one: sign * (one.objective or 0.0)) if scored else slot[-1]
        if best.plan is None or best.parent is None:
            raise ValueError(f"attempt {best.key}: expected a plan and a parent, got none")
        return SlotNote(
            generation=best.key.generation,
            slot=best.key.slot,
            key=best.key,
            parent=best.parent,
            plan=best.plan,
            before=self._objectives.get(best.parent),
            objective=best.objective,
            seconds=best.seconds,
            attempts=len(slot),
            unapplied=sum(one.program_id is None for one in slot),
            status=best.status,
            reason=best.reason,
            editors=tuple(use.model for use in best.uses if use.role in EDITORS),
        )

    def add_slot(self, note: SlotNote) -> None:
        """Adds a slot."""
        if note.plan.operator == RESCORE and note.generation != self._rescored:
            # What another evaluator said does not compare.
            self._rescored = note.generation
            self._tried, self._tuned, self._best = [], {}, None
        sign, objective = self._direction.sign, note.objective
        leads = objective is not None and self._leads(sign * objective, note.before)
        if note.plan.operator == TUNE:
            self._add_samples(note)
            return
        gain = None
        if note.plan.operator != RESCORE and objective is not None and note.before is not None:
            gain = sign * (objective - note.before)
        if note.status is Status.EVALUATOR_FAILED:
            note = note._replace(reason=BROKEN_EVALUATOR)
        self._tried.append(TriedChange(note, gain, leads))
        self._watch_edits(note)
        self.book.follow(note.plan.lessons, note.generation, leads=leads)

    def add_summary(self, generation: int, summary: Summary) -> None:
        """Adds what a generation taught."""
        self.book.drop(summary.outdated)
        for number, lesson in enumerate(summary.lessons):
            self.book.teach(generation, number, lesson)

    def _leads(self, utility: float, before: float | None) -> bool:
        """Returns whether an objective is a new best, by more than rounding."""
        if self._best is None:
            self._first = self._direction.sign * before if before is not None else utility
            self._best = self._first
        if not is_progress(utility - self._best, self._best - self._first):
            return False
        self._best = utility
        return True

    def _add_samples(self, note: SlotNote) -> None:
        before = 0.0 if note.before is None else note.before
        record = self._tuned.get(note.parent) or TunedProgram(note.parent, 0, before)
        record = replace(record, samples=record.samples + note.attempts)
        found = note.objective
        if found is not None and (
            record.best is None or self._direction.is_better(found, record.best)
        ):
            record = replace(record, best=found, best_key=note.key)
        self._tuned[note.parent] = record

    def _watch_edits(self, note: SlotNote) -> None:
        for model in dict.fromkeys(note.editors):
            self._last_editor = model
            watched = self._edits[model]
            watched.extend([False] * note.unapplied)
            watched.extend([True] * (note.attempts - note.unapplied))
            if watched.count(False) >= _EDITS_FAILED:
                self._rewriters.add(model)
