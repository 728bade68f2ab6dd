"""What a run shows while it goes on, and how it came to its end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from evolve.errors import UsageError
from evolve.records import AttemptKey

if TYPE_CHECKING:
    from evolve.models.budget import Budget
    from evolve.population import Standing
    from evolve.search.loop import Observer
    from evolve.store import Store

_DETAIL = re.compile(r"\d+(\.\d+)?|'[^']*'|\"[^\"]*\"|`[^`]*`")
_LONGEST = 140
_ADVICE = (
    (
        re.compile(r"cut off"),
        "unset `models.max_tokens` or raise it, raise --max-cost, or lower `models.effort`",
    ),
    (
        re.compile(r"empty reply|content filter"),
        "try another model, or lower `models.effort`",
    ),
    (
        re.compile(r"too long"),
        "lower `models.digest_tokens`, or take a model with a larger context",
    ),
    (
        re.compile(r"refused the request"),
        "leave out what the provider refuses: `drop` in `endpoints`, see docs/models.md",
    ),
    (
        re.compile(r"no answer|cannot be used"),
        "try another model, or raise `models.request_seconds` and `models.deadline_seconds`",
    ),
    (
        re.compile(r"known|seen before|same program|duplicate"),
        "raise `models.temperature`, or take another model",
    ),
    (re.compile(r""), "try `--set steps.form=rewrite`, or a stronger model"),
)


class View(Protocol):
    """What a run shows people while it goes on."""

    def tell(self, line: str) -> None:
        """Shows one line."""

    def watch(
        self, *, title: str, generations: int, budget: Budget, initial: float
    ) -> AbstractContextManager[Observer]:
        """Shows progress while the context is open."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run, or this part of it, came to its end.

    Attributes:
        stopped_because: A word of `records.endings`: the end, or the cap that was reached.
        initial: Objective of the starting program.
        best: Objective of the champion.
        improved: Whether the champion is better than the starting program.
        champion: The best program's attempt.
        spent: What all of the run has used so far: evaluations, calls, tokens, money.
        seconds: How long all of the run has taken so far.
        rejections: How many attempts were rejected, by reason.
    """

    stopped_because: str
    initial: float
    best: float
    improved: bool
    champion: AttemptKey
    spent: Mapping[str, Any]
    seconds: float
    rejections: Mapping[str, int]


def read_outcome(store: Store, standing: Standing, stopped_because: str) -> Outcome:
    """Returns how a run ended.

    Raises:
        UsageError: The run has no checkpoint.
    """
    initial, champion = standing.initial, standing.champion
    if initial is None or champion is None:
        raise UsageError(f"{store.folder}: the run has no checkpoint")
    return Outcome(
        stopped_because,
        initial,
        champion.objective,
        standing.direction.is_better(champion.objective, initial),
        champion.key,
        store.spent(),
        store.seconds(),
        store.rejections(),
    )


def count_reasons(rejections: Mapping[str, int]) -> list[tuple[str, int]]:
    """Returns the reasons with their counts, the most frequent first.

    Reasons that differ only in numbers and names count as one, which the first of them shows.
    """
    counts: Counter[str] = Counter()
    shown: dict[str, str] = {}
    for reason, count in rejections.items():
        form = _DETAIL.sub("_", reason)
        counts[form] += count
        shown.setdefault(form, " ".join(reason.split()))
    return [(shown[form][:_LONGEST], count) for form, count in counts.most_common()]


def advise(reason: str) -> str:
    """Returns what to change where most attempts are rejected for a reason."""
    return next(advice for pattern, advice in _ADVICE if pattern.search(reason))
