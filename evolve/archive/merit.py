"""Which program is the champion, and what counts as progress: more than luck and rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

# Standard errors of the difference by which a new champion must be better on the instances.
_STANDARD_ERRORS = 1.0
# Gains below this share of all that was gained so far are rounding, not progress.
_LEAST_SHARE = 1e-6


class Merit(NamedTuple):
    """What decides between a program and the champion.

    Attributes:
        objective: In the problem's units.
        instances: Objectives of the instances that the objective is the mean of.
        validation: Objectives of instances that the objective leaves out.
    """

    objective: float
    instances: tuple[float, ...] = ()
    validation: tuple[float, ...] = ()


def outranks(sign: float, new: Merit, old: Merit, noise: float) -> bool:
    """Returns whether a program is better than the champion by more than luck explains.

    Where both have objectives on the same instances, those are compared pair by pair, for
    instances differ much more than programs do: all together it must be better by more than the
    standard error, and on validation instances, which nothing was fitted to, not worse. Else the
    objective must be better by more than the noise that the problem declares.

    Args:
        sign: +1 when larger objectives are better, -1 when smaller ones are.
        new: Of the program.
        old: Of the champion.
        noise: How far two objectives of one program may lie apart.
    """
    ours, theirs = ([*one.instances, *one.validation] for one in (new, old))
    if len(ours) < 2 or len(ours) != len(theirs):
        return sign * (new.objective - old.objective) > noise
    if sign * (math.fsum(new.validation) - math.fsum(old.validation)) < 0.0:
        return False
    gain, error = paired_gain(sign, ours, theirs)
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
