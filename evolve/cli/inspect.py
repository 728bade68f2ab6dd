"""Commands that look at whole runs: `ls`, `show`, `archive`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from evolve.cli.command import Result, command
from evolve.cli.options import RUNS, Run
from evolve.display import TextTable, show_number
from evolve.errors import EvolveError

if TYPE_CHECKING:
    from evolve.population import Standing
    from evolve.store import Store


@command("Look")
def ls() -> Result:
    """List the runs in ./runs."""
    from evolve.report.state import describe_run
    from evolve.run.folder import list_runs

    described: list[dict[str, Any]] = []
    for folder in list_runs(RUNS):
        try:
            with opened_run(str(folder)) as (store, population):
                described.append(describe_run(folder, store, population))
        except EvolveError as error:
            # The others are still worth listing.
            described.append({"run": folder.name, "status": "unreadable", "error": str(error)})
    if not described:
        return Result(f"no runs in {RUNS.resolve()}; start one with `evolve run PROBLEM`", [])
    return Result(
        TextTable(
            ("run", "status", "generations", "evaluations", "champion"),
            [_list_run(run) for run in described],
        ),
        described,
    )


def _list_run(run: dict[str, Any]) -> list[object]:
    if "error" in run:
        return [run["run"], f"{run['status']}: {run['error']}", None, None, None]
    champion = run["champion"] and show_number(run["champion"]["objective"])
    return [run["run"], _status(run), run["generations"], run["evaluations"], champion]


@command("Look")
def show(run: Run) -> Result:
    """Show the state of a run."""
    from evolve.report.state import describe_run, describe_spending

    with opened_run(run) as (store, population):
        state = describe_run(store.folder, store, population)
        spending = describe_spending(store.usage())
    rows = [
        *_describe_run(state, spending),
        *_describe_champion(state),
        *_describe_references(state["references"]),
        *_describe_archives(state),
        *_describe_stalls(state["stalls"]),
    ]
    return Result([TextTable(("", ""), rows)], state)


_Rows = list[tuple[str, str]]


def _describe_run(state: dict[str, Any], spending: list[str]) -> _Rows:
    from evolve.report.state import COOPERATIVE

    outcomes = ", ".join(f"{count} {name}" for name, count in state["outcomes"].items())
    models = f"{state['calls']} calls, {state['tokens']} tokens, ${state['cost_usd']:.4f}"
    tuning = "{attempts} attempts in {sessions} sessions".format(**state["tuning"])
    return [
        ("run", f"{state['run']} ({_status(state)})"),
        ("problem", f"{state['problem']}, {state['direction']}"),
        *([("", COOPERATIVE)] if state["cooperative"] else []),
        ("generations", str(state["generations"])),
        ("attempts", f"{state['attempts']} ({outcomes})"),
        ("evaluations", str(state["evaluations"])),
        ("models", models + (f"; replayed from {state['replay']}" if state["replay"] else "")),
        *(("", line) for line in spending),
        ("tuning", tuning),
        ("seconds", f"{state['seconds']:.1f}"),
        ("sandbox", state["sandbox"]),
        ("strategy", f"{state['strategy']}, seed {state['seed']}"),
        ("launches", _describe_launches(state["launches"])),
        ("start", show_number(state["initial"]["objective"])),
    ]


def _describe_champion(state: dict[str, Any]) -> _Rows:
    champion = state["champion"]
    if champion is None:
        return []
    origin = f"program {champion['id']}, generation {champion['generation']}"
    rows = [
        (
            "champion",
            f"{show_number(champion['objective'])}  {origin}, depth {champion['depth']}",
        )
    ]
    numbers = {**champion["metrics"], **champion["measures"]}
    rows += [("", f"{name} {show_number(value)}") for name, value in numbers.items()]
    if champion["holdout"] is not None:
        start, end = _held_out(state["initial"]["holdout"]), _held_out(champion["holdout"])
        rows.append(("hold-out", f"{end}, starting program {start}"))
    return rows


def _held_out(verdict: dict[str, Any]) -> str:
    if verdict["objective"] is None:
        return f"{verdict['status']}: {verdict['reason']}"
    return show_number(verdict["objective"])


def _describe_references(references: dict[str, Any]) -> _Rows:
    rows = [
        (
            name,
            show_number(known["value"])
            + (f", the champion is {known['champion_is']}" if known["champion_is"] else "")
            + f" ({known['source']})",
        )
        for name, known in references.items()
    ]
    known = (references.get(name, {}) for name in ("best known", "bound"))
    if any(reference.get("champion_is") == "better" for reference in known):
        # Most such finds are faults of an evaluator.
        rows.append(("", "better than what is known: look twice, `evolve verify` helps"))
    return rows


def _describe_archives(state: dict[str, Any]) -> _Rows:
    rows = []
    for number, island in enumerate(state["islands"]):
        text = (
            f"{island['elites']} elites, coverage {island['coverage']:.1%}, "
            f"best {show_number(island['best'])}"
        )
        outside = f", {island['outside']} outside the ranges" if island["outside"] else ""
        rows.append((f"island {number}", text + outside))
    if state["objectives"]:
        rows.append(("front", f"{len(state['front'])} elites that nothing dominates"))
    for elite in state["front"][:10]:
        others = "  ".join(
            f"{name} {show_number(value)}" for name, value in elite["others"].items()
        )
        rows.append(("", f"{elite['id']}  {show_number(elite['objective'])}  {others}"))
    return rows


def _describe_stalls(stalls: dict[str, Any]) -> _Rows:
    if not stalls["window"]:
        return [("stalls", "not watched")]
    dull, responses = stalls["dull_evaluations"], stalls["responses"]
    rows = [("stalls", f"level {stalls['level']}, {dull} evaluations without progress")]
    if responses:
        last = responses[-1]
        text = f"{len(responses)} responses, the last after generation {last['generation']}"
        rows.append(("", f"{text}: {last['action']}"))
    return rows


@command("Look")
def archive(run: Run) -> Result:
    """List the elites of a run."""
    from evolve.report.state import describe_elites

    with opened_run(run) as (store, population):
        elites = describe_elites(store, population)
    names = list(elites[0]["measures"]) if elites else []
    head = ("program", "island", "cell", "objective", *names, "plan")
    rows = [
        [
            elite["id"],
            elite["island"],
            elite["cell"],
            show_number(elite["objective"]),
            *map(show_number, elite["measures"].values()),
            (elite["plan"] or "the starting program")[:60],
        ]
        for elite in elites
    ]
    return Result(TextTable(head, rows), elites)


@contextmanager
def opened_run(run: str) -> Iterator[tuple[Store, Standing]]:
    """Opens a run to read it, and yields it with what it has reached.

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
