"""Another evaluator for a run: taken in place of its own; the elites evaluated with it again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shlex import quote

from evolve.errors import ProblemError, StoreError, UsageError
from evolve.evaluation.pool import Evaluators
from evolve.population.snapshot import load_state
from evolve.problem import Problem
from evolve.records import INITIAL, RESCORE, Attempt, AttemptKey, Plan, Status
from evolve.records.results import Evaluated, EvaluationPlace, Generation, PlacedAttempt, SlotResult
from evolve.runs.run_folder import EVALUATOR_FOLDER, load_run
from evolve.runs.world import ORIGIN_FILE, copy_world, read_origin, write_origin
from evolve.settings.sections import SearchSettings
from evolve.store import Store
from evolve.store.connection import is_locked

RESCORED = "rescored"
"""The fact that names the last generation in which the elites were evaluated again."""


def take_evaluator(folder: Path, path: Path) -> None:
    """Puts an evaluator, with what lies beside it, in the place of a run's own.

    Args:
        folder: The run's folder.
        path: The evaluator's file, or the folder that has it where the problem folder had it. Of a
            file with another name the file alone is taken.

    Raises:
        UsageError: There is none, or the run is being written.
        ProblemError: It cannot be used.
        StoreError: It cannot be copied.
    """
    problem, _ = load_run(folder)
    relative = problem.evaluator.relative_to(problem.world)
    given = (path / relative if path.is_dir() else path).resolve()
    if not given.is_file():
        raise UsageError(f"--evaluator: expected a Python file, got nothing at {given}")
    if is_locked(folder):
        raise UsageError(f"{folder}: the run is being written; `evolve stop` ends it")
    is_whole = given.parts[-len(relative.parts) :] == relative.parts
    world = given.parents[len(relative.parts) - 1] if is_whole else problem.world
    found = replace(problem, world=world, evaluator=world / relative)
    with _drafting(folder) as draft:
        new = draft / EVALUATOR_FOLDER
        linked = copy_world(world, new, problem=found, run=folder, draft=draft)
        if not is_whole:
            shutil.copyfile(given, new / relative)
        write_origin(draft, given, linked)
        own = folder / EVALUATOR_FOLDER
        own.rename(draft / "before")
        new.rename(own)
        (draft / ORIGIN_FILE).replace(folder / ORIGIN_FILE)


@contextmanager
def _drafting(folder: Path) -> Iterator[Path]:
    try:
        draft = Path(tempfile.mkdtemp(prefix=".evaluator-", dir=folder))
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"{folder}: its evaluator cannot be replaced: {error}") from error


def describe_mending(folder: Path, problem: Problem) -> str:
    """Returns how to continue a run once its evaluator is mended, and which file that is."""
    original = Path(read_origin(folder)["evaluator"])
    path = original if original.is_file() else problem.evaluator
    return f"mend {path}, then: {_command(folder, path)}"


def _command(folder: Path, path: Path) -> str:
    return f"evolve resume {quote(str(folder))} --evaluator {quote(str(path))}"


def describe_difference(folder: Path, problem: Problem) -> list[str]:
    """Returns a line where the file that a run's evaluator was copied from was changed since."""
    original = Path(read_origin(folder)["evaluator"])
    try:
        is_same = original.read_bytes() == problem.evaluator.read_bytes()
    except OSError:
        return []
    if is_same:
        return []
    line = f"evaluator: {original} was changed since; the run uses its own copy, as it was"
    return [f"{line}; to take it: {_command(folder, original)}"]


def rescore_elites(
    store: Store, problem: Problem, settings: SearchSettings, evaluators: Evaluators
) -> tuple[int, int]:
    """Evaluates the start, the champion and all elites again; archives begin anew with that.

    Returns:
        The generation that holds the new verdicts, and how many there are.

    Raises:
        ProblemError: The starting program has no objective now.
        StoreError: The database cannot be read or written.
    """
    state = load_state(store, problem, settings)
    islands = {
        elite.key: number
        for number, archive in enumerate(state.islands.archives)
        for elite in archive.elites
    }
    if state.champion is not None:
        islands.setdefault(state.champion.key, state.champion.origin)
    start = INITIAL if state.start is None else state.start.key
    islands.pop(start, None)
    generation = store.newest_recorded() + 1
    results = []
    for slot, (key, island) in enumerate([(start, 0), *islands.items()]):
        old, new = store.load_attempt(key), AttemptKey(generation, slot, 0)
        program = old.program_or_fail
        verdict = evaluators.evaluate(program)
        if not slot and verdict.status is not Status.OK:
            raise ProblemError(
                f"{problem.evaluator}: the starting program must have an objective, got "
                f"`{verdict.status}`: {verdict.reason}"
            )
        store.keep([Evaluated(new, program, verdict)])
        plan = Plan(change=f"{key} evaluated again", operator=RESCORE)
        parent = key if slot else None
        attempt = Attempt(new, island, parent, old.depth, plan, program, verdict)
        placed = PlacedAttempt(attempt, EvaluationPlace(new, new))
        results.append(SlotResult(slot, (placed,)))
    # Those in flight when the evaluator broke are left as they are, and end here.
    for number in range(state.generation + 1, generation):
        store.commit(Generation(number, (), store.seconds()))
    store.commit(Generation(generation, tuple(results), store.seconds()))
    store.set_facts(**{RESCORED: generation})
    return generation, len(results)
