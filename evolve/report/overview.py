"""The state of a run as plain data: what `--json` prints and the tables are made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evolve.display import TextTable, one_line, show_number
from evolve.problem import COOPERATIVE
from evolve.records import INITIAL, AttemptKey
from evolve.records.plain import from_plain, to_plain
from evolve.records.results import FINISHED, Steer, Totals, rank_payoffs
from evolve.report.history import attempt_as_data
from evolve.search.population import Population
from evolve.settings import Invocation
from evolve.store import Store, is_locked

NODE = ("node", "evaluations", "failed", "lost", "kind")
"""What is known of a node of a cluster."""
Usage = Sequence[tuple[str, str, Totals]]
_Rows = list[tuple[str, str]]


def describe_run(folder: Path, store: Store, population: Population) -> dict[str, Any]:
    """Returns the object that `evolve show --json` prints."""
    facts, spent, outcomes = store.facts(), store.spent(), population.outcomes
    status, stopped_because = _status(folder, facts)
    return {
        "run": folder.name,
        "problem": facts.get("problem", ""),
        "started": facts.get("started"),
        "status": status,
        "stopped_because": stopped_because,
        "generations": max(population.generation, 0),
        "attempts": sum(outcomes.values()),
        "evaluations": spent["evaluations"],
        "outcomes": {str(status): count for status, count in sorted(outcomes.items())},
        "calls": spent["calls"],
        "tokens": spent["prompt_tokens"] + spent["completion_tokens"],
        "cost_usd": spent["cost_usd"],
        "unpriced_calls": spent["unpriced_calls"],
        "lost_requests": spent["lost_requests"],
        "lost_usd": spent["lost_usd"],
        "replay": facts.get("replay", ""),
        "models": list_spending(spent["usage"]),
        "payoffs": [
            {**one._asdict(), "share": one.share}
            for one in rank_payoffs(population.payoffs.values())
        ],
        "seconds": store.seconds(),
        "sandbox": facts.get("sandbox", ""),
        "seed": facts.get("seed"),
        "strategy": population.islands.settings.strategy,
        "direction": str(population.direction),
        "noise": population.noise,
        "cooperative": facts.get("cooperative", False),
        "invocations": list(map(describe_invocation, store.invocations())),
        "steering": to_plain([dataclasses.replace(steer, files=()) for steer in store.steering()]),
        "initial": {"objective": population.initial, "holdout": _holdout(store, INITIAL)},
        "champion": _describe_champion(store, population),
        "references": _describe_references(population),
        "stages": [
            dict(zip(("name", "programs", "stopped", "seconds"), row, strict=True))
            for row in store.stages()
        ],
        "nodes": [dict(zip(NODE, row, strict=True)) for row in store.nodes()],
        "tuning": {"attempts": population.samples, "sessions": len(population.tuned)},
        "islands": [
            {
                "elites": len(archive),
                "coverage": archive.coverage,
                "best": None if archive.best is None else archive.best.objective,
                "outside": archive.out_of_range,
            }
            for archive in population.islands.archives
        ],
        "objectives": list(population.others),
        "front": _describe_front(population),
        "migrations": population.islands.migrations,
        "stalls": {
            "level": population.stalls.level,
            "fruitless_evaluations": population.stalls.fruitless,
            "window": population.stalls.window,
            "events": list(map(dataclasses.asdict, population.stalls.events)),
        },
    }


def describe_invocation(invocation: Invocation) -> dict[str, Any]:
    """Returns a start or resume of a run as data, with its changes in words."""
    return {**dataclasses.asdict(invocation), "text": invocation.describe_changes()}


def describe_gain(objective: float | None, initial: float | None, noise: float) -> str:
    """Returns what an objective gains on the starting program, with the noise of both."""
    if objective is None or initial is None:
        return "no program has an objective yet"
    spread = f" \N{PLUS-MINUS SIGN} {noise:.3g}" if noise else ""
    return f"{objective - initial:+.6g}{spread} on the start {initial:.10g}"


def describe_state(state: dict[str, Any]) -> _Rows:
    """Returns the same for people, as pairs of a label and a text."""
    return [
        *_describe_search(state),
        *_describe_best(state),
        *_compare_references(state["references"]),
        *_describe_archives(state),
        *_describe_stalls(state["stalls"]),
    ]


def describe_elites(
    store: Store, population: Population, cell: int | None = None
) -> list[dict[str, Any]]:
    """Returns the list that `evolve archive --json` prints, by island and cell.

    Args:
        store: The run's database.
        population: What the run has reached.
        cell: The only one to list; all by default.
    """
    elites = []
    for island, archive in enumerate(population.islands.archives):
        pairs = zip(archive.cells, archive.elites, strict=True)
        for place, elite in sorted(pairs, key=lambda pair: pair[0]):
            if cell in {None, place}:
                attempt = store.load_attempt(elite.key)
                others = dict(zip(population.others, elite.others, strict=True))
                described = attempt_as_data(store, attempt, population.direction)
                # Copies of an elite live on other islands than the one that found it.
                elites.append(described | {"island": island, "cell": place, "others": others})
    return elites


def tabulate_spending(usage: Usage) -> TextTable:
    """Returns what each role and model has used, for people."""
    rows = [
        (
            role,
            model,
            # The preflight does not belong to any slot.
            used.calls or None,
            used.prompt_tokens,
            used.cached_tokens,
            used.completion_tokens,
            used.thinking_tokens,
            describe_money(used),
        )
        for role, model, used in usage
    ]
    head = ("role", "model", "calls", "read", "cached", "written", "thinking", "cost")
    return TextTable(head, rows)


def tabulate_payoffs(payoffs: Sequence[dict[str, Any]]) -> TextTable:
    """Returns what operators and models have brought, for people."""
    rows = [
        (
            one["name"],
            one["uses"],
            one["scored"],
            one["improved"],
            f"{one['share']:.0%}",
            None if one["best_gain"] is None else f"{one['best_gain']:+.4g}",
        )
        for one in payoffs
    ]
    head = ("operator or model", "uses", "scored", "improved", "share", "best gain")
    return TextTable(head, rows)


def _status(folder: Path, facts: dict[str, Any]) -> tuple[str, str | None]:
    if is_locked(folder):
        return "running", None
    because = facts.get("stopped_because")
    if because is None:
        return "stopped", "killed" if facts else "killed before its first checkpoint"
    return ("finished" if because in FINISHED else "stopped"), because


def _describe_champion(store: Store, population: Population) -> dict[str, Any] | None:
    champion = population.champion
    if champion is None:
        return None
    evaluation = store.load_attempt(champion.key).evaluation
    return {
        "id": champion.program_id,
        "attempt": str(champion.key),
        "objective": champion.objective,
        "metrics": dict(evaluation.metrics),
        "measures": dict(evaluation.measures),
        "generation": champion.key.generation,
        "depth": champion.depth,
        "holdout": _holdout(store, champion.key),
    }


def _describe_references(population: Population) -> dict[str, Any]:
    """Returns what the champion is compared with, and whether it is better, equal or worse."""
    champion, better = population.champion, population.direction.is_better
    described: dict[str, Any] = {}
    for name, known in population.references.items():
        described[name] = {"value": known.value, "source": known.source, "champion_is": None}
        if champion is not None:
            is_better = better(champion.objective, known.value)
            is_worse = better(known.value, champion.objective)
            verdict = "better" if is_better else "worse" if is_worse else "equal"
            described[name]["champion_is"] = verdict
    return described


def _holdout(store: Store, key: AttemptKey) -> dict[str, Any] | None:
    """Returns the verdict on data that the search never saw, once the run has stopped."""
    verdicts = store.holdout()
    verdict = verdicts.get(store.load_attempt(key).program_or_fail.id) if verdicts else None
    if verdict is None:
        return None
    return {
        "status": str(verdict.status),
        "objective": verdict.objective,
        "metrics": dict(verdict.metrics),
        "reason": verdict.reason,
    }


def _describe_front(population: Population) -> list[dict[str, Any]]:
    """Returns the elites of all islands that nothing dominates; empty with one objective."""
    return [
        {
            "id": elite.program_id,
            "objective": elite.objective,
            "others": dict(zip(population.others, elite.others, strict=True)),
        }
        for elite in population.islands.front()
    ]


def list_spending(usage: Usage) -> list[dict[str, Any]]:
    """Returns one object for each role and model, as data."""
    return [
        {"role": role, "model": model, "tokens": used.tokens, **dataclasses.asdict(used)}
        for role, model, used in usage
    ]


def describe_money(used: Totals) -> str:
    """Returns the money of calls with known prices, and says what it leaves out."""
    parts = [f"${used.cost_usd:.4f}"]
    if used.unpriced_calls:
        parts.append(f"{used.unpriced_calls} calls of unknown price")
    if used.lost_requests:
        parts.append(f"at most ${used.lost_usd:.4f} for {used.lost_requests} lost requests")
    return " + ".join(parts)


def _describe_search(state: dict[str, Any]) -> _Rows:
    outcomes = ", ".join(f"{count} {name}" for name, count in state["outcomes"].items())
    models = f"{state['calls']} calls, {state['tokens']} tokens, ${state['cost_usd']:.4f}"
    tuning = "{attempts} attempts in {sessions} sessions".format(**state["tuning"])
    return [
        ("run", f"{state['run']} ({describe_status(state)})"),
        ("problem", f"{state['problem']}, {state['direction']}"),
        *([("", COOPERATIVE)] if state["cooperative"] else []),
        ("generations", str(state["generations"])),
        ("attempts", f"{state['attempts']} ({outcomes})"),
        ("evaluations", str(state["evaluations"])),
        *(
            (
                f"stage {one['name']}",
                "{programs} programs, {stopped} too weak to go on, {seconds:.1f} s".format(**one),
            )
            for one in state["stages"]
        ),
        ("models", models + (f"; replayed from {state['replay']}" if state["replay"] else "")),
        ("tuning", tuning),
        ("seconds", f"{state['seconds']:.1f}"),
        ("sandbox", state["sandbox"]),
        ("strategy", f"{state['strategy']}, seed {state['seed']}"),
        ("invocations", _describe_invocations(state["invocations"])),
        *_describe_steering(state["steering"]),
        ("start", show_number(state["initial"]["objective"])),
    ]


def _describe_steering(asked: list[dict[str, Any]]) -> _Rows:
    return [
        ("" if number else "steered", f"{one.number}: {one_line(one.describe())}")
        for number, one in enumerate(from_plain(tuple[Steer, ...], asked))
    ]


def _describe_best(state: dict[str, Any]) -> _Rows:
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
    start = state["initial"]["objective"]
    if start is not None and champion["objective"] != start:
        rows.append(("", describe_gain(champion["objective"], start, state["noise"])))
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


def _compare_references(references: dict[str, Any]) -> _Rows:
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
    count, responses = stalls["fruitless_evaluations"], stalls["events"]
    rows = [("stalls", f"level {stalls['level']}, {count} evaluations without progress")]
    if responses:
        last = responses[-1]
        text = f"{len(responses)} responses, the last after generation {last['generation']}"
        rows.append(("", f"{text}: {last['action']}"))
    return rows


def _describe_invocations(invocations: list[dict[str, Any]]) -> str:
    changed = [
        f"{one['text']} from generation {one['generation']}" for one in invocations if one["text"]
    ]
    return "; ".join([str(len(invocations)), *changed])


def describe_status(run: Mapping[str, Any]) -> str:
    """Returns whether a run is running, finished or stopped, and why."""
    because = run["stopped_because"]
    return run["status"] if because is None else f"{run['status']}: {because}"
