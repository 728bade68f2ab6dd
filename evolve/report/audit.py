"""What in a run deserves a second look before its champion is believed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from evolve.display import TextTable, one_line, show_number
from evolve.problem import Problem, Purpose
from evolve.records import INITIAL, VALIDATION, Attempt, AttemptKey, Evaluation, Program
from evolve.records.results import LightAttempt
from evolve.report.history import AttemptRow
from evolve.search.population import Population
from evolve.source.analysis import find_suspicions
from evolve.store import Store

# A new best with so much of all that was gained is a jump.
_JUMP = 0.25
_MOST_JUMPS = 8
_MOST_SIGNS = 12
_Evaluate = Callable[[Program], Evaluation]
BOUND, HELD_OUT, SOURCE, LUCK = "bound", "hold-out", "source", "luck"


class Finding(NamedTuple):
    """Something to look at.

    Attributes:
        check: Which check found it.
        attempt: Of which attempt.
        text: What was found.
    """

    check: str
    attempt: AttemptKey
    text: str


class Share(NamedTuple):
    """What one maker of programs brought.

    Attributes:
        by: A model, an operator, tuning, or the user.
        attempts: How many attempts.
        new_bests: How many of them were better than all before.
        gain: What these gained on the bests before, together.
        share_of_attempts: Of all attempts.
        share_of_gain: Of the gains of all.
    """

    by: str
    attempts: int
    new_bests: int
    gain: float
    share_of_attempts: float
    share_of_gain: float


class Audit(NamedTuple):
    """What an audit found.

    Attributes:
        checks: What was looked at, by check, in words.
        findings: What deserves a second look.
        shares: What each maker brought, the largest gain first.
    """

    checks: Mapping[str, str]
    findings: Sequence[Finding]
    shares: Sequence[Share]

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {
            "checks": dict(self.checks),
            "findings": [one._asdict() | {"attempt": str(one.attempt)} for one in self.findings],
            "shares": [one._asdict() for one in self.shares],
        }

    def tables(self) -> tuple[TextTable, TextTable, TextTable]:
        """Returns what was looked at, what was found, and who brought it, for people."""
        counts = Counter(one.check for one in self.findings)
        checks = [(name, counts[name], text) for name, text in self.checks.items()]
        findings = [(one.check, str(one.attempt), one_line(one.text)) for one in self.findings]
        shares = [
            (by, attempts, f"{share:.0%}", bests, f"{gain:+.4g}", f"{part:.0%}")
            for by, attempts, bests, gain, share, part in self.shares
        ]
        return (
            TextTable(("check", "findings", "what was looked at"), checks),
            TextTable(("check", "attempt", "finding"), findings),
            TextTable(("by", "attempts", "share", "new bests", "gain", "share of gain"), shares),
        )


def audit_run(
    store: Store,
    problem: Problem,
    state: Population,
    rows: Sequence[AttemptRow],
    hold_out: _Evaluate | None = None,
) -> Audit:
    """Looks at what most often makes a champion worth less than its objective.

    Args:
        store: The run.
        problem: Its problem.
        state: What it has reached.
        rows: All of its committed attempts.
        hold_out: Evaluates a program on the hold-out; None to use the verdicts that there are.

    Raises:
        StoreError: The database cannot be read.
    """
    leads = [row.attempt for row in rows if row.leads]
    gains = {
        new.key: problem.direction.gain(new.objective or 0.0, old.objective or 0.0)
        for old, new in itertools.pairwise(leads)
    }
    total = sum(gains.values())
    jumps = [key for key, gain in gains.items() if total > 0 and gain >= _JUMP * total]
    champion = [state.champion.key] if state.champion else []
    chosen = dict.fromkeys([*jumps[-_MOST_JUMPS:], *champion])
    auditor = _Auditor(store, problem, leads, [store.load_attempt(key) for key in chosen])
    checks = {
        BOUND: auditor.check_bounds(),
        HELD_OUT: auditor.check_hold_out(hold_out),
        SOURCE: auditor.check_source(),
        LUCK: auditor.check_luck(gains, store.load_attempt(champion[0]) if champion else None),
    }
    return Audit(checks, auditor.findings, _share_out(rows, gains))


def _share_out(rows: Sequence[AttemptRow], gains: Mapping[AttemptKey, float]) -> list[Share]:
    made: dict[str, list[AttemptRow]] = {}
    for row in rows:
        if row.attempt.key != INITIAL:
            made.setdefault(row.source, []).append(row)
    count, total = max(len(rows) - 1, 1), sum(gains.values())
    shares = []
    for by, own in made.items():
        gain = sum(gains.get(row.attempt.key, 0.0) for row in own)
        bests = sum(row.leads for row in own)
        share = gain / total if total > 0 else 0.0
        shares.append(Share(by, len(own), bests, gain, len(own) / count, share))
    return sorted(shares, key=lambda one: (-one.gain, one.by))


class _Auditor:
    """Looks at a run, check by check; each returns what it looked at.

    Args:
        store: The run.
        problem: Its problem.
        leads: The new bests, in order.
        shown: The attempts to look at: jumps of the objective, and the champion.
    """

    def __init__(
        self,
        store: Store,
        problem: Problem,
        leads: Sequence[LightAttempt],
        shown: Sequence[Attempt],
    ) -> None:
        self.findings: list[Finding] = []
        self._store, self._problem = store, problem
        self._leads, self._shown = leads, shown

    def check_bounds(self) -> str:
        """Looks for objectives that cannot be, or that nobody has reached."""
        problem, is_better = self._problem, self._problem.direction.is_better
        named = (("bound", problem.bound), ("best known value", problem.best_known))
        known = {name: one.value for name, one in named if one is not None}
        for name, value in known.items():
            for lead in self._leads:
                if lead.objective is not None and is_better(lead.objective, value):
                    impossible = ", which nothing can be" if name == "bound" else ""
                    text = f"objective {show_number(lead.objective)} is better than the {name} "
                    text += f"{show_number(value)}{impossible}; later bests are, too"
                    self.findings.append(Finding(BOUND, lead.key, text))
                    break
        listed = ", ".join(f"{name} {show_number(value)}" for name, value in known.items())
        return f"new bests against {listed}" if known else "the problem declares no bound"

    def check_hold_out(self, evaluate: _Evaluate | None) -> str:
        """Looks for gains on the objective that are none on data that the search never saw."""
        before = {new.key: old.key for old, new in itertools.pairwise(self._leads)}
        verdicts, compared = self._store.holdout(), 0
        for attempt in self._shown:
            # The hold-out of a run has the champion and the start alone.
            for base in dict.fromkeys((before.get(attempt.key, INITIAL), INITIAL)):
                pair = attempt, self._store.load_attempt(base)
                known = list(self._compare_held_out(*pair, verdicts, evaluate))
                for gain, held_out, where in known:
                    if gain > 0.0 >= held_out:
                        text = f"gains {gain:.4g} on the objective of {base} and {held_out:.4g} on "
                        self.findings.append(Finding(HELD_OUT, attempt.key, text + where))
                if known:
                    compared += 1
                    break
        if compared:
            return f"{compared} of {len(self._shown)} jumps and champions on data not searched on"
        if Purpose.HOLDOUT in self._problem.functions:
            return "nothing was evaluated on the hold-out; `--evaluate` does"
        return "the problem has neither a hold-out nor validation instances"

    def _compare_held_out(
        self,
        new: Attempt,
        old: Attempt,
        verdicts: dict[str, Evaluation],
        evaluate: _Evaluate | None,
    ) -> Iterator[tuple[float, float, str]]:
        """Yields the gains on the objective and on other data, and which, as far as known."""

        def score(attempt: Attempt) -> float | None:
            program = attempt.program_or_fail
            if program.id not in verdicts and evaluate is not None:
                verdicts[program.id] = evaluate(program)
            verdict = verdicts.get(program.id)
            return None if verdict is None else verdict.objective

        direction = self._problem.direction
        if new.key == old.key or new.objective is None or old.objective is None:
            return
        gain = direction.gain(new.objective, old.objective)
        for where, find in (("the hold-out", score), ("validation instances", _validate)):
            ours, theirs = find(new), find(old)
            if ours is not None and theirs is not None:
                yield gain, direction.gain(ours, theirs), where

    def check_source(self) -> str:
        """Looks for code that answers the test and not the question."""
        found, start = 0, self._store.load_attempt(INITIAL).program_or_fail
        for attempt in reversed(self._shown):
            signs = find_suspicions(attempt.program_or_fail, start)
            for sign in signs[: max(0, _MOST_SIGNS - found)]:
                text = f"{sign.kind}: {sign.path}:{sign.line}: {sign.code}"
                self.findings.append(Finding(SOURCE, attempt.key, text))
            found += len(signs)
        if not any(path.endswith(".py") for path, _ in self._problem.initial.files):
            return "not Python: read it"
        more = f", {found - _MOST_SIGNS} more not listed" if found > _MOST_SIGNS else ""
        return f"{len(self._shown)} jumps and champions against the starting program{more}"

    def check_luck(self, gains: Mapping[AttemptKey, float], champion: Attempt | None) -> str:
        """Looks for new bests that the noise may have made."""
        noise = self._problem.noise
        repeats = () if champion is None else champion.evaluation.repeats
        if not noise and len(repeats) < 2:
            return "no noise is declared, and nothing was evaluated twice"
        small = [key for key, gain in gains.items() if gain <= noise]
        if champion is not None and champion.key in small:
            text = "the champion is better than the best before it by no more than the noise "
            self.findings.append(Finding(LUCK, champion.key, f"{text}{noise:.3g}"))
        luck = ""
        if len(repeats) > 1:
            first = self._problem.direction.gain(repeats[0], fmean(repeats))
            luck = f"; the champion's first evaluation was {first:+.3g} from the mean of "
            luck += f"{len(repeats)}"
        return f"{len(small)} of {len(gains)} new bests gained no more than the noise{luck}"


def _validate(attempt: Attempt) -> float | None:
    """Returns the mean over validation instances; None where there are none."""
    instances = attempt.evaluation.instances
    values = [value for name, value in instances.items() if name.startswith(VALIDATION)]
    return fmean(values) if values else None
