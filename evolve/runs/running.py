"""A run while this process runs it: what it opens, its first checkpoint, its search, its end."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from evolve import __version__
from evolve.errors import (
    EvolveError,
    ProblemError,
    StoreError,
    UsageError,
)
from evolve.evaluation.pool import Evaluators
from evolve.models.endpoint import Endpoint
from evolve.models.roster import Preflight, open_endpoints
from evolve.operators.sessions import MOST_SESSIONS
from evolve.population.snapshot import expect_frozen, freeze_past, load_state
from evolve.problem import COOPERATIVE, Purpose
from evolve.problem.noise import measure_noise, write_noise
from evolve.records import (
    INITIAL,
    INJECT,
    VALIDATION,
    Attempt,
    AttemptKey,
    Evaluation,
    Plan,
    Program,
    average,
)
from evolve.records.results import (
    FRUITLESS,
    FRUITLESS_UNTIL,
    GENERATIONS,
    INTERRUPTED,
    Evaluated,
    Generation,
    as_slot,
)
from evolve.records.steering import steering_of
from evolve.runs.asked_models import RunAsks
from evolve.runs.estimate import RoleEstimate, estimate_roles, expect_two_generations
from evolve.runs.first_evaluation import evaluate_initial
from evolve.runs.interrupts import failures_of_the_machine, interrupts
from evolve.runs.mending import describe_difference, rescore_elites
from evolve.runs.opening import Run, RunView
from evolve.runs.outcome import (
    BestWriter,
    Outcome,
    describe,
    draw_answer,
    evaluate_holdout,
    read_outcome,
)
from evolve.runs.run_folder import EVALUATOR_FOLDER, load_run, save_settings
from evolve.runs.trust import is_code, write_mark
from evolve.runs.wiring import (
    WORKERS,
    count_threads,
    describe_isolation,
    explain_no_tuning,
    gather_experience,
    open_recording,
    restore_budget,
    settle_tuning,
)
from evolve.runs.world import checksum_folder, describe_linked
from evolve.sandbox.limits import Isolation
from evolve.search.events import Inbox, Interrupt
from evolve.search.lasting import remember
from evolve.search.loop import Search
from evolve.search.previews import find_misfit, preview_prompts
from evolve.search.schedule import size_of
from evolve.search.select import repeats_of
from evolve.settings import Invocation, SettingsHistory, change_settings, find_changes
from evolve.settings.sections import STRATEGIES
from evolve.source import fingerprint
from evolve.steps.journal import Journal
from evolve.steps.slot import reject, same_as
from evolve.store import Store

# How often an evaluation is cut that a model has made pointless.
_CUT_SECONDS = 0.2
# A starting program has this long, whatever the cap on time is.
_LEAST_SECONDS = 5.0


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
        self._settings = run.settings
        self._evaluators = evaluators
        self._view = view
        self._start_seconds = 0.0
        self._asks = RunAsks(self._store, run.problem, self._settings, evaluators)

    def run(self) -> Outcome:
        """Runs from the last checkpoint until something ends the run; see `run_to_end`."""
        store = self._store
        is_empty = False
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
                shutil.rmtree(self._run.folder, ignore_errors=True)

    def _read_finished(self) -> Outcome | None:
        """Returns how a run ended that has done all its generations; None where there is more."""
        store, run = self._store, self._run
        last, limit = store.last_generation(), self._settings.loop.generations
        if last is None or limit is None or last < limit or run.rescores:
            return None
        is_finished = store.facts().get("stopped_because") == GENERATIONS
        if not is_finished or store.invocations()[-1].evaluator != self._checksum_evaluator():
            return None
        state = load_state(store, run.problem, self._settings.search)
        return read_outcome(store, state, GENERATIONS)

    def _checksum_evaluator(self) -> str:
        return checksum_folder(self._run.folder / EVALUATOR_FOLDER, is_code)

    def _note_invocation(self) -> None:
        run, earlier = self._run, self._store.invocations()
        changes: Mapping[str, Any] = {}
        if run.original is None:
            changes = find_changes(load_run(run.folder)[1], run.settings)
        before = earlier[-1].evaluator if earlier else ""
        evaluator = self._checksum_evaluator()
        # Before the settings: were both not written, the old ones would be taken for those of
        # generations that the new ones steered.
        self._store.add_invocation(
            Invocation(
                number=earlier[-1].number + 1 if earlier else 1,
                started=_now(),
                pid=os.getpid(),
                host=socket.gethostname(),
                version=__version__,
                generation=self._store.newest_recorded() + 1,
                changes=changes,
                evaluator=evaluator,
                replaced=before if before != evaluator else "",
            )
        )
        if run.original is None:
            save_settings(run.folder, run.settings)
            write_mark(run.folder, run.settings, run.named)

    def _run_noting_failures(self) -> Outcome:
        try:
            with failures_of_the_machine(self._run.folder), ExitStack() as stack:
                endpoints = open_endpoints(
                    self._settings, self._run.folder, self._view.tell, self._run.named
                )
                for endpoint in endpoints.values():
                    stack.callback(endpoint.close)
                self._asks.open(endpoints)
                self._prepare(endpoints)
                outcome = self._search(endpoints)
                self._remember()
                functions = self._run.problem.functions if outcome.best is not None else {}
                if Purpose.HOLDOUT in functions:
                    with self._view.waiting("evaluating the champion on the hold-out"):
                        line = self._evaluate_holdout(outcome.champion)
                    self._view.tell(line)
                if Purpose.PLOT in functions:
                    with (
                        self._view.waiting("drawing the champion's answer"),
                        self._asks.recording(),
                    ):
                        draw_answer(self._store, self._evaluators, outcome.champion)
                return outcome
        except (EvolveError, KeyboardInterrupt) as error:
            failed = isinstance(error, EvolveError)
            because = f"{type(error).__name__}: {error}" if failed else INTERRUPTED
            with suppress(StoreError):
                self._store.set_facts(stopped_because=because)
            raise

    def _evaluate_holdout(self, champion: AttemptKey) -> str:
        try:
            with self._asks.recording():
                return evaluate_holdout(self._store, self._evaluators, champion)
        except UsageError as error:
            return f"hold-out: not evaluated: {error}"

    def _remember(self) -> None:
        """Adds what the run has learnt to the file that outlasts it."""
        try:
            line = remember(self._store, self._run.problem)
        except (UsageError, OSError) as error:
            # What the run found is safe; its next invocation adds to the file what is missing.
            line = f"memory: nothing was added: {error}"
        if line:
            self._view.tell(line)

    def _prepare(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Proves sandbox and models; evaluates the starting program of a run without one."""
        store, view = self._store, self._view
        with view.waiting("proving the sandbox"):
            isolation = self._evaluators.wait()
        # From here on LiteLLM may be imported, during the first evaluation.
        is_capped = self._settings.budget.max_cost_usd is not None
        is_past = threading.Event()
        preflight = Preflight(
            endpoints, is_capped=is_capped, on_error=partial(self._cut_until, is_past)
        )
        view.tell(describe_isolation(isolation, fresh=self._settings.sandbox.fresh))
        last = store.last_generation()
        evaluation = None
        if last is None:
            evaluation = self._evaluate_first(preflight, endpoints, is_past)
        is_past.set()
        with view.waiting("asking each model for a first word"):
            preflight.wait(view.tell)
        self._tell_of_problem()
        if evaluation is not None:
            self._commit_initial(evaluation, isolation)
        elif self._run.rescores:
            with view.waiting("evaluating the elites again"), self._asks.recording():
                last, count = rescore_elites(
                    store, self._run.problem, self._settings.search, self._evaluators
                )
            view.tell(f"generation {last}: {count} programs evaluated again; archives begin anew")
        elif store.facts().get("stopped_because") == FRUITLESS:
            store.set_facts(**{FRUITLESS_UNTIL: last})
        store.keep(preflight.list_expenses((last or 0) + 1))
        store.set_facts(
            stopped_because=None,
            sandbox=isolation.backend,
            sandbox_missing=list(isolation.missing),
            replay=self._settings.models.replay,
        )

    def _cut_until(self, is_past: threading.Event) -> None:
        # Again and again, for the evaluation may only be about to begin.
        while not is_past.wait(_CUT_SECONDS):
            self._evaluators.cut()

    def _evaluate_first(
        self, preflight: Preflight, endpoints: Mapping[str, Endpoint], is_past: threading.Event
    ) -> Evaluation:
        """Evaluates the starting program of a run that may begin."""
        try:
            evaluation = self._evaluate_start()
        except EvolveError:
            # It may have been cut for a model that cannot be used.
            preflight.expect_usable()
            raise
        finally:
            is_past.set()
        if not self._run.is_forced:
            self._expect_two_generations(evaluation, endpoints)
        return evaluation

    def _evaluate_start(self) -> Evaluation:
        """Evaluates the starting program within the cap on time, to which it counts."""
        problem, cap = self._run.problem, self._settings.budget.max_seconds
        again, started = repeats_of(problem, self._settings.search), time.monotonic()
        with (
            self._view.waiting("evaluating the starting program"),
            _calling_after(cap and max(cap, _LEAST_SECONDS), self._evaluators.cut),
            self._asks.recording(),
        ):
            evaluation = evaluate_initial(
                problem, self._evaluators, again, may_fail=self._settings.loop.allow_broken_start
            )
        self._start_seconds = time.monotonic() - started
        is_scored = "objective " * (evaluation.objective is not None)
        self._view.tell(f"starting program: {is_scored}{describe(evaluation)}")
        is_pareto = STRATEGIES[self._settings.search.strategy].rule == "pareto"
        if (
            is_pareto
            and is_scored
            and not any(not one.startswith(VALIDATION) for one in evaluation.instances)
        ):
            raise UsageError(
                "--strategy pareto: expected an evaluator that reports `instances`, got none; "
                "`Score(..., instances={...})` names them"
            )
        if problem.cooperative:
            self._view.tell(COOPERATIVE)
        self._note_noise(evaluation)
        return evaluation

    def _expect_two_generations(
        self, evaluation: Evaluation, endpoints: Mapping[str, Endpoint]
    ) -> None:
        def estimate() -> list[RoleEstimate]:
            prompts = preview_prompts(
                self._run.problem, self._settings, evaluation, self._evaluators.evaluate
            )
            return estimate_roles(
                self._settings, prompts, lambda name: endpoints[name].find_price()
            )

        expect_two_generations(self._settings, estimate)

    def _note_noise(self, evaluation: Evaluation) -> None:
        """Writes noise that the problem does not declare into the run's copy of it."""
        run, noise = self._run, measure_noise(evaluation)
        if noise > run.problem.noise:
            self._view.tell(
                f"evaluated {len(evaluation.repeats)} times, its objectives differ by {noise:.3g}: "
                "less is no gain in this run; `evolve check` writes that into problem.toml"
            )
            write_noise(run.problem.folder, noise)
            write_mark(run.folder, run.settings, run.named)
            self._run = replace(run, problem=replace(run.problem, noise=noise))

    def _tell_of_problem(self) -> None:
        """Reports what is not copied, was changed, is new, or too large for prompts."""
        folder, is_new = self._run.folder, self._run.original is not None
        lines = describe_linked(folder, changed=not is_new)
        if self._settings.models.is_configured:
            lines += find_misfit(self._run.problem, self._settings.models)
        if not is_new:
            lines += describe_difference(folder, self._run.problem)
        if self._store.invocations()[-1].replaced and not self._run.rescores:
            lines.append(
                "evaluator: another one from here on; earlier objectives are those of the one "
                "before; `evolve resume --rescore` evaluates the elites again"
            )
        for line in lines:
            self._view.tell(line)

    def _commit_initial(self, evaluation: Evaluation, isolation: Isolation) -> None:
        store, problem = self._store, self._run.problem
        self._settle_tuning(evaluation)
        self._settle_kind()
        gather_experience(store, problem, self._settings, self._evaluators.evaluate)
        store.set_facts(
            problem=problem.name,
            direction=str(problem.direction),
            cooperative=problem.cooperative,
            seed=self._settings.loop.seed,
            sandbox=isolation.backend,
            version=__version__,
            started=_now(),
        )
        freeze_past(store, problem, self._settings.search)
        store.keep([Evaluated(INITIAL, problem.initial, evaluation)])
        attempt = Attempt(INITIAL, 0, None, 0, None, problem.initial, evaluation)
        starts = [attempt, *self._evaluate_further(attempt)]
        if all(one.objective is None for one in starts) and not (
            self._settings.models.is_configured
        ):
            raise ProblemError(
                f"{problem.name}: no starting program has an objective, and only a model can "
                f"write one: --model NAME; {evaluation.reason}"
            )
        store.commit(Generation(0, tuple(map(as_slot, starts)), self._start_seconds))

    def _evaluate_further(self, first: Attempt) -> list[Attempt]:
        """Evaluates the further starting programs, each for an island of its own in turn."""
        store, settings, problem = self._store, self._settings, self._run.problem
        store.begin_steering(0)
        further = steering_of(store.steering(), 0).injected
        cap, started = settings.budget.max_evaluations, time.monotonic()
        if cap is not None and cap <= len(further):
            raise UsageError(
                f"--max-evaluations: expected at least {len(further) + 1} for all starting "
                f"programs, got {cap}"
            )
        attempts = [first]
        for steer in further:
            program, key = Program(steer.files), AttemptKey(0, len(attempts), 0)
            known = {fingerprint(one.program_or_fail): one.key for one in attempts}
            earlier = known.get(fingerprint(program))
            if earlier is None:
                with self._view.waiting(f"evaluating {steer.text}"), self._asks.recording():
                    again = 1 + repeats_of(problem, settings.search)
                    verdict = average([self._evaluators.evaluate(program) for _ in range(again)])
                store.keep([Evaluated(key, program, verdict)])
                self._view.tell(f"{steer.text}: {describe(verdict)}")
            else:
                verdict = reject(same_as(earlier))
            plan = Plan(change=steer.text, operator=INJECT)
            island = len(attempts) % settings.search.islands
            attempts.append(Attempt(key, island, INITIAL, 1, plan, program, verdict))
        self._start_seconds += time.monotonic() - started
        return attempts[1:]

    def _settle_tuning(self, evaluation: Evaluation) -> None:
        """Fills in how many evaluations tune constants, and reports it."""
        settled = settle_tuning(self._run.problem, self._settings, evaluation.seconds)
        if settled is not self._settings:
            save_settings(self._run.folder, settled)
            tuning = size_of(settled).tuning
            problem = self._run.problem
            self._view.tell(
                f"tuning: {tuning} evaluations beside each generation tune constants"
                if tuning
                else f"tuning: off: {explain_no_tuning(problem, settled, evaluation.seconds)}"
            )
        self._settings = settled

    def _settle_kind(self) -> None:
        """Keeps a run that measures time to the kind of machine that began it."""
        if self._evaluators.kind != self._settings.cluster.kind:
            changes = {"cluster.kind": self._evaluators.kind}
            self._settings = change_settings(self._settings, changes, where="defaults")
            save_settings(self._run.folder, self._settings)
            self._view.tell(f"cluster: time is measured on one kind: {self._evaluators.kind}")

    def _search(self, endpoints: Mapping[str, Endpoint]) -> Outcome:
        store, problem, settings = self._store, self._run.problem, self._settings
        expect_frozen(store, problem, settings.search)
        events = Inbox()
        journal = self._open_journal(endpoints, events)
        slots_in_flight = (settings.loop.slots + MOST_SESSIONS) * (settings.loop.lag + 1)
        with (
            self._view.watch(store, problem, settings, journal) as observers,
            interrupts(lambda: events.put(Interrupt())),
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
        self._asks.leave_search()
        return read_outcome(store, search.population, reason)

    def _open_journal(self, endpoints: Mapping[str, Endpoint], events: Inbox) -> Journal:
        """Returns the way to models and evaluators."""
        store, settings = self._store, self._settings
        budget = restore_budget(store, settings)
        self._asks.enter_search(budget, events.record)
        return Journal(
            endpoints=endpoints,
            evaluate=self._evaluators.evaluate,
            budget=budget,
            keep=events.record,
            workers=settings.loop.workers or WORKERS,
            deadline_seconds=settings.models.deadline_seconds,
            fallbacks=settings.models.fallbacks,
            successors={role: ones[0].name for role, ones in settings.models.roster().items()},
            tell=self._view.tell,
            recording=open_recording(settings),
            cut_evaluations=self._evaluators.cut,
            describe_machines=self._evaluators.describe,
            asks=bool(self._run.problem.asks),
        )


@contextmanager
def _calling_after(seconds: float | None, function: Callable[[], None]) -> Iterator[None]:
    """Calls a function if the context is still open after some time."""
    timer = threading.Timer(seconds or 0.0, function)
    timer.daemon = True
    if seconds is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
