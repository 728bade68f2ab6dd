"""What success is worth: which program leads, what is progress, which alternative pays off."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from numpy.random import Generator

from evolve.records import VALIDATION, AttemptKey

# Slots that climb at most, and how sure it must be that climbing is better before many do.
_MOST_CLIMBING = 0.9
_CAUTION = 3
# A champion without a better child after so many times the usual wait has no more to give.
_PATIENCE = 1.5
# Parents are selected from the state of a few generations before; so long a former champion counts.
_FORMER = 3
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


def merit_of(objective: float, instances: Mapping[str, float]) -> Merit:
    """Returns what decides between an evaluated program and the champion."""
    if not instances:
        return Merit(objective)
    names = sorted(instances)
    kept = tuple(instances[name] for name in names if name.startswith(VALIDATION))
    fitted = tuple(instances[name] for name in names if not name.startswith(VALIDATION))
    return Merit(objective, fitted, kept)


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


class Credit:
    """Discounted counts of uses and rewards, from which choices are drawn; a fold over uses.

    Each count is discounted with every later use of any alternative (Raj & Kalyani 2017, Taming
    non-stationary bandits: A Bayesian approach). The reward rate of an alternative has a beta
    distribution, so that one with few uses is close to the prior.

    Args:
        decay: Factor of all counts at each use, from 0 to 1.
        prior_uses: Uses that each alternative starts with.
        prior_rewards: Rewards that each starts with; fewer than uses.
    """

    def __init__(
        self, *, decay: float, prior_uses: float = 2.0, prior_rewards: float = 1.0
    ) -> None:
        self._decay = decay
        self._prior = prior_uses, prior_rewards
        self._uses: dict[str, float] = {}
        self._rewards: dict[str, float] = {}

    def record(self, name: str, reward: float) -> None:
        """Adds a use of an alternative, with its reward from 0 to 1."""
        for counts in (self._uses, self._rewards):
            for other in counts:
                counts[other] *= self._decay
        self._uses[name] = self._uses.get(name, 0.0) + 1.0
        self._rewards[name] = self._rewards.get(name, 0.0) + reward

    def rate(self, name: str) -> float:
        """Returns the expected reward of a use."""
        uses, rewards = self._counts(name)
        return rewards / uses

    def variance(self, name: str) -> float:
        """Returns the variance of what is believed of the reward rate."""
        uses, rewards = self._counts(name)
        return rewards * (uses - rewards) / (uses * uses * (uses + 1.0))

    def sample_rate(self, name: str, rng: Generator) -> float:
        """Draws a reward rate from what is believed of it, for Thompson sampling."""
        uses, rewards = self._counts(name)
        return float(rng.beta(rewards, uses - rewards))

    def chances(self, names: Iterable[str], *, floor: float) -> Mapping[str, float]:
        """Returns chances in proportion to reward rates, by name; they add up to 1.

        Probability matching (Thierens 2005, An adaptive pursuit strategy for allocating operator
        probabilities).

        Args:
            names: The alternatives.
            floor: Probability that is shared evenly, so that none is given up.
        """
        rates = {name: self.rate(name) for name in names}
        total = sum(rates.values())
        return {
            name: floor / len(rates) + (1.0 - floor) * rate / total for name, rate in rates.items()
        }

    def _counts(self, name: str) -> tuple[float, float]:
        uses, rewards = self._prior
        return uses + self._uses.get(name, 0.0), rewards + self._rewards.get(name, 0.0)


class HillClimbing:
    """Compares how often children of the champion are new champions with how often others are.

    A fold over attempts. The more surely the champion's rate is the higher one, the more slots
    climb. Without evidence none do, and none once the champion has had fruitless children for
    longer than is usual: whatever deceives hill climbing, or stops it at a local optimum, ends it.
    """

    def __init__(self) -> None:
        self._credit = Credit(decay=0.995, prior_uses=20.0, prior_rewards=0.5)
        self._fruitless = 0
        self._champion: AttemptKey | None = None
        self._former: deque[AttemptKey] = deque(maxlen=_FORMER)

    def record(self, parent: AttemptKey, *, leads: bool) -> None:
        """Adds an evaluated attempt.

        Args:
            parent: The attempt it was made from.
            leads: Whether it is the new champion.
        """
        self._credit.record("champion" if parent in self._former else "others", float(leads))
        if leads:
            self._fruitless = 0
        elif parent == self._champion:
            self._fruitless += 1

    def end_generation(self, champion: AttemptKey) -> None:
        """Takes note of the champion after a generation."""
        self._champion = champion
        self._former.append(champion)

    @property
    def share(self) -> float:
        """Returns the share of slots that change the champion alone, from 0 to 0.9."""
        rate, other = self._credit.rate("champion"), self._credit.rate("others")
        if self._fruitless * rate > _PATIENCE:
            return 0.0
        variance = self._credit.variance("champion") + self._credit.variance("others")
        certainty = math.erf((rate - other) / math.sqrt(2.0 * variance))
        return _MOST_CLIMBING * max(0.0, certainty) ** _CAUTION
