"""What a run has tried: a fold over committed slots, as planners are told it.

It follows from committed generations alone, so prompts do not depend on timing, and it can be
rebuilt from the store at any generation.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from evolve.records import BROKEN_EVALUATOR, Status
from evolve.steps.lessons import Lesson, LessonBook

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evolve.records import Ancestor, AttemptKey, Direction, Plan
    from evolve.records.results import SlotNote
    from evolve.source.ledger import LineRecord

_LONGEST = 200
# A model whose edits do not apply this often, among so many, is asked for whole programs.
_EDITS_WATCHED = 12
_EDITS_FAILED = 8
# Predictions weigh as much as this many that came half true.
_PRIOR = 4.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What one slot tried, in short.

    Attributes:
        change: The change, in the plan's words.
        gain: Best gain on the parent, positive is better; `None` without an objective.
        objective: The best objective it reached.
        status: Of its last attempt.
        reason: Why that has no objective.
        tags: Those of the plan.
    """

    change: str
    gain: float | None
    objective: float | None
    status: Status
    reason: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Idea:
    """What came of all that was tried under one tag.

    Attributes:
        tag: The tag; for operators their name.
        tried: Slots.
        gained: Slots that gained on their parent.
        failed: Slots without any objective.
        best: The trial with the highest gain.
        latest: The last trial.
    """

    tag: str
    tried: int = 0
    gained: int = 0
    failed: int = 0
    best: Trial | None = None
    latest: Trial | None = None

    def add(self, trial: Trial) -> Idea:
        """Gives the idea with one more trial."""
        gain = trial.gain
        old = None if self.best is None else self.best.gain
        leads = self.best is None or (gain is not None and (old is None or gain > old))
        return Idea(
            self.tag,
            self.tried + 1,
            self.gained + (gain is not None and gain > 0),
            self.failed + (gain is None),
            trial if leads else self.best,
            trial,
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """How much of the gains that plans predict comes true, in all and by tag.

    Attributes:
        share: Mean share of a predicted gain that was measured, from 0 to 1.
        predictions: How many were checked.
        by_tag: The same share for tags with predictions of their own.
    """

    share: float = 0.5
    predictions: int = 0
    by_tag: tuple[tuple[str, float], ...] = ()

    def expect(self, plan: Plan) -> float:
        """Gives the gain to expect of a plan; 0 where it predicts none."""
        if plan.predicted_gain is None:
            return 0.0
        known = dict(self.by_tag)
        shares = [known.get(tag, self.share) for tag in plan.tags] or [self.share]
        return plan.predicted_gain * sum(shares) / len(shares)


@dataclass(frozen=True, slots=True)
class Remaining:
    """What a run may still use, as of the generation that prompts follow from.

    Attributes:
        evaluations: Evaluations left; `None` without a cap.
        cost_usd: US dollars left; `None` without a cap.
    """

    evaluations: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Digest:
    """What a planner is told beside the parent and its inspirations.

    Attributes:
        ancestors: The parent's own line, nearest first; at most three.
        siblings: What was tried on the same parent, newest first.
        lines: Lines that changes of the parent and of its own line added without any gain.
        lessons: Those of the run that most deserve to be told.
        failing: Lessons that keep failing.
        ideas: The ledger: what came of each idea, those that gained first.
        failures: Ideas that were tried again and again and never gained.
        calibration: How far predictions come true.
        rewrites: Whether edits kept failing, so that whole programs are asked for.
        remaining: What may still be used.
        machine: What programs find in the sandbox, in words.
        modules: What they can import beside the standard library; empty when it is not known.
        generation: Number of this generation.
        generations: How many the run may have.
    """

    ancestors: tuple[Ancestor, ...] = ()
    siblings: tuple[Trial, ...] = ()
    lines: tuple[LineRecord, ...] = ()
    lessons: tuple[Lesson, ...] = ()
    failing: tuple[Lesson, ...] = ()
    ideas: tuple[Idea, ...] = ()
    failures: tuple[Idea, ...] = ()
    calibration: Calibration = field(default_factory=Calibration)
    rewrites: bool = False
    remaining: Remaining = field(default_factory=Remaining)
    machine: str = ""
    modules: frozenset[str] = frozenset()
    generation: int = 1
    generations: int = 1


class Memory:
    """Takes in committed slots, in order, and keeps what digests are made of.

    Args:
        direction: Whether a larger or a smaller objective is better.
        inherited: Lessons of another run.
    """

    def __init__(self, direction: Direction, inherited: Iterable[Lesson] = ()) -> None:
        self.book = LessonBook(inherited)
        self._direction = direction
        self._ideas: dict[str, Idea] = {}
        self._by_parent: defaultdict[AttemptKey, list[Trial]] = defaultdict(list)
        self._shares: defaultdict[str, float] = defaultdict(float)
        self._checked: Counter[str] = Counter()
        self._edits: defaultdict[str, deque[bool]] = defaultdict(
            partial(deque, maxlen=_EDITS_WATCHED)
        )
        self._rewriters: set[str] = set()
        self._last_editor = ""

    def tell(self, note: SlotNote) -> None:
        """Takes in one slot."""
        trial = _try_of(note, self._direction)
        gained = trial.gain is not None and trial.gain > 0
        self._by_parent[note.parent].append(trial)
        for tag in trial.tags:
            self._ideas[tag] = self._ideas.get(tag, Idea(tag)).add(trial)
        self._check_prediction(note.plan, trial)
        self._watch_edits(note)
        self.book.follow(note.plan.lessons, note.generation, gained=gained)
        if note.summary is not None:
            self.book.teach(note.generation, note.slot, note.summary, gained=gained)

    def siblings(self, parent: AttemptKey, limit: int) -> tuple[Trial, ...]:
        """Gives what was tried on a parent, newest first."""
        return tuple(self._by_parent.get(parent, ())[: -limit - 1 : -1])

    def ideas(self, limit: int) -> tuple[Idea, ...]:
        """Gives what came of ideas: those that gained by their best gain, then the most tried."""
        ranked = sorted(self._ideas.values(), key=_rank_idea)
        return tuple(ranked[:limit])

    def failures(self, limit: int) -> tuple[Idea, ...]:
        """Gives the ideas that never gained, the most tried first."""
        found = [idea for idea in self._ideas.values() if not idea.gained]
        return tuple(sorted(found, key=lambda idea: (-idea.tried, idea.tag))[:limit])

    def calibration(self) -> Calibration:
        """Gives how far predictions came true so far."""
        share = _shrink(self._shares[""], self._checked[""], 0.5)
        tags = sorted(tag for tag in self._checked if tag)
        by_tag = tuple((tag, _shrink(self._shares[tag], self._checked[tag], share)) for tag in tags)
        return Calibration(share, self._checked[""], by_tag)

    def prefers_rewrites(self) -> bool:
        """Tells whether the edits of the last editor kept failing, so that it shall rewrite."""
        return self._last_editor in self._rewriters

    def _check_prediction(self, plan: Plan, trial: Trial) -> None:
        predicted = plan.predicted_gain
        if predicted is None or predicted <= 0:
            return
        share = 0.0 if trial.gain is None else min(1.0, max(0.0, trial.gain / predicted))
        for tag in ("", *plan.tags):
            self._shares[tag] += share
            self._checked[tag] += 1

    def _watch_edits(self, note: SlotNote) -> None:
        for model in dict.fromkeys(note.editors):
            self._last_editor = model
            watched = self._edits[model]
            watched.extend([False] * note.unapplied)
            watched.extend([True] * (note.attempts - note.unapplied))
            if watched.count(False) >= _EDITS_FAILED:
                self._rewriters.add(model)


def _try_of(note: SlotNote, direction: Direction) -> Trial:
    sign = direction.sign
    best = max(note.objectives, key=lambda objective: sign * objective, default=None)
    gain = None if best is None or note.before is None else sign * (best - note.before)
    tags = (note.plan.operator,) if note.plan.operator else note.plan.tags
    reason = BROKEN_EVALUATOR if note.status is Status.EVALUATOR_FAILED else note.reason
    return Trial(note.plan.change[:_LONGEST], gain, best, note.status, reason[:_LONGEST], tags)


def _rank_idea(idea: Idea) -> tuple[float, int, str]:
    gain = idea.best.gain if idea.gained and idea.best is not None else None
    return (-(gain or 0.0), -idea.tried, idea.tag)


def _shrink(total: float, count: float, prior: float) -> float:
    return (total + _PRIOR * prior) / (count + _PRIOR)


def merge_notes(
    direction: Direction, notes: Sequence[SlotNote], inherited: Iterable[Lesson] = ()
) -> tuple[Lesson, ...]:
    """Gives the lessons of a run, the most worth telling first, those that keep failing last."""
    memory = Memory(direction, inherited)
    for note in notes:
        memory.tell(note)
    newest = max((note.generation for note in notes), default=0)
    lessons = memory.book.lessons
    return tuple(sorted(lessons, key=lambda lesson: (lesson.keeps_failing, -lesson.worth(newest))))


def take_over(lessons: Sequence[Lesson], origin: str) -> tuple[Lesson, ...]:
    """Gives the lessons of one run as another starts with them."""
    return tuple(
        replace(lesson, id=f"0.{number}", newest=0, origin=lesson.origin or origin)
        for number, lesson in enumerate(lessons)
    )
