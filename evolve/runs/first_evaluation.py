"""The evaluation of a starting program: it must work, and shows how far objectives lie apart."""

from __future__ import annotations

import time

from evolve.display import one_line, say, shorten
from evolve.errors import EvaluationCutError, EvaluatorError, ProblemError, UsageError
from evolve.evaluation.evaluator import LOST
from evolve.evaluation.pool import Evaluators
from evolve.problem import Problem
from evolve.problem.noise import measure_noise
from evolve.records import Evaluation, Status, average

# How often a starting program whose objectives differ is evaluated, and how long that may take.
_NOISE_EVALUATIONS, _NOISE_SECONDS = 5, 60.0
# Of a line that the starting program left, where it has no objective.
_LONGEST_LINE = 300


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
    if evaluation.status is Status.EVALUATOR_FAILED and evaluation.reason.startswith(LOST):
        raise EvaluatorError(f"evaluator: {evaluation.reason}")
    is_blamed = evaluation.status is not Status.EVALUATOR_FAILED
    if evaluation.objective is None and is_blamed and (may_fail or not problem.has_start):
        return evaluation
    if evaluation.status is not Status.OK:
        said = [line for text in evaluation.texts.values() for line in text.rstrip().split("\n")]
        texts = "".join(f"\n{shorten(line, _LONGEST_LINE)}" for line in said)
        if problem.cooperative:
            texts += (
                "\nto start from it all the same, with the score that their system gives it, "
                "import it by `evolve init --from ... --allow-broken-start`"
            )
        elif is_blamed:
            texts += "\nto let models repair it: `evolve run --allow-broken-start`"
        raise ProblemError(
            f"{problem.folder / problem.initial.entry.path}: the starting program must have an "
            f"objective, got `{evaluation.status}`: {evaluation.reason}{texts}"
        )
    verdicts, started = [evaluation], time.monotonic()
    while len(verdicts) <= again or (
        measure_noise(average(verdicts))
        and len(verdicts) < _NOISE_EVALUATIONS
        and time.monotonic() - started < _NOISE_SECONDS
    ):
        try:
            verdicts.append(evaluators.evaluate(problem.initial))
        except EvaluationCutError:
            break
        if verdicts[-1].status is not Status.OK:
            say(
                f"evaluated again, the starting program fails: {one_line(verdicts.pop().reason)}",
                err=True,
            )
            break
    return average(verdicts)
