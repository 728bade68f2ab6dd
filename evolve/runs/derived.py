"""What is made of a run: forks, what can be recovered, a smaller one, files for others."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from evolve.display import as_cell
from evolve.errors import EvolveError, UsageError
from evolve.files import writing
from evolve.keys import cut_keys
from evolve.problem import Problem
from evolve.problem.gallery import expect_empty
from evolve.records import AttemptKey
from evolve.records.plain import to_plain
from evolve.records.results import LightAttempt
from evolve.runs.run_folder import (
    create_run_folder,
    expect_trust,
    find_addresses,
    load_run,
    read_mark,
    write_mark,
    write_program,
)
from evolve.runs.wiring import complete_settings
from evolve.search.curves import CurvePoint, trace_curve
from evolve.search.population import Population, expect_frozen, freeze_past
from evolve.settings import Settings
from evolve.store import Store
from evolve.store.queries import NEWEST
from evolve.store.store import AS_RECORDED, Pruned, Repaired, copy_database, repair_database


def fork_run(
    source: Path,
    change: Callable[[Settings], Settings],
    *,
    generation: int | None,
    folder: Path | None,
    parent: Path,
    trusts: bool = False,
) -> tuple[Path, int]:
    """Makes a run that holds everything of another one up to a generation.

    It is the user's where the other one is.

    Args:
        source: The other run's folder.
        change: Returns settings as the user wants them for the new run.
        generation: The last committed one by default.
        folder: Folder of the new run, or None for a new one in `parent`.
        parent: Where new run folders are made.
        trusts: Whether the user allows what the folder of a stranger would do.

    Returns:
        The new folder, and the generation.

    Raises:
        UsageError: There is no such generation, or the folder is not empty.
        StoreError: A database cannot be read or written.
    """
    problem, recorded = load_run(source)
    named = read_mark(source, recorded)
    if trusts:
        named = expect_trust(source, problem, recorded, trusts=True)
    if named is not None:
        named = (*named, *find_addresses(change(Settings())))
    settings, islands = complete_settings(change(recorded)), recorded.search.islands
    if settings.search.islands < islands:
        raise UsageError(
            f"search.islands: expected at least the {islands} that the run has, "
            f"got {settings.search.islands}"
        )
    made = create_run_folder(problem, settings, folder=folder, parent=parent)
    with _filling(made, named):
        last = copy_database(source, made, generation)
        with closing(Store.open_to_write(made)) as store:
            # Earlier generations had other settings.
            store.set_facts(**_describe_origin(source, last, "forked"), **{AS_RECORDED: last})
            freeze_past(store, problem, settings.search)
    return made, last


def repair_run(source: Path, folder: Path) -> Repaired:
    """Makes a run of what can be read of a damaged one; it is the user's where that one is.

    Returns:
        What was saved; `evolve resume` continues from its last generation.

    Raises:
        UsageError: The folder is not empty.
        StoreError: Nothing can be saved.
    """
    problem, settings = load_run(source)
    made = create_run_folder(problem, settings, folder=folder, parent=folder.parent)
    with _filling(made, read_mark(source, settings)):
        saved = repair_database(source, made)
        with closing(Store.open_to_write(made)) as store:
            store.set_facts(**_describe_origin(source, saved.generation, "repaired"))
    return saved


@contextmanager
def _filling(folder: Path, named: Sequence[str] | None) -> Iterator[None]:
    """Marks a new run as its user's, unless `named` is None; a failure leaves no folder."""
    try:
        yield
    except EvolveError:
        shutil.rmtree(folder)
        raise
    if named is not None:
        write_mark(folder, load_run(folder)[1], named)


def _describe_origin(source: Path, generation: int, how: str) -> dict[str, Any]:
    origin = {"run": str(source.resolve()), "generation": generation, "how": how}
    return {"origin": origin, "stopped_because": how}


def prune_run(folder: Path, *, age: int, fewest_bytes: int) -> Pruned:
    """Drops artifacts, and sources of rejected programs, that no prompt will show.

    Args:
        folder: The run's folder.
        age: Generations, counted from the last one, of which all is kept.
        fewest_bytes: Smaller artifacts, compressed, are kept.

    Raises:
        UsageError: The folder is no run, or is in use.
        StoreError: The database cannot be read or written.
    """
    problem, settings = load_run(folder)
    with closing(Store.open_to_write(folder)) as store:
        newest = store.last_generation()
        last = -1 if newest is None else newest
        shown = _find_shown(store, problem, settings, last)
        # Slots in flight may take over evaluations of generations that they do not see yet.
        return store.prune(shown, last - max(age, settings.loop.lag + 1), fewest_bytes)


def _find_shown(store: Store, problem: Problem, settings: Settings, last: int) -> set[AttemptKey]:
    """Returns the attempts that a prompt may still show whole, and all their ancestors.

    Slots in flight were given parents from states as old as the lag.
    """
    expect_frozen(store, problem, settings.search)
    run_state = Population(problem, settings.search)
    parents: dict[AttemptKey, AttemptKey | None] = {}
    shown: set[AttemptKey] = set()

    def note_parents() -> Iterator[LightAttempt]:
        for attempt in store.light_attempts():
            parents[attempt.key] = attempt.parent
            yield attempt

    for generation in run_state.add_all(note_parents(), last):
        if generation >= last - settings.loop.lag - 1:
            for archive in run_state.islands.archives:
                shown.update(elite.key for elite in archive.elites)
    if run_state.champion is not None:
        shown.add(run_state.champion.key)
    for key in list(shown):
        parent = parents.get(key)
        while parent is not None and parent not in shown:
            shown.add(parent)
            parent = parents.get(parent)
    return shown


EVERYTHING, CURVE, CHAMPIONS = "run.jsonl", "curve.csv", "champions"
_COLUMNS = ("generation", "seconds", "evaluations", "calls", "cost_usd", "objective", "program")


def export_run(store: Store, problem: Problem, settings: Settings, folder: Path) -> list[Path]:
    """Writes `run.jsonl`, `curve.csv` and a folder of each champion in turn.

    Raises:
        UsageError: The folder holds files already.
        StoreError: The database cannot be read, or the folder cannot be written.
    """
    expect_empty(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / EVERYTHING).open("w", encoding="utf-8") as stream:
            for line in describe_everything(store):
                stream.write(cut_keys(json.dumps(line, sort_keys=True)) + "\n")
        curve = list(trace_curve(store, problem, settings.search))
        with (folder / CURVE).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows([as_cell(cell) for cell in _curve_row(point)] for point in curve)
    written = [folder / EVERYTHING, folder / CURVE]
    for champion in dict.fromkeys(point.champion for point in curve if point.champion):
        attempt = store.load_attempt(champion.key)
        name = f"{CHAMPIONS}/{attempt.key.generation:06d}-{attempt.program_or_fail.id}"
        write_program(folder, attempt, below=name)
        written.append(folder / name)
    return written


def describe_everything(store: Store) -> Iterator[dict[str, Any]]:
    """Returns all rows of a run as plain data, by generation; `kind` says what a line is.

    Calls, evaluations and expenses of generations that are not committed come last.
    """
    for name, value in sorted(store.facts().items()):
        yield {"kind": "fact", "name": name, "value": value}
    for invocation in store.invocations():
        yield _describe("invocation", invocation)
    for steer in store.steering():
        yield _describe("steer", steer, asks=str(steer.kind))
    last = -1
    for generation in store.generations():
        last = generation.number
        line = _describe("generation", generation)
        del line["slots"]
        yield line
        yield from _describe_recorded(store, last - 1, last)
        for attempt in map(store.load_attempt, store.keys_of(last)):
            program = attempt.program
            files = program and dict(program.files)
            yield _describe("attempt", attempt, program=program and program.id, files=files)
    yield from _describe_recorded(store, last, NEWEST)


def _curve_row(point: CurvePoint) -> list[Any]:
    champion = point.champion
    found = ["", ""] if champion is None else [repr(champion.objective), champion.program_id]
    spent = [point.evaluations, point.calls, repr(point.cost_usd)]
    return [point.generation, f"{point.seconds:.3f}", *spent, *found]


def _describe_recorded(store: Store, after: int, upto: int) -> Iterator[dict[str, Any]]:
    calls, evaluations = store.finished_after(after, upto)
    yield from (_describe("call", one) for one in calls)
    yield from (_describe("evaluation", one, program=one.program.id) for one in evaluations)
    yield from (_describe("expense", one) for one in store.expenses(after, upto))


def _describe(kind: str, record: Any, **more: Any) -> dict[str, Any]:
    """Returns a record as plain data, with keys of attempts as people write them."""
    line = {**to_plain(record), **more, "kind": kind}
    for name in {"key", "parent"} & line.keys():
        line[name] = line[name] and ".".join(map(str, line[name]))
    return line
