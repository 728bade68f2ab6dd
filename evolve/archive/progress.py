"""Which program is the champion, and what counts as progress: more than luck and rounding."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# A new champion must be better on the instances by so many standard errors of the difference.
_STANDARD_ERRORS = 1.0
# Gains below this share of all that was gained so far are rounding, not progress.
_LEAST_SHARE = 1e-6


def outranks(
    sign: float,
    new: tuple[float, Sequence[float]],
    old: tuple[float, Sequence[float]],
    noise: float,
) -> bool:
    """Returns whether a program is better than the champion by more than luck explains.

    Where both have objectives on the same instances, those are compared pair by pair, validation
    instances included: instances differ much more than programs do. Else the objective must be
    better by more than the noise that the problem declares.

    Args:
        sign: +1 when larger objectives are better, -1 when smaller ones are.
        new: Objective and objectives by instance of the program.
        old: The same of the champion.
        noise: How far two objectives of one program may lie apart.
    """
    if len(new[1]) < 2 or len(new[1]) != len(old[1]):
        return sign * (new[0] - old[0]) > noise
    gain, error = paired_gain(sign, new[1], old[1])
    return gain > _STANDARD_ERRORS * error


def paired_gain(sign: float, new: Sequence[float], old: Sequence[float]) -> tuple[float, float]:
    """Returns the mean gain over instances, and its standard error.

    Args:
        sign: +1 when larger objectives are better, -1 when smaller ones are.
        new: Objectives of one program by instance, at least 2.
        old: Those of the other one, in the same order.
    """
    gains = [sign * (one - other) for one, other in zip(new, old, strict=True)]
    mean = math.fsum(gains) / len(gains)
    variance = math.fsum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1)
    return mean, math.sqrt(variance / len(gains))


def is_progress(gain: float, gained: float) -> bool:
    """Returns whether a gain on the champion counts.

    Args:
        gain: Of the new champion on the old one, positive is better.
        gained: Of the old champion on the starting program.
    """
    return gain > _LEAST_SHARE * max(gained, 0.0)
