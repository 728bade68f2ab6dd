"""Why attempts were rejected: grouped, counted, and what to change."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

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
