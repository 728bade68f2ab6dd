"""What a run has tried: a fold over committed slots, as prompts show it.

It follows from committed generations alone, so prompts do not depend on timing, and it can be
rebuilt from the store at any generation.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import replace
from typing import TYPE_CHECKING

from evolve.archive.progress import is_progress
from evolve.records import BROKEN_EVALUATOR, TUNE, Status
from evolve.steps.digest import Trial, TuningRecord
from evolve.steps.lessons import KnownLesson, LessonBook

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evolve.records import AttemptKey, Direction, Summary
    from evolve.records.results import SlotNote

_LONGEST_REASON = 200
# A model whose edits do not apply this often, among so many, is asked for whole programs.
_EDITS_WATCHED = 12
_EDITS_FAILED = 8


class Memory:
    """Collects committed slots, in order, and keeps what prompts show of them.

    Args:
        direction: Whether a larger or a smaller objective is better.
        inherited: Lessons of another run.
    """

    def __init__(self, direction: Direction, inherited: Iterable[KnownLesson] = ()) -> None:
        self.book = LessonBook(inherited)
        self._direction = direction
        self._trials: list[Trial] = []
        self._tuned: dict[AttemptKey, TuningRecord] = {}
        # With the sign that makes larger better: the best objective, and the first one's base.
        self._best: float | None = None
        self._first = 0.0
        self._edits: defaultdict[str, deque[bool]] = defaultdict(
            lambda: deque(maxlen=_EDITS_WATCHED)
        )
        self._rewriters: set[str] = set()
        self._last_editor = ""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """What every slot tried, in order."""
        return tuple(self._trials)

    @property
    def tuned(self) -> tuple[TuningRecord, ...]:
        """What tuning brought, program by program in the order in which it began."""
        return tuple(self._tuned.values())

    @property
    def prefers_rewrites(self) -> bool:
        """Whether the edits of the last editor kept failing, so that it shall rewrite."""
        return self._last_editor in self._rewriters

    def add_slot(self, note: SlotNote) -> None:
        """Adds a slot."""
        sign, objective = self._direction.sign, note.objective
        leads = objective is not None and self._leads(sign * objective, note.before)
        if note.plan.operator == TUNE:
            self._add_samples(note)
            return
        gain = None
        if objective is not None and note.before is not None:
            gain = sign * (objective - note.before)
        is_broken = note.status is Status.EVALUATOR_FAILED
        self._trials.append(
            Trial(
                key=note.key,
                base=note.parent,
                change=note.plan.change,
                tags=note.plan.tags,
                objective=objective,
                gain=gain,
                leads=leads,
                seconds=note.seconds,
                status=note.status,
                reason=BROKEN_EVALUATOR if is_broken else note.reason[:_LONGEST_REASON],
            )
        )
        self._watch_edits(note)
        self.book.follow(note.plan.lessons, note.generation, paid=leads)

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
        record = self._tuned.get(note.parent) or TuningRecord(note.parent, 0, before)
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
