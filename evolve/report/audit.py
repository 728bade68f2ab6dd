"""What in a run deserves a second look before its champion is believed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from evolve.display import TextTable, one_line, show_number
from evolve.population import RunState
from evolve.problem import Problem, Purpose
from evolve.records import INITIAL, VALIDATION, Attempt, AttemptKey, Evaluation, Program
from evolve.report.attempt_details import describe_source
from evolve.report.timeline import AttemptRow
from evolve.source.suspicions import find_suspicions
from evolve.store import Store

# A new best with so much of all that was gained is a jump.
_JUMP = 0.25
_MOST_JUMPS = 8
_MOST_SIGNS = 12
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
    """

    by: str
    attempts: int
    new_bests: int
    gain: float


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes:
        checks: What was looked at, by check, in words.
        findings: What deserves a second look.
        shares: What each maker brought, the largest gain first.
    """

    checks: Mapping[str, str]
    findings: tuple[Finding, ...]
    shares: tuple[Share, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        attempts = sum(one.attempts for one in self.shares)
        gain = sum(one.gain for one in self.shares)
        return {
            "checks": dict(self.checks),
            "findings": [one._asdict() | {"attempt": str(one.attempt)} for one in self.findings],
            "shares": [
                {
                    **one._asdict(),
                    "share_of_attempts": one.attempts / max(attempts, 1),
                    "share_of_gain": one.gain / gain if gain > 0 else 0.0,
                }
                for one in self.shares
            ],
        }

    def tables(self) -> tuple[TextTable, TextTable, TextTable]:
        """Returns what was looked at, what was found, and who brought it, for people."""
        data = self.as_dict()
        counts = {name: sum(one.check == name for one in self.findings) for name in self.checks}
        return (
            TextTable(
                ("check", "findings", "what was looked at"),
                [(name, counts[name], text) for name, text in self.checks.items()],
            ),
            TextTable(
                ("check", "attempt", "finding"),
                [(one.check, str(one.attempt), one_line(one.text)) for one in self.findings],
            ),
            TextTable(
                ("by", "attempts", "share", "new bests", "gain", "share of gain"),
                [
                    (
                        one["by"], one["attempts"], f"{one['share_of_attempts']:.0%}",
                        one["new_bests"], f"{one['gain']:+.4g}", f"{one['share_of_gain']:.0%}",
                    )
                    for one in data["shares"]
                ],
            ),
        )  # fmt: skip


def audit_run(
    store: Store,
    problem: Problem,
    state: RunState,
    rows: Sequence[AttemptRow],
    hold_out: Callable[[Program], Evaluation] | None = None,
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
    leads = [row for row in rows if row.leads]
    chosen = [*_list_jumps(leads, state), *([state.champion.key] if state.champion else [])]
    shown = [store.load_attempt(key) for key in dict.fromkeys(chosen)]
    auditor = _Auditor(store, problem, state, hold_out)
    checks = {
        BOUND: auditor.check_bounds(leads),
        HELD_OUT: auditor.check_hold_out(leads, shown),
        SOURCE: auditor.check_source(shown),
        LUCK: auditor.check_luck(leads),
    }
    return Audit(checks, tuple(auditor.findings), _share_out(rows, state))


def _list_jumps(leads: Sequence[AttemptRow], state: RunState) -> list[AttemptKey]:
    """Returns the new bests that brought much of all that was gained, in order."""
    gains = dict(_step_gains(leads, state))
    total = sum(gains.values())
    large = [key for key, gain in gains.items() if total > 0 and gain >= _JUMP * total]
    return large[-_MOST_JUMPS:]


def _step_gains(leads: Sequence[AttemptRow], state: RunState) -> list[tuple[AttemptKey, float]]:
    """Returns what each new best gained on the one before; the first has none before it."""
    pairs = itertools.pairwise(leads)
    return [
        (new.key, state.direction.gain(new.objective or 0.0, old.objective or 0.0))
        for old, new in pairs
    ]


def _share_out(rows: Sequence[AttemptRow], state: RunState) -> tuple[Share, ...]:
    gains = dict(_step_gains([row for row in rows if row.leads], state))
    shares: dict[str, Share] = {}
    for row in rows:
        if row.key == INITIAL:
            continue
        by = describe_source(row.operator, row.model)
        old, gain = shares.get(by, Share(by, 0, 0, 0.0)), gains.get(row.key, 0.0)
        shares[by] = Share(by, old.attempts + 1, old.new_bests + row.leads, old.gain + gain)
    return tuple(sorted(shares.values(), key=lambda one: (-one.gain, one.by)))


class _Auditor:
    """Looks at a run, check by check.

    Args:
        store: The run.
        problem: Its problem.
        state: What it has reached.
        hold_out: Evaluates a program on the hold-out; None to use the verdicts that there are.
    """

    def __init__(
        self,
        store: Store,
        problem: Problem,
        state: RunState,
        hold_out: Callable[[Program], Evaluation] | None,
    ) -> None:
        self.findings: list[Finding] = []
        self._store, self._problem, self._state = store, problem, state
        self._hold_out = hold_out
        self._verdicts = store.holdout()
        self._start = store.load_attempt(INITIAL)

    def _find(self, check: str, attempt: AttemptKey, text: str) -> None:
        self.findings.append(Finding(check, attempt, text))

    def check_bounds(self, leads: Sequence[AttemptRow]) -> str:
        """Looks for objectives that cannot be, or that nobody has reached."""
        problem, is_better = self._problem, self._problem.direction.is_better
        named = (("bound", problem.bound), ("best known value", problem.best_known))
        known = [(name, one) for name, one in named if one is not None]
        for name, reference in known:
            beyond = [
                row
                for row in leads
                if row.objective is not None and is_better(row.objective, reference.value)
            ]
            if beyond:
                row = beyond[0]
                impossible = ", which nothing can be" if name == "bound" else ""
                self._find(
                    BOUND, row.key,
                    f"objective {show_number(row.objective)} is better than the {name} "
                    f"{show_number(reference.value)}{impossible}; later bests are, too",
                )  # fmt: skip
        listed = ", ".join(f"{name} {show_number(one.value)}" for name, one in known)
        return f"new bests against {listed}" if known else "the problem declares no bound"

    def check_hold_out(self, leads: Sequence[AttemptRow], shown: Sequence[Attempt]) -> str:
        """Looks for gains on the objective that are none on data that the search never saw."""
        before = {new.key: old.key for old, new in itertools.pairwise(leads)}
        compared = 0
        for attempt in shown:
            old = self._store.load_attempt(before.get(attempt.key, INITIAL))
            # The hold-out of a run has the champion and the start alone.
            for base in dict.fromkeys((old.key, INITIAL)):
                known = self._compare_held_out(attempt, self._store.load_attempt(base))
                if known is None:
                    continue
                compared += 1
                gain, held_out, where = known
                if gain > 0.0 >= held_out:
                    self._find(
                        HELD_OUT, attempt.key,
                        f"gains {gain:.4g} on the objective of {base} and {held_out:.4g} on "
                        f"{where}",
                    )  # fmt: skip
                break
        if compared:
            return f"{compared} of {len(shown)} jumps and champions on data not searched on"
        if Purpose.HOLDOUT in self._problem.functions:
            return "nothing was evaluated on the hold-out; `--evaluate` does"
        return "the problem has neither a hold-out nor validation instances"

    def _compare_held_out(self, new: Attempt, old: Attempt) -> tuple[float, float, str] | None:
        """Returns the gains on the objective and on other data, and which; None if not known."""
        direction = self._problem.direction
        if new.key == old.key or new.objective is None or old.objective is None:
            return None
        gain = direction.gain(new.objective, old.objective)
        held_out = [self._score_held_out(one) for one in (new, old)]
        if held_out[0] is not None and held_out[1] is not None:
            return gain, direction.gain(held_out[0], held_out[1]), "the hold-out"
        validated = [_validate(one.evaluation) for one in (new, old)]
        if validated[0] is not None and validated[1] is not None:
            return gain, direction.gain(validated[0], validated[1]), "validation instances"
        return None

    def _score_held_out(self, attempt: Attempt) -> float | None:
        program = attempt.program_or_fail
        if program.id not in self._verdicts and self._hold_out is not None:
            self._verdicts[program.id] = self._hold_out(program)
        verdict = self._verdicts.get(program.id)
        return None if verdict is None else verdict.objective

    def check_source(self, shown: Sequence[Attempt]) -> str:
        """Looks for code that answers the test and not the question."""
        found = 0
        for attempt in reversed(shown):
            signs = find_suspicions(attempt.program_or_fail, self._start.program_or_fail)
            for sign in signs[: max(0, _MOST_SIGNS - found)]:
                self._find(
                    SOURCE, attempt.key, f"{sign.kind}: {sign.path}:{sign.line}: {sign.code}"
                )
            found += len(signs)
        has_python = any(path.endswith(".py") for path, _ in self._problem.initial.files)
        if not has_python:
            return "not Python: read it"
        more = f", {found - _MOST_SIGNS} more not listed" if found > _MOST_SIGNS else ""
        return f"{len(shown)} jumps and champions against the starting program{more}"

    def check_luck(self, leads: Sequence[AttemptRow]) -> str:
        """Looks for new bests that the noise may have made."""
        noise, steps = self._problem.noise, _step_gains(leads, self._state)
        champion = self._state.champion
        repeats = () if champion is None else (
            self._store.load_attempt(champion.key).evaluation.repeats
        )  # fmt: skip
        if not noise and len(repeats) < 2:
            return "no noise is declared, and nothing was evaluated twice"
        small = [key for key, gain in steps if gain <= noise]
        if champion is not None and champion.key in small:
            self._find(
                LUCK, champion.key,
                f"the champion is better than the best before it by no more than the noise "
                f"{noise:.3g}",
            )  # fmt: skip
        luck = ""
        if champion is not None and len(repeats) > 1:
            first = self._problem.direction.gain(repeats[0], fmean(repeats))
            luck = f"; the champion's first evaluation was {first:+.3g} from the mean of "
            luck += f"{len(repeats)}"
        return f"{len(small)} of {len(steps)} new bests gained no more than the noise{luck}"


def _validate(evaluation: Evaluation) -> float | None:
    """Returns the mean over validation instances; None where there are none."""
    values = [value for name, value in evaluation.instances.items() if name.startswith(VALIDATION)]
    return fmean(values) if values else None
