"""A run while this process runs it: what it opens, its search, its end."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from evolve import __version__
from evolve.errors import EvolveError, StoreError, UsageError
from evolve.evaluation.pool import Evaluators
from evolve.models.endpoint import Endpoint
from evolve.models.roster import ask_first_words, open_endpoints
from evolve.operators.tuning import MOST_SESSIONS
from evolve.problem import Purpose
from evolve.records.results import FRUITLESS, FRUITLESS_UNTIL, GENERATIONS, INTERRUPTED
from evolve.runs.opening import Run, RunView, failures_of_the_machine, interruptible
from evolve.runs.outcome import (
    BestWriter,
    Outcome,
    draw_answer,
    evaluate_holdout,
    read_outcome,
)
from evolve.runs.proving import Recording
from evolve.runs.run_folder import (
    SETTINGS_FILE,
    checksum_evaluator,
    load_run,
    save_settings,
    write_mark,
)
from evolve.runs.starting import FirstCheckpoint, RunAsks, rescore_elites
from evolve.runs.wiring import (
    WORKERS,
    count_threads,
    describe_isolation,
    restore_budget,
)
from evolve.runs.world import describe_difference, describe_linked
from evolve.search.knowledge import find_misfit, remember
from evolve.search.loop import Inbox, Interrupt, Search
from evolve.search.population import expect_frozen, load_population
from evolve.settings import Invocation, SettingsHistory, find_changes
from evolve.steps.journal import Journal
from evolve.store import DATABASE, Store


class LiveRun:
    """A run that this process holds.

    Args:
        run: The run.
        evaluators: Started.
        view: Shows what happens.
    """

    def __init__(self, run: Run, evaluators: Evaluators, view: RunView) -> None:
        # A run that was killed before its first checkpoint is begun again.
        self._store = Store.create(run.folder)
        self._run = run
        self._evaluators = evaluators
        self._view = view

    def run(self) -> Outcome:
        """Runs from the last checkpoint until something ends the run; see `run_to_end`."""
        store = self._store
        try:
            if (finished := self._read_finished()) is not None:
                return finished
            self._note_invocation()
            outcome = self._run_noting_failures()
            store.set_facts(stopped_because=outcome.stopped_because)
            return outcome
        finally:
            is_empty = self._run.original is not None and store.last_generation() is None
            store.close()
            if is_empty:
                # First what makes it a run: an interrupt may leave the rest.
                for name in (DATABASE, SETTINGS_FILE):
                    with suppress(OSError):
                        (self._run.folder / name).unlink()
                shutil.rmtree(self._run.folder, ignore_errors=True)

    def _read_finished(self) -> Outcome | None:
        """Returns how a run ended that has done all its generations; None where there is more."""
        store, run = self._store, self._run
        last, limit = store.last_generation(), run.settings.loop.generations
        if last is None or limit is None or last < limit or run.rescores:
            return None
        is_finished = store.facts().get("stopped_because") == GENERATIONS
        if not is_finished or store.invocations()[-1].evaluator != checksum_evaluator(run.folder):
            return None
        state = load_population(store, run.problem, run.settings.search)
        return read_outcome(store, state, GENERATIONS)

    def _note_invocation(self) -> None:
        run, earlier = self._run, self._store.invocations()
        is_new = run.original is not None
        before, evaluator = earlier[-1].evaluator if earlier else "", checksum_evaluator(run.folder)
        # Before the settings: were both not written, the old ones would be taken for those of
        # generations that the new ones steered.
        self._store.add_invocation(
            Invocation(
                number=earlier[-1].number + 1 if earlier else 1,
                started=datetime.now(UTC).isoformat(timespec="seconds"),
                pid=os.getpid(),
                host=socket.gethostname(),
                version=__version__,
                generation=self._store.newest_recorded() + 1,
                changes={} if is_new else find_changes(load_run(run.folder)[1], run.settings),
                evaluator=evaluator,
                replaced=before if before != evaluator else "",
            )
        )
        if not is_new:
            save_settings(run.folder, run.settings)
            write_mark(run.folder, run.settings, run.named)

    def _run_noting_failures(self) -> Outcome:
        run, view = self._run, self._view
        try:
            with failures_of_the_machine(run.folder), ExitStack() as stack:
                endpoints = open_endpoints(run.settings, run.folder, view.tell, run.named)
                for endpoint in endpoints.values():
                    stack.callback(endpoint.close)
                asks = RunAsks(self._store, run.problem, run.settings, self._evaluators, endpoints)
                self._prepare(endpoints, asks)
                outcome = self._search(endpoints, asks)
                self._finish(outcome, asks)
                # The hold-out may ask models, too.
                return replace(outcome, spent=self._store.spent())
        except (EvolveError, KeyboardInterrupt) as error:
            failed = isinstance(error, EvolveError)
            because = f"{type(error).__name__}: {error}" if failed else INTERRUPTED
            with suppress(StoreError):
                self._store.set_facts(stopped_because=because)
            raise

    def _prepare(self, endpoints: Mapping[str, Endpoint], asks: RunAsks) -> None:
        """Proves sandbox and models; a run without a checkpoint gets its first."""
        store, view, run = self._store, self._view, self._run
        with view.waiting(self._evaluators.waits_for):
            isolation = self._evaluators.wait()
        view.tell(describe_isolation(isolation, fresh=run.settings.sandbox.fresh))
        last = store.last_generation()
        with view.waiting("asking each model for a first word"):
            is_capped = run.settings.budget.max_cost_usd is not None
            generation = (last or 0) + 1
            store.keep(ask_first_words(endpoints, generation, is_capped=is_capped, tell=view.tell))
        self._tell_of_problem()
        if last is None:
            first = FirstCheckpoint(run, store, self._evaluators, view, asks)
            first.commit(endpoints)
            self._run = first.run
        elif run.rescores:
            with view.waiting("evaluating the elites again"), asks.recording():
                last, count = rescore_elites(run, store, self._evaluators)
            view.tell(f"generation {last}: {count} programs evaluated again; archives begin anew")
        elif store.facts().get("stopped_because") == FRUITLESS:
            store.set_facts(**{FRUITLESS_UNTIL: last})
        store.set_facts(
            stopped_because=None,
            sandbox=isolation.backend,
            sandbox_missing=list(isolation.missing),
            replay=run.settings.models.replay,
        )

    def _tell_of_problem(self) -> None:
        """Reports what is not copied, was changed, is new, or too large for prompts."""
        run, is_new = self._run, self._run.original is not None
        lines = describe_linked(run.folder, changed=not is_new)
        if run.settings.models.is_configured:
            lines += find_misfit(run.problem, run.settings.models)
        if not is_new:
            lines += describe_difference(run.folder, run.problem)
        if self._store.invocations()[-1].replaced and not run.rescores:
            lines.append(
                "evaluator: another one from here on; earlier objectives are those of the one "
                "before; `evolve resume --rescore` evaluates the elites again"
            )
        for line in lines:
            self._view.tell(line)

    def _search(self, endpoints: Mapping[str, Endpoint], asks: RunAsks) -> Outcome:
        store, problem, settings = self._store, self._run.problem, self._run.settings
        expect_frozen(store, problem, settings.search)
        events = Inbox()
        journal = self._open_journal(endpoints, events)
        slots_in_flight = (settings.loop.slots + MOST_SESSIONS) * (settings.loop.lag + 1)
        with (
            asks.searching(journal.budget, events.record),
            self._view.watch(store, problem, settings, journal) as observers,
            interruptible(lambda: events.put(Interrupt())),
        ):
            search = Search(
                problem,
                SettingsHistory(settings, store.invocations()),
                store,
                journal=journal,
                events=events,
                observers=(BestWriter(store), *observers),
                threads=count_threads(settings, slots_in_flight),
            )
            reason = search.run()
        return read_outcome(store, search.population, reason)

    def _open_journal(self, endpoints: Mapping[str, Endpoint], events: Inbox) -> Journal:
        """Returns the way to models and evaluators."""
        settings, replay = self._run.settings, self._run.settings.models.replay
        return Journal(
            endpoints=endpoints,
            evaluator=self._evaluators.evaluate,
            budget=restore_budget(self._store, settings),
            keep=events.record,
            workers=settings.loop.workers or WORKERS,
            deadline_seconds=settings.models.deadline_seconds,
            successors={role: ones[0].name for role, ones in settings.models.roster().items()},
            recording=Recording(Path(replay)).answer if replay else None,
            cut_evaluations=self._evaluators.cut,
            describe_machines=self._evaluators.describe,
            asks=bool(self._run.problem.asks),
        )

    def _finish(self, outcome: Outcome, asks: RunAsks) -> None:
        """Remembers what was learnt; evaluates the champion as its problem asks for."""
        store, view, problem = self._store, self._view, self._run.problem
        try:
            line = remember(store, problem)
        except (UsageError, OSError) as error:
            # What the run found is safe; its next invocation adds to the file what is missing.
            line = f"memory: nothing was added: {error}"
        if line:
            view.tell(line)
        functions = problem.functions if outcome.best is not None else {}
        if Purpose.HOLDOUT in functions:
            try:
                with view.waiting("evaluating the champion on the hold-out"), asks.recording():
                    line = evaluate_holdout(store, self._evaluators, outcome.champion)
            except UsageError as error:
                line = f"hold-out: not evaluated: {error}"
            view.tell(line)
        if Purpose.PLOT in functions:
            with view.waiting("drawing the champion's answer"), asks.recording():
                draw_answer(store, self._evaluators, outcome.champion)
