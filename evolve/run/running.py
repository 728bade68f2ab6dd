"""A run started, or gone on with: everything opened, wired, and closed again."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from evolve import __version__
from evolve.errors import EvaluatorError, EvolveError, ProblemError, StoreError
from evolve.evaluation.link import LOST
from evolve.population.frozen import freeze_past
from evolve.problem import Purpose
from evolve.records import INITIAL, Attempt, Status
from evolve.records.endings import FRUITLESS, FRUITLESS_UNTIL, INTERRUPTED
from evolve.records.results import Evaluated, EvaluationPlace, Generation, SlotResult, Told
from evolve.run.champion import evaluate_holdout
from evolve.run.failures import failures_of_the_machine
from evolve.run.folder import load_run, save_settings
from evolve.run.trust import write_mark
from evolve.run.wiring import (
    Preflight,
    describe_isolation,
    gather_experience,
    open_endpoints,
    settle_tuning,
)
from evolve.search.schedule import size_of
from evolve.settings.launches import Launch, find_changes
from evolve.store import Store

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from evolve.evaluation.pool import Evaluators
    from evolve.models.endpoint import Endpoint
    from evolve.problem import Problem
    from evolve.records import Evaluation
    from evolve.run.outcome import Outcome, View
    from evolve.sandbox.protocol import Isolation
    from evolve.settings import Settings


def start_run(
    folder: Path,
    problem: Problem,
    settings: Settings,
    evaluators: Evaluators,
    view: View,
    *,
    named: Collection[str] | None = None,
) -> Outcome:
    """Starts the run that a new run folder describes, until it stops.

    A run whose starting program fails, or whose models cannot be used, leaves no folder behind.

    Args:
        folder: The new run folder.
        problem: The run's own copy.
        settings: Complete.
        evaluators: Started, so that they get ready while slower modules are imported.
        view: Is told what happens.
        named: The addresses of models that the user has named; None for all of them.

    Raises:
        UsageError: The starting program fails.
        MachineError: A model, the sandbox, the evaluator or the disk failed.
    """
    store = Store.create(folder)
    try:
        _note_launch(store, {})
        return _run(store, problem, settings, evaluators, view, named=named)
    finally:
        is_empty = store.last_generation() is None
        store.close()
        if is_empty:
            shutil.rmtree(folder, ignore_errors=True)


def resume_run(
    folder: Path,
    problem: Problem,
    settings: Settings,
    evaluators: Evaluators,
    view: View,
    *,
    named: Collection[str] | None = None,
) -> Outcome:
    """Goes on with a run from its last checkpoint, until it stops.

    Args:
        folder: The run folder.
        problem: The run's own copy.
        settings: As of now.
        evaluators: Started.
        view: Is told what happens.
        named: The addresses of models that the user has named; None for all of them.

    Raises:
        UsageError: The folder is no run, or is in use by another process.
        MachineError: A model, the sandbox, the evaluator or the disk failed.
    """
    # A run that was killed before its first checkpoint is begun again.
    with closing(Store.create(folder)) as store:
        # Before the settings: were both not written, the old ones would be taken for those of
        # generations that the new ones steered.
        _note_launch(store, find_changes(load_run(folder)[1], settings))
        save_settings(folder, settings)
        if named is not None:
            write_mark(folder, settings, named)
        return _run(store, problem, settings, evaluators, view, named=named)


def evaluate_initial(problem: Problem, evaluators: Evaluators) -> Evaluation:
    """Evaluates the starting program.

    Raises:
        ProblemError: It has no objective; the message shows why.
        EvaluatorError: The evaluator's process ended each time.
    """
    evaluation = evaluators.evaluate(problem.initial)
    if evaluation.status is Status.EVALUATOR_FAILED and evaluation.reason.startswith(LOST):
        raise EvaluatorError(f"evaluator: {evaluation.reason}")
    if evaluation.status is not Status.OK:
        texts = "".join(f"\n{text.rstrip()}" for text in evaluation.artifacts.values())
        raise ProblemError(
            f"{problem.folder / problem.initial.entry.path}: the starting program must have an "
            f"objective, got `{evaluation.status}`: {evaluation.reason}{texts}"
        )
    return evaluation


def _run(
    store: Store,
    problem: Problem,
    settings: Settings,
    evaluators: Evaluators,
    view: View,
    *,
    named: Collection[str] | None,
) -> Outcome:
    try:
        with failures_of_the_machine(store.folder), ExitStack() as stack:
            endpoints = open_endpoints(settings, store.folder, view.tell, named)
            for endpoint in endpoints.values():
                stack.callback(endpoint.close)
            settings = _prepare(
                store, problem, settings, evaluators=evaluators, endpoints=endpoints, view=view
            )
            # Slow to import: until here the machine had the sandbox to start.
            from evolve.run.searching import search

            outcome = search(
                store, problem, settings, evaluators=evaluators, endpoints=endpoints, view=view
            )
            if Purpose.HOLDOUT in problem.functions:
                view.tell(evaluate_holdout(store, evaluators, outcome.champion))
    except (EvolveError, KeyboardInterrupt) as error:
        told = isinstance(error, EvolveError)
        with suppress(StoreError):
            store.set_facts(
                stopped_because=f"{type(error).__name__}: {error}" if told else INTERRUPTED
            )
        raise
    store.set_facts(stopped_because=outcome.stopped_because)
    return outcome


def _prepare(
    store: Store,
    problem: Problem,
    settings: Settings,
    *,
    evaluators: Evaluators,
    endpoints: Mapping[str, Endpoint],
    view: View,
) -> Settings:
    """Proves the sandbox, asks the models for a sign of life, evaluates the starting program.

    Returns:
        The settings, with those filled in that depend on what an evaluation takes.
    """
    isolation = evaluators.wait()
    # From here on LiteLLM may be imported, beside the first evaluation.
    preflight = Preflight(endpoints, is_capped=settings.budget.max_cost_usd is not None)
    view.tell(describe_isolation(isolation, fresh=settings.sandbox.fresh))
    last = store.last_generation()
    if last is None:
        evaluation = evaluate_initial(problem, evaluators)
        view.tell(f"starting program: objective {evaluation.objective:.10g}")
        preflight.wait(view.tell)
        settings = _settle(store, settings, evaluation, view)
        gather_experience(store, problem, settings, evaluators.evaluate)
        _commit_initial(store, problem, settings, evaluation, isolation)
    else:
        preflight.wait(view.tell)
        if store.facts().get("stopped_because") == FRUITLESS:
            store.set_facts(**{FRUITLESS_UNTIL: last})
    store.keep(preflight.list_expenses((last or 0) + 1))
    store.set_facts(
        stopped_because=None,
        sandbox=isolation.backend,
        sandbox_missing=list(isolation.missing),
        replay=settings.models.replay,
    )
    return settings


def _settle(store: Store, settings: Settings, evaluation: Evaluation, view: View) -> Settings:
    """Fills in how many evaluations tune constants, and reports it."""
    settled = settle_tuning(settings, evaluation.seconds)
    if settings.tuning.share is None:
        save_settings(store.folder, settled)
        tuning = size_of(settled).tuning
        view.tell(
            f"tuning: {tuning} evaluations beside each generation tune constants"
            if tuning
            else "tuning: off, since an evaluation takes too long or the cap leaves too few"
        )
    return settled


def _commit_initial(
    store: Store,
    problem: Problem,
    settings: Settings,
    evaluation: Evaluation,
    isolation: Isolation,
) -> None:
    attempt = Attempt(INITIAL, 0, None, 0, None, problem.initial, evaluation)
    store.set_facts(
        problem=problem.name,
        direction=str(problem.direction),
        cooperative=problem.cooperative,
        seed=settings.loop.seed,
        sandbox=isolation.backend,
        version=__version__,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    freeze_past(store, problem, settings.search)
    store.keep([Evaluated(INITIAL, problem.initial, evaluation)])
    place = EvaluationPlace(INITIAL, INITIAL)
    store.commit(Generation(0, (SlotResult(0, (Told(attempt, place),)),), 0.0))


def _note_launch(store: Store, changes: Mapping[str, tuple[Any, Any]]) -> None:
    earlier = store.launches()
    store.add_launch(
        Launch(
            number=earlier[-1].number + 1 if earlier else 1,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            pid=os.getpid(),
            host=socket.gethostname(),
            version=__version__,
            generation=store.newest_recorded() + 1,
            changes=changes,
        )
    )
