"""Commands that look at whole runs: `ls`, `show`, `archive`."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from evolve.cli.options import RUNS, AsJson, Run
from evolve.display import one_line, say, say_json
from evolve.errors import EvolveError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evolve.population import Standing
    from evolve.store import Store

COOPERATIVE = "cooperative evaluator: it runs beside the program, which can forge its scores"


def ls(*, as_json: AsJson = False) -> None:
    """List the runs in ./runs."""
    from evolve.report.state import describe_run
    from evolve.run.folder import list_runs

    described = []
    for folder in list_runs(RUNS):
        try:
            with opened_run(str(folder)) as (store, population):
                described.append(describe_run(folder, store, population))
        except EvolveError as error:
            # The others are still worth listing.
            described.append({"run": folder.name, "status": "unreadable", "error": str(error)})
    if as_json:
        say_json(described)
        return
    for run in described:
        if "error" in run:
            say(one_line(f"{run['run']}  {run['status']}: {run['error']}"))
            continue
        champion = run["champion"]
        objective = "-" if champion is None else f"{champion['objective']:.10g}"
        line = (
            f"{run['run']}  {_status(run)}  {run['generations']} generations  "
            f"{run['evaluations']} evaluations  champion {objective}"
        )
        say(one_line(line))
    if not described:
        say(f"no runs in {RUNS.resolve()}; start one with `evolve run PROBLEM`")


def show(run: Run, *, as_json: AsJson = False) -> None:
    """Show the state of a run."""
    from evolve.report.spending import describe_spending
    from evolve.report.state import describe_run
    from evolve.run.folder import find_run

    with opened_run(run) as (store, population):
        state = describe_run(find_run(run, RUNS), store, population)
        spending = describe_spending(store.usage())
    if as_json:
        say_json(state)
        return
    outcomes = ", ".join(f"{count} {name}" for name, count in state["outcomes"].items())
    champion = state["champion"]
    lines = [
        f"run          {state['run']} ({_status(state)})",
        f"problem      {state['problem']}, {state['direction']}",
        *([f"             {COOPERATIVE}"] if state["cooperative"] else []),
        f"generations  {state['generations']}",
        f"attempts     {state['attempts']} ({outcomes})",
        f"evaluations  {state['evaluations']}",
        f"models       {state['calls']} calls, {state['tokens']} tokens, ${state['cost_usd']:.4f}"
        + (f"; recorded by {state['replay']}, not paid" if state["replay"] else ""),
        *(f"             {line}" for line in spending),
        "tuning       {attempts} attempts in {sessions} sessions".format(**state["tuning"]),
        f"seconds      {state['seconds']:.1f}",
        f"sandbox      {state['sandbox']}",
        f"strategy     {state['strategy']}, seed {state['seed']}",
        f"launches     {_describe_launches(state['launches'])}",
        f"start        {show_number(state['initial']['objective'])}",
    ]
    if champion is not None:
        numbers = {**champion["metrics"], **champion["measures"]}
        lines.append(
            f"champion     {show_number(champion['objective'])}  program {champion['id']}, "
            f"generation {champion['generation']}, depth {champion['depth']}"
        )
        lines += [f"             {name} {show_number(value)}" for name, value in numbers.items()]
        if champion["holdout"] is not None:
            start, end = state["initial"]["holdout"], champion["holdout"]
            lines.append(f"hold-out     {_held_out(end)}, starting program {_held_out(start)}")
    lines += _describe_references(state["references"])
    for number, island in enumerate(state["islands"]):
        lines.append(
            f"island {number}     {island['elites']} elites, coverage {island['coverage']:.1%}, "
            f"best {show_number(island['best'])}"
            + (f", {island['outside']} outside the ranges" if island["outside"] else "")
        )
    if state["objectives"]:
        lines.append(f"front        {len(state['front'])} elites that nothing dominates")
    for elite in state["front"][:10]:
        others = "  ".join(
            f"{name} {show_number(value)}" for name, value in elite["others"].items()
        )
        lines.append(f"             {elite['id']}  {show_number(elite['objective'])}  {others}")
    lines += _describe_stalls(state["stalls"])
    say("\n".join(map(one_line, lines)))


def _held_out(verdict: dict[str, Any]) -> str:
    if verdict["objective"] is None:
        return f"{verdict['status']}: {verdict['reason']}"
    return show_number(verdict["objective"])


def _describe_references(references: dict[str, Any]) -> list[str]:
    lines = [
        f"{name:<12} {show_number(known['value'])}"
        + (f", the champion is {known['champion_is']}" if known["champion_is"] else "")
        + f" ({known['source']})"
        for name, known in references.items()
    ]
    known = (references.get(name, {}) for name in ("best known", "bound"))
    if any(reference.get("champion_is") == "better" for reference in known):
        # Most such finds are faults of an evaluator.
        lines.append("             better than what is known: look twice, `evolve verify` helps")
    return lines


def _describe_stalls(stalls: dict[str, Any]) -> list[str]:
    if not stalls["window"]:
        return ["stalls       not watched"]
    dull, responses = stalls["dull_evaluations"], stalls["responses"]
    lines = [f"stalls       level {stalls['level']}, {dull} evaluations without progress"]
    if responses:
        last = responses[-1]
        lines.append(
            f"             {len(responses)} responses, the last after generation "
            f"{last['generation']}: {last['action']}"
        )
    return lines


def archive(run: Run, *, as_json: AsJson = False) -> None:
    """List the elites of a run."""
    from evolve.report.state import describe_elites

    with opened_run(run) as (store, population):
        elites = describe_elites(store, population)
    if as_json:
        say_json(elites)
        return
    for elite in elites:
        measures = "  ".join(f"{k} {show_number(v)}" for k, v in elite["measures"].items())
        plan = (elite["plan"] or "the starting program")[:60]
        line = (
            f"{elite['id']}  island {elite['island']}  cell {elite['cell']}  "
            f"objective {show_number(elite['objective'])}  {measures}  {plan}"
        )
        say(one_line(line))


@contextmanager
def opened_run(run: str) -> Iterator[tuple[Store, Standing]]:
    """Opens a run to read it, and gives what it has reached.

    Raises:
        UsageError: There is no such run.
    """
    from evolve.population.snapshot import load_standing
    from evolve.run.folder import find_run, load_run
    from evolve.store import Store

    folder = find_run(run, RUNS)
    problem, settings = load_run(folder)
    with closing(Store.open_to_read(folder)) as store:
        yield store, load_standing(store, problem, settings.search)


def _status(run: dict[str, Any]) -> str:
    because = run["stopped_because"]
    return run["status"] if because is None else f"{run['status']}: {because}"


def _describe_launches(launches: list[dict[str, Any]]) -> str:
    changed = [
        f"{name} {old} -> {new} from generation {launch['generation']}"
        for launch in launches
        for name, (old, new) in launch["changes"].items()
    ]
    return "; ".join([str(len(launches)), *changed])


def show_number(value: float | None) -> str:
    """Returns a number for people."""
    return "-" if value is None else f"{value:.10g}"
