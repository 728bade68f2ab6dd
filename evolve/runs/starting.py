"""What comes before the search: generation 0 of a new run, or its elites evaluated again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from evolve import __version__
from evolve.display import one_line, say_error, shorten
from evolve.errors import (
    BudgetExhaustedError,
    EvaluationCutError,
    EvaluatorError,
    ProblemError,
    UsageError,
)
from evolve.evaluation.evaluator import LOST
from evolve.evaluation.pool import Evaluators
from evolve.models.budget import Budget
from evolve.models.endpoint import Endpoint
from evolve.problem import COOPERATIVE, Problem
from evolve.problem.gallery import write_noise
from evolve.records import (
    INITIAL,
    INJECT,
    RESCORE,
    Attempt,
    AttemptKey,
    Evaluation,
    Plan,
    Program,
    Status,
    average,
)
from evolve.records.results import Call, Evaluated, Expense, Generation, as_slot, steering_of
from evolve.runs.opening import Run, RunView
from evolve.runs.outcome import describe
from evolve.runs.run_folder import save_settings, write_mark
from evolve.runs.wiring import (
    RoleEstimate,
    estimate_roles,
    expect_two_generations,
    plan_tuning,
    restore_budget,
)
from evolve.search.knowledge import copy_experience, note_experience, preview_prompts
from evolve.search.population import freeze_past, load_population
from evolve.search.select import repeats_of
from evolve.settings import Settings, change_settings
from evolve.settings.sections import STRATEGIES
from evolve.source.analysis import fingerprint
from evolve.steps.asker import Asker
from evolve.steps.recorder import reject, same_as
from evolve.store import Store
from evolve.store.store import AS_RECORDED

# How often a starting program whose objectives differ is evaluated, and how long that may take.
_NOISE_EVALUATIONS, _NOISE_SECONDS = 5, 60.0
# Of a line that the starting program left, where it has no objective.
_LONGEST_LINE = 300
# A starting program has this long, whatever the cap on time is.
_LEAST_SECONDS = 5.0


def evaluate_initial(
    problem: Problem, evaluators: Evaluators, again: int = 0, *, may_fail: bool = False
) -> Evaluation:
    """Evaluates the starting program.

    Where its objectives differ, it is evaluated some more times, to see how far.

    Args:
        problem: What is solved.
        evaluators: Started.
        again: How often it is evaluated again at least.
        may_fail: Whether it may have no objective; where the problem has none, what stands for
            it may.

    Returns:
        The verdict; the mean of several.

    Raises:
        ProblemError: It has no objective, and must have one; the message shows why.
        UsageError: The cap on time ended before.
        EvaluatorError: The evaluator's process ended each time.
    """
    try:
        evaluation = evaluators.evaluate(problem.initial)
    except EvaluationCutError as error:
        raise UsageError(
            "--max-time: expected more time than one evaluation of the starting program takes"
        ) from error
    if evaluation.status is not Status.OK:
        is_blamed = evaluation.status is not Status.EVALUATOR_FAILED
        if not is_blamed and evaluation.reason.startswith(LOST):
            raise EvaluatorError(f"evaluator: {evaluation.reason}")
        if is_blamed and (may_fail or not problem.has_start):
            return evaluation
        raise ProblemError(_describe_failure(problem, evaluation, is_blamed=is_blamed))
    verdicts, started = [evaluation], time.monotonic()
    while len(verdicts) <= again or (
        average(verdicts).noise
        and len(verdicts) < _NOISE_EVALUATIONS
        and time.monotonic() - started < _NOISE_SECONDS
    ):
        try:
            verdicts.append(evaluators.evaluate(problem.initial))
        except EvaluationCutError:
            break
        if verdicts[-1].status is not Status.OK:
            reason = one_line(verdicts.pop().reason)
            say_error(f"evaluated again, the starting program fails: {reason}")
            break
    return average(verdicts)


def _describe_failure(problem: Problem, evaluation: Evaluation, *, is_blamed: bool) -> str:
    said = [line for text in evaluation.texts.values() for line in text.rstrip().split("\n")]
    if problem.cooperative:
        said.append(
            "to start from it all the same, with the score that their system gives it, "
            "import it by `evolve init --from ... --allow-broken-start`"
        )
    elif is_blamed:
        said.append("to let models repair it: `evolve run --allow-broken-start`")
    texts = "".join(f"\n{shorten(line, _LONGEST_LINE)}" for line in said)
    return (
        f"{problem.folder / problem.initial.entry.path}: the starting program must have an "
        f"objective, got `{evaluation.status}`: {evaluation.reason}{texts}"
    )


class RunAsks:
    """What the evaluations of a run ask, in its search and outside of it.

    Args:
        store: The run's database.
        problem: What is evaluated.
        settings: Of the run; another run's record answers where they name one.
        evaluators: Ask, where the problem does.
        endpoints: The models of the run.
    """

    def __init__(
        self,
        store: Store,
        problem: Problem,
        settings: Settings,
        evaluators: Evaluators,
        endpoints: Mapping[str, Endpoint],
    ) -> None:
        self._store = store
        self._waiting: list[Call | Expense] = []
        self._generation = 0
        known, replay = store.asks(), settings.models.replay
        if replay:
            with closing(Store.open_to_read(Path(replay))) as recorded:
                known = recorded.asks()
        self._asker = Asker(
            endpoints=endpoints,
            models=settings.models,
            budget=restore_budget(store, settings),
            keep=self._waiting.append,
            known=known,
            next_generation=lambda: self._generation,
        )
        if problem.asks:
            evaluators.asker = self._asker.answer

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Records what evaluations outside of the search ask, for the generation that follows.

        Raises:
            UsageError: It would pass a cap.
        """
        last = self._store.last_generation()
        self._generation = 0 if last is None else last + 1
        try:
            yield
        except BudgetExhaustedError as error:
            raise UsageError(f"what an evaluation asks would pass a cap: {error}") from error
        finally:
            if self._waiting:
                self._store.keep(self._waiting)
                self._waiting.clear()

    @contextmanager
    def searching(self, budget: Budget, keep: Callable[[Call | Expense], None]) -> Iterator[None]:
        """Lets the search count and record what is asked while the context is open."""
        self._asker.budget, self._asker.keep = budget, keep
        yield
        self._asker.keep = self._waiting.append


class FirstCheckpoint:
    """Generation 0: starting programs are evaluated, and what depends on them is settled.

    Args:
        run: Without a checkpoint.
        store: Its database, open to write.
        evaluators: Ready.
        view: Shows what happens.
        asks: Records what evaluations ask.

    Attributes:
        run: With the settings and the noise that were settled.
    """

    def __init__(
        self, run: Run, store: Store, evaluators: Evaluators, view: RunView, asks: RunAsks
    ) -> None:
        self.run = run
        self._store = store
        self._evaluators = evaluators
        self._view = view
        self._asks = asks

    def commit(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Evaluates the starting programs and commits them.

        Args:
            endpoints: The models of the run.

        Raises:
            ProblemError: No starting program has an objective, and no model can write one.
            UsageError: A cap ends before, or buys fewer than two generations.
        """
        started = time.monotonic()
        evaluation = self._evaluate_start()
        if not self.run.is_forced:
            expect_two_generations(
                self.run.settings, partial(self._estimate, evaluation, endpoints)
            )
        self._note_noise(evaluation)
        self._settle_tuning(evaluation)
        self._settle_kind()
        store, problem, settings = self._store, self.run.problem, self.run.settings
        if settings.models.replay:
            # Its prompts show what those of the recorded run showed.
            copy_experience(store, Path(settings.models.replay))
        elif settings.models.is_configured:
            note_experience(store, problem, self._evaluators.evaluate)
        store.set_facts(
            problem=problem.name,
            direction=str(problem.direction),
            cooperative=problem.cooperative,
            seed=settings.loop.seed,
            version=__version__,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        freeze_past(store, problem, settings.search)
        attempt = Attempt(INITIAL, 0, None, 0, None, problem.initial, evaluation)
        store.keep([Evaluated(INITIAL, problem.initial, evaluation)])
        starts = [attempt, *self._evaluate_further(attempt)]
        if all(one.objective is None for one in starts) and not settings.models.is_configured:
            raise ProblemError(
                f"{problem.name}: no starting program has an objective, and only a model can "
                f"write one: --model NAME; {evaluation.reason}"
            )
        slots = tuple(map(as_slot, starts))
        store.commit(Generation(0, slots, time.monotonic() - started))

    def _evaluate_start(self) -> Evaluation:
        """Evaluates the starting program within the cap on time, to which it counts."""
        problem, settings = self.run.problem, self.run.settings
        cap = settings.budget.max_seconds
        again, may_fail = repeats_of(problem, settings.search), settings.loop.allow_broken_start
        with (
            self._view.waiting("evaluating the starting program"),
            _calling_after(cap and max(cap, _LEAST_SECONDS), self._evaluators.cut),
            self._asks.recording(),
        ):
            evaluation = evaluate_initial(problem, self._evaluators, again, may_fail=may_fail)
        is_scored = "objective " * (evaluation.objective is not None)
        self._view.tell(f"starting program: {is_scored}{describe(evaluation)}")
        selects_by_instance = STRATEGIES[settings.search.strategy].rule == "pareto"
        if selects_by_instance and is_scored and not evaluation.shown_instances:
            raise UsageError(
                "--strategy pareto: expected an evaluator that reports `instances`, got none; "
                "`Score(..., instances={...})` names them"
            )
        if problem.cooperative:
            self._view.tell(COOPERATIVE)
        return evaluation

    def _estimate(
        self, evaluation: Evaluation, endpoints: Mapping[str, Endpoint]
    ) -> list[RoleEstimate]:
        problem, settings = self.run.problem, self.run.settings
        prompts = preview_prompts(problem, settings, evaluation, self._evaluators.evaluate)
        return estimate_roles(settings, prompts, lambda name: endpoints[name].find_price())

    def _note_noise(self, evaluation: Evaluation) -> None:
        """Writes noise that the problem does not declare into the run's copy of it."""
        run, noise = self.run, evaluation.noise
        if noise > run.problem.noise:
            self._view.tell(
                f"evaluated {len(evaluation.repeats)} times, its objectives differ by {noise:.3g}: "
                "less is no gain in this run; `evolve check` writes that into problem.toml"
            )
            write_noise(run.problem.folder, noise)
            write_mark(run.folder, run.settings, run.named)
            self.run = replace(run, problem=replace(run.problem, noise=noise))

    def _settle_tuning(self, evaluation: Evaluation) -> None:
        """Fills in how many evaluations tune constants, where nobody said it, and reports it."""
        problem, settings = self.run.problem, self.run.settings
        if settings.tuning.share is not None:
            return
        count, why_none = plan_tuning(problem, settings, evaluation.seconds)
        self._settle(
            {"tuning.share": count / (count + settings.loop.slots)},
            f"tuning: off: {why_none}"
            if why_none
            else f"tuning: {count} evaluations beside each generation tune constants",
        )

    def _settle_kind(self) -> None:
        """Keeps a run that measures time to the kind of machine that began it."""
        kind = self._evaluators.kind
        if kind and kind != self.run.settings.cluster.kind:
            line = f"cluster: time is measured on one kind: {kind}"
            self._settle({"cluster.kind": kind}, line)

    def _settle(self, changes: Mapping[str, Any], line: str) -> None:
        settings = change_settings(self.run.settings, changes, where="defaults")
        save_settings(self.run.folder, settings)
        self.run = replace(self.run, settings=settings)
        self._view.tell(line)

    def _evaluate_further(self, first: Attempt) -> list[Attempt]:
        """Evaluates the further starting programs, each for an island of its own in turn."""
        store, problem, settings = self._store, self.run.problem, self.run.settings
        store.begin_steering(0)
        further = steering_of(store.steering(), 0).injected
        cap = settings.budget.max_evaluations
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
        return attempts[1:]


def rescore_elites(run: Run, store: Store, evaluators: Evaluators) -> tuple[int, int]:
    """Evaluates the start, the champion and all elites again; archives begin anew with that.

    Returns:
        The generation that holds the new verdicts, and how many there are.

    Raises:
        ProblemError: The starting program has no objective now.
        StoreError: The database cannot be read or written.
    """
    state = load_population(store, run.problem, run.settings.search)
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
                f"{run.problem.evaluator}: the starting program must have an objective, got "
                f"`{verdict.status}`: {verdict.reason}"
            )
        store.keep([Evaluated(new, program, verdict)])
        plan = Plan(change=f"{key} evaluated again", operator=RESCORE)
        parent = key if slot else None
        attempt = Attempt(new, island, parent, old.depth, plan, program, verdict)
        results.append(as_slot(attempt))
    # Those in flight when the evaluator broke are left as they are, and end here.
    for number in range(state.generation + 1, generation):
        store.commit(Generation(number, (), store.seconds()))
    store.commit(Generation(generation, tuple(results), store.seconds()))
    store.set_facts(**{AS_RECORDED: generation})
    return generation, len(results)


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
