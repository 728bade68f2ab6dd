"""What a run has come to: its champion in `best/`, its hold-out, and how it ended."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from shlex import quote
from types import MappingProxyType
from typing import Any

from evolve.display import shorten
from evolve.errors import EvaluatorError, StoreError, UsageError
from evolve.evaluation.pool import Evaluators
from evolve.files import write_inside, writing
from evolve.operators.changes import NO_PLACE
from evolve.problem import PRODUCTS, Purpose
from evolve.records import INITIAL, AttemptKey, Evaluation, Program, Status
from evolve.records.results import Generation
from evolve.runs.opening import Run
from evolve.runs.run_folder import BEST_FOLDER, write_program
from evolve.runs.wiring import evaluating
from evolve.search.loop import Observer
from evolve.search.population import Population
from evolve.store import Store

_DETAIL = re.compile(r"\d+(\.\d+)?|'[^']*'|\"[^\"]*\"|`[^`]*`")
_LONGEST = 140
PICTURED = "pictured"
"""The fact that names the program whose answer the picture in `best/` shows."""
# By what a reason says: what to change where most attempts are rejected for it.
_ADVICE = {
    "cut off": "unset `models.max_tokens` or raise it, raise --max-cost, or lower `effort.all`",
    "empty reply|content filter": "try another model, or lower `effort.all`",
    "too long": "lower `models.digest_tokens`, or take a model with a larger context",
    "refused the request": "leave out what the provider refuses: `drop` in `endpoints`, see "
    "docs/reference/models.md",
    "no answer|cannot be used": "try another model, or raise `models.request_seconds`",
    "known|seen before|same program|duplicate": "raise `temperature.all`, or take another model",
    NO_PLACE: "put code between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END, or take a model "
    "(--model NAME)",
    "": "try `--set steps.form=rewrite`, or a stronger model",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run, or this part of it, came to its end.

    Attributes:
        stopped_because: A word of `records.results`: the end, or the cap that was reached.
        initial: Objective of the starting program, the first that has one; None for no such.
        best: Objective of the champion; None where no program has an objective.
        noise: How far two objectives of one program may lie apart.
        programs: How many programs were evaluated.
        cooperative: Whether programs can forge their scores.
        improved: Whether the champion is better than the starting program.
        champion: The best program's attempt; the start where no program has an objective.
        spent: What all of the run has used so far: evaluations, calls, tokens, money.
        seconds: How long all of the run has taken so far.
        rejections: How many attempts were rejected, by reason.
    """

    stopped_because: str
    initial: float | None
    best: float | None
    noise: float
    programs: int
    cooperative: bool
    improved: bool
    champion: AttemptKey
    spent: Mapping[str, Any]
    seconds: float
    rejections: Mapping[str, int]


def read_outcome(store: Store, run_state: Population, stopped_because: str) -> Outcome:
    """Returns how a run ended.

    Raises:
        UsageError: The run has no checkpoint.
    """
    initial, champion = run_state.initial, run_state.champion
    if run_state.generation < 0:
        raise UsageError(f"{store.folder}: the run has no checkpoint")
    improved = False
    if initial is not None and champion is not None:
        # It may work as the first program did not.
        is_repaired = store.objective_of(INITIAL) is None
        improved = is_repaired or run_state.direction.is_better(champion.objective, initial)
    return Outcome(
        stopped_because,
        initial,
        None if champion is None else champion.objective,
        run_state.noise,
        run_state.programs,
        bool(store.facts().get("cooperative")),
        improved,
        INITIAL if champion is None else champion.key,
        store.spent(),
        store.seconds(),
        run_state.rejections,
    )


class ReasonCounts:
    """Counts reasons; those that differ only in numbers and names count as one.

    Args:
        counts: What is counted already, by reason.
    """

    def __init__(self, counts: Mapping[str, int] = MappingProxyType({})) -> None:
        self._counts: Counter[str] = Counter()
        self._shown: dict[str, str] = {}
        for reason, count in counts.items():
            self.add(reason, count)

    def add(self, reason: str, count: int = 1) -> None:
        """Counts a reason; the first of its form stands for all of them."""
        reason = NO_PLACE if reason.endswith(f": {NO_PLACE}") else reason
        form = _DETAIL.sub("_", reason)
        self._counts[form] += count
        self._shown.setdefault(form, shorten(" ".join(reason.split()), _LONGEST))

    def most_common(self, count: int | None = None) -> list[tuple[str, int]]:
        """Returns the reasons with their counts, the most frequent first."""
        return [(self._shown[form], n) for form, n in self._counts.most_common(count)]


def advise(reason: str) -> str:
    """Returns what to change where most attempts are rejected for a reason."""
    return next(advice for words, advice in _ADVICE.items() if re.search(words, reason))


class BestWriter(Observer):
    """Keeps `best/` in step with the champion.

    Args:
        store: The run's database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: AttemptKey | None = None

    def on_commit(self, population: Population, generation: Generation | None) -> None:  # noqa: ARG002
        """Writes the champion's files when there is a new one."""
        champion = population.champion
        if champion is None or champion.key == self._written:
            return
        folder = self._store.folder
        try:
            write_program(folder, self._store.load_attempt(champion.key), below=BEST_FOLDER)
        except StoreError as error:
            raise StoreError(
                f"{error}; what was committed is safe: mend that, then "
                f"`evolve resume {quote(str(folder))}`"
            ) from error
        self._written = champion.key


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


def draw_answer(store: Store, evaluators: Evaluators, champion: AttemptKey) -> None:
    """Lets the evaluator draw the champion's answer into `best/`, where the report finds it.

    Args:
        store: The run.
        evaluators: Of a problem that can draw.
        champion: Of the run as it stands.

    Raises:
        SandboxError: The sandbox broke.
        EvaluatorError: The evaluator broke.
        StoreError: The picture cannot be written.
    """
    name = PRODUCTS[Purpose.PLOT]
    program = store.load_attempt(champion).program_or_fail
    if store.facts().get(PICTURED) == program.id:
        return
    verdict = evaluators.evaluate(program, Purpose.PLOT)
    # A champion that fails this time has no picture; nothing of the run depends on one.
    if name in verdict.artifacts:
        with writing(store.folder):
            write_inside(store.folder, f"{BEST_FOLDER}/{name}", verdict.artifacts[name])
        store.set_facts(**{PICTURED: program.id})


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
    with (
        closing(Store.open_to_read(run.folder)) as store,
        evaluating(run.problem, run.settings, known=store.asks()) as evaluators,
    ):
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
