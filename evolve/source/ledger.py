"""The ledger of lines: what adding or removing a line went with, over all committed attempts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from evolve.errors import ProblemError
from evolve.records import Status
from evolve.source import evolvable_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evolve.records import Attempt, AttemptKey, Direction, Program

_SHORTEST = 4


class LineChange(NamedTuple):
    """The lines that one program has and another has not, without indentation, in order."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


class Entry(NamedTuple):
    """One attempt that added or removed a line.

    Attributes:
        key: The attempt.
        is_added: Whether it added the line, or else removed it.
        gain: By how much it was better than its parent, below 0 where it was worse; None where
            it has no objective.
        lines: How many lines the attempt added and removed in all.
    """

    key: AttemptKey
    is_added: bool
    gain: float | None
    lines: int


@dataclass(frozen=True, slots=True)
class LineRecord:
    """What is known of a line.

    Attributes:
        line: Its text without indentation.
        added: Attempts that added it.
        removed: Attempts that removed it.
        failed: Of these, those without an objective.
        best: The largest gain that it came or went with, None where all failed.
        worst: The smallest gain.
    """

    line: str
    added: int
    removed: int
    failed: int
    best: float | None
    worst: float | None


@dataclass(slots=True)
class LineLedger:
    """Lines with the attempts that added or removed them; a fold over committed attempts.

    Args:
        direction: Whether larger or smaller objectives are better.
    """

    direction: Direction
    _entries: dict[str, list[Entry]] = field(default_factory=dict)

    def tell(self, attempt: Attempt, parent: Attempt) -> None:
        """Takes in an evaluated attempt; others teach nothing."""
        if (
            attempt.program is None
            or parent.program is None
            or attempt.evaluation.status is Status.REJECTED
        ):
            return
        change = diff_lines(parent.program, attempt.program)
        gain = None
        if attempt.objective is not None and parent.objective is not None:
            gain = self.direction.sign * (attempt.objective - parent.objective)
        lines = len(change.added) + len(change.removed)
        for is_added, texts in ((True, change.added), (False, change.removed)):
            for text in dict.fromkeys(texts):
                entry = Entry(attempt.key, is_added, gain, lines)
                self._entries.setdefault(text, []).append(entry)

    def history(self, line: str) -> Sequence[Entry]:
        """Gives the attempts that added or removed a line, in the order they were told."""
        return tuple(self._entries.get(" ".join(line.split()), ()))

    def look_up(self, line: str) -> LineRecord | None:
        """Gives what is known of a line; None where no attempt touched it."""
        entries = self.history(line)
        return _sum_up(" ".join(line.split()), entries) if entries else None

    def find_returning(self, parent: Program, child: Program) -> list[LineRecord]:
        """Gives the lines that a change brings back after an earlier attempt removed them."""
        added = dict.fromkeys(diff_lines(parent, child).added)
        found = [self.look_up(line) for line in added]
        return [record for record in found if record is not None and record.removed]

    def find_tried(self, program: Program) -> list[LineRecord]:
        """Gives the lines that a program has not, and that attempts added without any gain.

        The ones tried most often come first.
        """
        own = set(_lines_of(program))
        records = [_sum_up(line, found) for line, found in self._entries.items() if line not in own]
        useless = [one for one in records if one.added and (one.best is None or one.best <= 0.0)]
        return sorted(useless, key=lambda one: (-one.added, one.line))

    def find_gains(self, limit: int) -> list[LineRecord]:
        """Gives the lines that came or went with the largest gains, the largest first."""
        records = [_sum_up(line, found) for line, found in self._entries.items()]
        gained = [(one.best, one) for one in records if one.best is not None and one.best > 0.0]
        return [one for _, one in sorted(gained, key=lambda pair: (-pair[0], pair[1].line))[:limit]]


def build_ledger(attempts: Iterable[tuple[Attempt, Attempt]], direction: Direction) -> LineLedger:
    """Gives the ledger of pairs of an attempt and its parent, in order."""
    ledger = LineLedger(direction)
    for attempt, parent in attempts:
        ledger.tell(attempt, parent)
    return ledger


def diff_lines(parent: Program, child: Program) -> LineChange:
    """Gives the evolvable lines that come and go, however they are indented or moved.

    Lines that hardly say anything, such as `else:` and closing brackets, do not count.
    """
    before, after = _lines_of(parent), _lines_of(child)
    had, has = Counter(before), Counter(after)
    return LineChange(_take(after, has - had), _take(before, had - has))


def _take(lines: Sequence[str], wanted: Counter[str]) -> tuple[str, ...]:
    taken = []
    for line in lines:
        if wanted[line] > 0:
            wanted[line] -= 1
            taken.append(line)
    return tuple(taken)


def _lines_of(program: Program) -> list[str]:
    lines = []
    for file in program.files:
        try:
            text = evolvable_text(file.text)
        except ProblemError:
            text = file.text
        lines += [" ".join(line.split()) for line in text.splitlines()]
    return [line for line in lines if sum(map(str.isalnum, line)) > _SHORTEST]


def _sum_up(line: str, entries: Sequence[Entry]) -> LineRecord:
    gains = [entry.gain for entry in entries if entry.gain is not None]
    added = sum(entry.is_added for entry in entries)
    return LineRecord(
        line,
        added=added,
        removed=len(entries) - added,
        failed=len(entries) - len(gains),
        best=max(gains, default=None),
        worst=min(gains, default=None),
    )
