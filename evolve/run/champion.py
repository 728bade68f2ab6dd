"""The champion of a run: its files in `best/`, and its verdict on the hold-out."""

from __future__ import annotations

from contextlib import closing
from shlex import quote

from evolve.errors import EvaluatorError, StoreError, UsageError
from evolve.evaluation.pool import Evaluators
from evolve.population import Population
from evolve.problem import PRODUCTS, Purpose
from evolve.records import INITIAL, AttemptKey, Evaluation, Program, Status
from evolve.records.results import SlotResult
from evolve.run.folder import BEST_FOLDER, write_program
from evolve.run.opening import Run
from evolve.run.wiring import open_evaluators
from evolve.search.loop import Observer
from evolve.store import Store


class BestWriter:
    """Keeps `best/` in step with the champion, and passes all events on.

    Args:
        store: The run's database.
        observer: Gets the events, too.
    """

    def __init__(self, store: Store, observer: Observer) -> None:
        self._store = store
        self._observer = observer
        self._written: AttemptKey | None = None

    def on_slot(self, result: SlotResult) -> None:
        """Passes the end of a slot on."""
        self._observer.on_slot(result)

    def on_commit(self, population: Population) -> None:
        """Writes the champion's files when there is a new one."""
        champion = population.champion
        if champion is not None and champion.key != self._written:
            folder = self._store.folder
            try:
                write_program(folder, self._store.load_attempt(champion.key), below=BEST_FOLDER)
            except StoreError as error:
                raise StoreError(
                    f"{error}; what was committed is safe: mend that, then "
                    f"`evolve resume {quote(str(folder))}`"
                ) from error
            self._written = champion.key
        self._observer.on_commit(population)

    def on_tick(self) -> None:
        """Passes the time on."""
        self._observer.on_tick()


def evaluate_holdout(store: Store, evaluators: Evaluators, champion: AttemptKey) -> str:
    """Evaluates the champion and the starting program on the hold-out, each once in a run.

    The verdicts are kept with the facts of the run: neither selection nor any prompt sees them.

    Args:
        store: The run.
        evaluators: Of a problem that has a hold-out.
        champion: Of the run as it stands.

    Returns:
        One line for people.

    Raises:
        SandboxError: The sandbox broke.
        EvaluatorError: The evaluator broke.
    """
    verdicts = store.holdout()
    lines = []
    for name, key in (("champion", champion), ("starting program", INITIAL)):
        program = store.load_attempt(key).program_or_fail
        if program.id not in verdicts:
            verdicts[program.id] = evaluators.evaluate(program, Purpose.HOLDOUT)
        lines.append(f"{name} {describe(verdicts[program.id])}")
    store.set_facts(holdout=verdicts)
    return f"hold-out: {', '.join(lines)} (never selected on)"


def ask_for_product(run: Run, program: Program, purpose: Purpose) -> str:
    """Lets the evaluator make something of a program's answer.

    Args:
        run: The run.
        program: Mostly the champion.
        purpose: One that `PRODUCTS` has.

    Returns:
        The text of the product: an SVG picture, or a file to submit.

    Raises:
        UsageError: The problem's evaluator has no function for it.
        EvaluatorError: The evaluator or the program failed.
        SandboxError: The sandbox broke.
    """
    if purpose not in run.problem.functions:
        raise UsageError(
            f"{run.problem.name}: its evaluator makes no {PRODUCTS[purpose]}; name a function "
            f'of it in `{purpose} = "..."` of problem.toml'
        )
    with closing(open_evaluators(run.problem, run.settings)) as evaluators:
        evaluators.start()
        evaluators.wait()
        verdict = evaluators.evaluate(program, purpose)
    name = PRODUCTS[purpose]
    if name not in verdict.artifacts:
        raise EvaluatorError(
            f"evaluator: expected an artifact `{name}`, got {verdict.status} {verdict.reason}"
        )
    return verdict.artifacts[name]


def describe(verdict: Evaluation) -> str:
    """Returns a verdict in a few words."""
    if verdict.status is not Status.OK:
        return f"{verdict.status}: {verdict.reason}"
    return f"{verdict.objective:.10g}"
