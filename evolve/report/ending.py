"""How a run ended: its last lines, and the exit code of its command."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from evolve.errors import EvolveError, ExitCode
from evolve.problem import COOPERATIVE
from evolve.records.results import (
    FINISHED,
    FRUITLESS,
    GENERATIONS,
    INTERRUPTED,
    MAX_CALLS,
    MAX_COST,
    MAX_EVALUATIONS,
    MAX_SECONDS,
    MAX_TOKENS,
    PATIENCE,
    RECORDING,
    TARGET,
    Totals,
)
from evolve.report.overview import describe_gain, describe_money, tabulate_spending
from evolve.runs.outcome import Outcome, ReasonCounts, advise

# How to raise a cap: with the same one a run ends where it stopped. The last two have no option.
_RAISES = {
    MAX_COST: ", with a higher --max-cost",
    MAX_EVALUATIONS: ", with a higher --max-evaluations",
    MAX_SECONDS: ", with a longer --max-time",
    MAX_CALLS: f" --set budget.{MAX_CALLS}=N",
    MAX_TOKENS: f" --set budget.{MAX_TOKENS}=N",
}
_REASONS = {
    FRUITLESS: "stopped: next to nothing was evaluated in the last generations",
    GENERATIONS: "finished: all generations done",
    TARGET: "finished: target reached",
    PATIENCE: "finished: no progress for as long as --patience allows",
    INTERRUPTED: "interrupted",
    RECORDING: "finished: the recording ends here",
}
# Reasons of rejections in the last lines.
_MOST_REJECTIONS = 5


def exit_code_of(because: str | None) -> ExitCode:
    """Returns the code of a run that a failure stopped, from the reason that it recorded."""
    kinds, found = [EvolveError], {}
    while kinds:
        kind = kinds.pop()
        found[kind.__name__] = kind.exit_code
        kinds += kind.__subclasses__()
    return found.get((because or "").partition(":")[0], ExitCode.MACHINE)


def exit_code(outcome: Outcome) -> ExitCode:
    """Returns the code of a run that ended without a failure."""
    if outcome.stopped_because == INTERRUPTED:
        return ExitCode.INTERRUPTED
    if outcome.stopped_because == FRUITLESS or _is_in_vain(outcome):
        return ExitCode.MACHINE
    if outcome.best is None:
        return ExitCode.NO_IMPROVEMENT
    done = outcome.stopped_because in FINISHED - {PATIENCE}
    return ExitCode.OK if done or outcome.improved else ExitCode.NO_IMPROVEMENT


def describe_end(outcome: Outcome, folder: Path) -> list[str]:
    """Returns the last lines of a run: why it ended, what it found, what it used."""
    lines = [
        f"{_describe_reason(outcome)}; {_describe_gain(outcome)}",
        *([COOPERATIVE] if outcome.cooperative else []),
        *_describe_spent(outcome),
        *_describe_rejections(outcome),
        f"champion's files: {folder / 'best'}; " * (outcome.best is not None)
        + f"report: {folder / 'report.html'}",
    ]
    if outcome.stopped_because == GENERATIONS:
        lines.append(f"to extend it: evolve resume {quote(str(folder))} --generations N")
    elif outcome.stopped_because not in FINISHED:
        raised = _RAISES.get(outcome.stopped_because, "")
        lines.append(f"to continue: evolve resume {quote(str(folder))}{raised}")
    return lines


def _describe_reason(outcome: Outcome) -> str:
    because = outcome.stopped_because
    why = _REASONS.get(because, f"stopped by budget: {because}")
    if _is_in_vain(outcome):
        why = f"{why.replace('finished', 'ended')}; nothing new was evaluated"
    return why


def _describe_gain(outcome: Outcome) -> str:
    if outcome.best is None:
        return "no program has an objective"
    if not outcome.improved:
        beyond = f" beyond the noise of {outcome.noise:.3g}" if outcome.noise else ""
        return f"no improvement on the start {outcome.initial:.10g}{beyond}"
    gain = describe_gain(outcome.best, outcome.initial, outcome.noise)
    if outcome.best == outcome.initial:
        gain = "where the starting program had none"
    return f"champion {outcome.best:.10g}, {gain}"


def _describe_spent(outcome: Outcome) -> list[str]:
    spent = outcome.spent
    tokens = spent["prompt_tokens"] + spent["completion_tokens"]
    money = describe_money(sum((used for *_, used in spent["usage"]), Totals()))
    lines = tabulate_spending(spent["usage"]).lines() if spent["usage"] else []
    return [
        (
            f"used: {spent['evaluations']} evaluations, {spent['calls']} model calls, "
            f"{tokens} tokens, {money}, {outcome.seconds:.1f} s"
        ),
        *(f"  {line}" for line in lines),
    ]


def _is_in_vain(outcome: Outcome) -> bool:
    """Returns whether everything was done as asked, but only the first program was evaluated."""
    is_done = outcome.stopped_because in FINISHED and outcome.stopped_because != TARGET
    return is_done and outcome.programs <= 1


def _describe_rejections(outcome: Outcome) -> list[str]:
    """Returns how many attempts were rejected, by reason, and what to change where all were."""
    reasons = ReasonCounts(outcome.rejections).most_common()
    if not reasons:
        return []
    lines = [f"rejected: {sum(count for _, count in reasons)} attempts"]
    lines += [f"  {count}  {reason}" for reason, count in reasons[:_MOST_REJECTIONS]]
    others = sum(count for _, count in reasons[_MOST_REJECTIONS:])
    if others:
        lines.append(f"  {others}  for other reasons")
    if outcome.stopped_because == FRUITLESS or _is_in_vain(outcome):
        lines.append(f"to change that: {advise(reasons[0][0])}")
    return lines
