"""What is said of a run in a few words: where it stands, what is waited for, how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path
from shlex import quote
from typing import Any

from evolve import errors
from evolve.display import show_number
from evolve.errors import ExitCode
from evolve.problem import COOPERATIVE, Reference
from evolve.records import Direction, results
from evolve.records.results import Payoff, Totals
from evolve.report.overview import describe_gain, describe_money, describe_status, tabulate_spending
from evolve.report.progress import Cap, Dashboard
from evolve.runs.outcome import Outcome, ReasonCounts, advise
from evolve.steps.journal import EVALUATION, Traffic, Wait

_MINUTE, _HOUR = 60, 3600
RUN_COLUMNS = (
    "run", "problem", "started", "status", "model", "evaluations", "cost", "time", "champion",
)  # fmt: skip
# What is waited for so long is worth a word in a line.
_LONG_SECONDS = 5.0


def describe_time(seconds: float) -> str:
    """Returns a length of time in its two largest units."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"


def show_date(time: str | None) -> str | None:
    """Returns a time of the database without its zone, which is always UTC."""
    return time and time.removesuffix("+00:00").replace("T", " ")


def list_cells(run: Mapping[str, Any]) -> list[object]:
    """Returns the row of a run in a list of runs, from its description; see `RUN_COLUMNS`."""
    if "error" in run:
        return [run["run"], None, None, f"unreadable: {run['error']}", *[None] * 5]
    champion = run["champion"] and show_number(run["champion"]["objective"])
    if champion and run["cooperative"]:
        champion += " (can be forged)"
    return [
        run["run"],
        run["problem"],
        show_date(run["started"]),
        describe_status(run),
        ", ".join(dict.fromkeys(one["model"] for one in run["models"])) or None,
        run["evaluations"],
        f"${run['cost_usd']:.2f}" if run["calls"] else None,
        describe_time(run["seconds"]),
        champion,
    ]


def compare_reference(objective: float, name: str, known: Reference) -> str:
    """Returns how far an objective is from a value that it is compared with."""
    value = known.value
    if objective == value:
        return f"equal to {name} {show_number(value)}"
    where = "above" if objective > value else "below"
    distance = abs(objective - value)
    by = f"{100 * distance / abs(value):.2g} %" if value else f"{distance:.3g}"
    return f"{by} {where} {name} {show_number(value)}"


def is_reached(objective: float, known: Reference, direction: Direction) -> bool:
    """Returns whether an objective is at least as good as a value that it is compared with."""
    return not direction.is_better(known.value, objective)


def describe_cap(cap: Cap, amount: float) -> str:
    """Returns an amount of what a cap allows."""
    if cap.name == results.MAX_COST:
        return f"${amount:.4f} of ${cap.most:.4g} ({cap.name})"
    if cap.name == results.MAX_SECONDS:
        return f"{describe_time(amount)} of {describe_time(cap.most)} ({cap.name})"
    what = "evaluations without progress (patience)" if cap.name == results.PATIENCE else cap.name
    return f"{amount:.0f} of {cap.most:.0f} {what}"


def describe_nearest(cap: Cap) -> str:
    """Returns when a cap will be reached, and how much of it is used."""
    left = "" if cap.seconds_left is None else f"{describe_time(cap.seconds_left)} left, "
    return f"{left}{describe_cap(cap, cap.used)}"


def describe_waits(waits: Sequence[Wait]) -> str:
    """Returns what is waited for: replies by role, evaluations."""
    counts = Counter(wait.what for wait in waits)
    parts = [
        f"{count} {what}{'s' if count > 1 else ''}"
        if what == EVALUATION
        else f"{count} {what} {'reply' if count == 1 else 'replies'}"
        for what, count in counts.items()
    ]
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]])) or "nothing"


def describe_traffic(traffic: Traffic, now: float) -> str:
    """Returns what is waited for, which requests are in flight, and what comes in."""
    calls = [wait for wait in traffic.waits if wait.what != EVALUATION]
    parts = [describe_waits(traffic.waits)]
    if calls:
        queued = max(len(calls) - traffic.in_flight, 0)
        oldest = min(calls, key=lambda wait: wait.since)
        parts.append(f"{traffic.in_flight} in flight, {queued} queued, {traffic.retried} retried")
        parts.append(f"oldest {describe_time(now - oldest.since)} ({oldest.model})")
    if traffic.machines:
        parts.append(traffic.machines)
    if traffic.answers:
        parts.append(f"{traffic.characters} characters coming in")
    return "; ".join(parts)


def describe_stop(shown: Dashboard) -> str:
    """Returns why a run stops and what it still waits for; empty while it does not."""
    if not shown.stopping:
        return ""
    is_interrupted = shown.stopping == results.INTERRUPTED
    text = "stopping" if is_interrupted else f"stopping ({shown.stopping})"
    if shown.traffic is not None and shown.traffic.waits:
        limit = (
            "waiting " if shown.seconds_to_stop is None else f"up to {shown.seconds_to_stop:.0f} s "
        )
        text += f": {limit}for {describe_waits(shown.traffic.waits)}"
    return f"{text}; Ctrl-C ends it now" if is_interrupted else text


def describe_outcomes(shown: Dashboard) -> str:
    """Returns how many attempts came to what, in an order that stays, and why most are rejected."""
    parts = [f"{name} {count}" for name, count in shown.outcomes.items() if count]
    text = f"{sum(shown.outcomes.values())}: {', '.join(parts)}"
    if shown.rejection is None:
        return text
    reason, count = shown.rejection
    return f"{text}; {count} of these: {reason}"


def describe_budget(shown: Dashboard) -> str:
    """Returns what is used, and what is left of all caps but the nearest."""
    left = [describe_cap(cap, max(cap.most - cap.used, 0.0)) for cap in shown.caps[1:]]
    parts = [f"left: {', '.join(left)}"] if left else []
    parts += _describe_calls(shown)
    return "; ".join([*parts, f"{shown.rate:.3g} evaluations/s"])


def _describe_calls(shown: Dashboard) -> list[str]:
    used = shown.total
    if not used.calls:
        return []
    return [f"{used.calls} calls, {used.tokens} tokens, {describe_money(used)}"]


def describe_payoffs(payoffs: Sequence[Payoff]) -> str:
    """Returns how often operators and models improved on a parent, of how many uses."""
    return ", ".join(f"{one.name} {one.improved}/{one.uses}" for one in payoffs)


def describe_line(shown: Dashboard) -> str:
    """Returns where a run stands, in a line for a pipe, a log or a screen reader."""
    most = next((cap.most for cap in shown.caps if cap.name == results.GENERATIONS), None)
    gain = describe_gain(shown.champion, shown.initial, shown.noise)
    parts = [
        f"generation {shown.generation}" + ("" if most is None else f"/{most:.0f}"),
        f"champion {show_number(shown.champion)} ({gain})",
        f"evaluations {shown.evaluations}",
    ]
    parts += _describe_calls(shown)
    parts.append(describe_time(shown.seconds))
    nearest = next(iter(shown.caps), None)
    if nearest is not None and nearest.seconds_left is not None:
        parts.append(f"{describe_time(nearest.seconds_left)} left ({nearest.name})")
    if shown.traffic is not None and any(map(_is_long, shown.traffic.waits, repeat(shown.now))):
        parts.append(f"waiting for {describe_traffic(shown.traffic, shown.now)}")
    return "  ".join(parts)


def _is_long(wait: Wait, now: float) -> bool:
    return now - wait.since >= _LONG_SECONDS


# How to raise a cap: with the same one a run ends where it stopped. The last two have no option.
_RAISES = {
    results.MAX_COST: ", with a higher --max-cost",
    results.MAX_EVALUATIONS: ", with a higher --max-evaluations",
    results.MAX_SECONDS: ", with a longer --max-time",
    results.MAX_CALLS: f" --set budget.{results.MAX_CALLS}=N",
    results.MAX_TOKENS: f" --set budget.{results.MAX_TOKENS}=N",
}
_REASONS = {
    results.FRUITLESS: "stopped: next to nothing was evaluated in the last generations",
    results.GENERATIONS: "finished: all generations done",
    results.TARGET: "finished: target reached",
    results.PATIENCE: "finished: no progress for as long as --patience allows",
    results.INTERRUPTED: "interrupted",
    results.RECORDING: "finished: the recording ends here",
}
# Reasons of rejections in the last lines.
_MOST_REJECTIONS = 5


def exit_code_of(because: str | None) -> ExitCode:
    """Returns the code of a run that a failure stopped, from the reason that it recorded."""
    kind = getattr(errors, (because or "").partition(":")[0], None)
    return ExitCode(getattr(kind, "exit_code", ExitCode.MACHINE))


def exit_code(outcome: Outcome) -> ExitCode:
    """Returns the code of a run that ended without a failure."""
    if outcome.stopped_because == results.INTERRUPTED:
        return ExitCode.INTERRUPTED
    if outcome.stopped_because == results.FRUITLESS or _is_in_vain(outcome):
        return ExitCode.MACHINE
    if outcome.best is None:
        return ExitCode.NO_IMPROVEMENT
    done = outcome.stopped_because in results.FINISHED - {results.PATIENCE}
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
    if outcome.stopped_because == results.GENERATIONS:
        lines.append(f"to extend it: evolve resume {quote(str(folder))} --generations N")
    elif outcome.stopped_because not in results.FINISHED:
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
    is_done = (
        outcome.stopped_because in results.FINISHED and outcome.stopped_because != results.TARGET
    )
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
    if outcome.stopped_because == results.FRUITLESS or _is_in_vain(outcome):
        lines.append(f"to change that: {advise(reasons[0][0])}")
    return lines
