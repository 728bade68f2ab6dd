"""How a run's command ends: its last lines and its exit code."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, NoReturn

import typer

from evolve.display import say_error
from evolve.errors import DamagedStoreError, EvolveError, ExitCode, MachineError
from evolve.records.endings import (
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
)
from evolve.run.interrupts import interruptible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evolve.run.opening import View
    from evolve.run.outcome import Outcome


# What to raise after a cap: with the same one a run ends where it stopped.
_RAISES = {
    MAX_COST: ", with a higher --max-cost",
    MAX_EVALUATIONS: ", with a higher --max-evaluations",
    MAX_SECONDS: ", with a longer --max-time",
}


# Of rejections, in the last lines.
_REASONS = 5


def go(folder: Path, introduction: str, start: Callable[[View], Outcome]) -> NoReturn:
    """Runs until the end, says how it came, and exits with its code.

    Args:
        folder: The run's folder.
        introduction: What is told first.
        start: Starts or resumes the run, and gives its outcome.
    """
    from evolve.cli.report import REPORT, write_report
    from evolve.cli.view import Output, TerminalView

    output = Output()
    view = TerminalView(output)
    try:
        with interruptible():
            view.tell(introduction)
            outcome = start(view)
    except KeyboardInterrupt:
        what = (
            f"to go on: evolve resume {quote(str(folder))}"
            if folder.exists()
            else "nothing was paid for, so there is no run to go on with"
        )
        output.tell_end(f"interrupted at once\n{what}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except MachineError as error:
        if not folder.exists() or isinstance(error, DamagedStoreError):
            raise
        say_error(f"error: {error}\nto go on: evolve resume {quote(str(folder))}")
        raise typer.Exit(error.exit_code) from None
    write_report(folder, folder / REPORT)
    output.tell_end(describe(outcome, folder))
    raise typer.Exit(exit_code(outcome))


def exit_code_of(because: str | None) -> ExitCode:
    """Returns the code of a run that a failure stopped, from what it left in its facts."""
    kinds, found = [EvolveError], {}
    while kinds:
        kind = kinds.pop()
        found[kind.__name__] = kind.exit_code
        kinds += kind.__subclasses__()
    return found.get((because or "").partition(":")[0], ExitCode.MACHINE)


def exit_code(outcome: Outcome) -> ExitCode:
    """Returns the code of a run that came to its end without a failure."""
    if outcome.stopped_because == INTERRUPTED:
        return ExitCode.INTERRUPTED
    if outcome.stopped_because == FRUITLESS or _is_in_vain(outcome):
        return ExitCode.MACHINE
    done = outcome.stopped_because in FINISHED - {PATIENCE}
    return ExitCode.OK if done or outcome.improved else ExitCode.NO_IMPROVEMENT


def describe(outcome: Outcome, folder: Path) -> str:
    """Returns the last lines of a run: why it ended, what it brought, what it used."""
    from evolve.records.results import Totals
    from evolve.report.spending import describe_money, describe_spending

    why = {
        FRUITLESS: "stopped: next to nothing was evaluated in the last generations",
        GENERATIONS: "finished: all generations done",
        TARGET: "finished: target reached",
        PATIENCE: "finished: no progress for as long as --patience allows",
        INTERRUPTED: "interrupted",
        RECORDING: "finished: the recording ends here",
    }.get(outcome.stopped_because, f"stopped by budget: {outcome.stopped_because}")
    if _is_in_vain(outcome):
        why = f"{why.replace('finished', 'ended')}; nothing new was evaluated"
    gain = outcome.best - outcome.initial
    result = (
        f"champion {outcome.best:.10g}, {gain:+.6g} on the start {outcome.initial:.10g}"
        if outcome.improved
        else f"no improvement on the start {outcome.initial:.10g}"
    )
    spent = outcome.spent
    tokens = spent["prompt_tokens"] + spent["completion_tokens"]
    money = describe_money(sum((used for *_, used in spent["usage"]), Totals()))
    lines = [
        f"{why}; {result}",
        (
            f"used: {spent['evaluations']} evaluations, {spent['calls']} model calls, "
            f"{tokens} tokens, {money}, {outcome.seconds:.1f} s"
        ),
        *(f"  {line}" for line in describe_spending(spent["usage"])),
        *_describe_rejections(outcome),
        f"champion's files: {folder / 'best'}; report: {folder / 'report.html'}",
    ]
    if outcome.stopped_because not in FINISHED:
        lines.append(_say_how_to_go_on(outcome.stopped_because, folder))
    return "\n".join(lines)


def _is_in_vain(outcome: Outcome) -> bool:
    """Returns whether all was done as asked, but no program beside the first was evaluated."""
    is_done = outcome.stopped_because in FINISHED and outcome.stopped_because != TARGET
    return is_done and outcome.spent["evaluations"] <= 1


def _describe_rejections(outcome: Outcome) -> list[str]:
    """Returns how many attempts were rejected, by reason, and what to change where all were."""
    from evolve.run.outcome import advise, count_reasons

    reasons = count_reasons(outcome.rejections)
    if not reasons:
        return []
    lines = [f"rejected: {sum(count for _, count in reasons)} attempts"]
    lines += [f"  {count}  {reason}" for reason, count in reasons[:_REASONS]]
    others = sum(count for _, count in reasons[_REASONS:])
    if others:
        lines.append(f"  {others}  for other reasons")
    if outcome.stopped_because == FRUITLESS or _is_in_vain(outcome):
        lines.append(f"to change that: {advise(reasons[0][0])}")
    return lines


def _say_how_to_go_on(because: str, folder: Path) -> str:
    name = quote(str(folder))
    if because in {MAX_CALLS, MAX_TOKENS}:
        # No option raises these.
        return f"to go on with a higher cap: evolve fork {name} --set budget.{because}=N"
    return f"to go on: evolve resume {name}{_RAISES.get(because, '')}"
