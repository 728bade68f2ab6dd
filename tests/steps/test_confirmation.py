"""Programs that would lead are evaluated again before they count."""

from collections import Counter
from itertools import count

import pytest

from evolve.models.budget import Budget
from evolve.records import AttemptKey, Direction, Evaluation, Program, SourceFile, Status
from evolve.settings.sections import BudgetSettings
from evolve.steps.jobs import Confirmation, Rules
from evolve.steps.journal import Journal
from tests.commands import PROBLEM
from tests.searches import Searches

CONFIRMATION = Confirmation(Direction.MAXIMIZE, bar=1.0, times=2)


def make_slot(*objectives, max_evaluations=None):
    verdicts = iter(objectives)

    def evaluate(_):
        objective = next(verdicts)
        if objective is None:
            return Evaluation(Status.INFEASIBLE, reason="at times")
        return Evaluation(Status.OK, objective=objective)

    kept, caps = [], BudgetSettings(max_evaluations=max_evaluations)
    journal = Journal(
        endpoints={}, evaluator=evaluate, budget=Budget(caps),
        keep=kept.append, workers=1, deadline_seconds=1.0,
    )  # fmt: skip
    return journal.open_slot(1, 0, rules=Rules(CONFIRMATION)), kept


PROGRAMS = (Program((SourceFile("initial.py", f"x = {number}\n"),)) for number in count())


@pytest.mark.parametrize(
    ("objectives", "most", "objective", "repeats"),
    [
        ((0.9,), None, 0.9, ()),
        ((2.0, 1.0, 0.0), None, 1.0, (2.0, 1.0, 0.0)),
        ((2.0, 1.0), 2, 1.5, (2.0, 1.0)),
        ((2.0,), 1, 2.0, ()),
        ((2.0, None, 2.0), None, None, ()),
        # It leads no more, so that the second repeat is spared.
        ((2.0, 0.0), None, 1.0, (2.0, 0.0)),
    ],
)
def test_the_mean_counts_as_far_as_the_cap_allows(objectives, most, objective, repeats):
    slot, kept = make_slot(*objectives, max_evaluations=most)
    evaluation, place = next(slot.evaluate_all([next(PROGRAMS)]))
    assert (evaluation.objective, evaluation.repeats) == (objective, repeats)
    assert place.own == AttemptKey(1, 0, 0)
    assert [one.evaluation for one in kept] == [evaluation]


SPREAD, REPEATS = f"noise = 0.001\n{PROBLEM}", f"{PROBLEM}[noise]\nspread = 0.001\nrepeats = 3\n"


@pytest.mark.parametrize(
    ("toml", "without", "most"),
    [(SPREAD, (), 2), (SPREAD, ("confirmation",), 1), (REPEATS, (), 4)],
)
def test_a_noisy_problem_confirms_its_leaders_unless_that_is_left_out(
    tmp_path, toml, without, most
):
    searches, times = Searches(tmp_path, toml), Counter()

    def evaluate(program):
        times[program.id] += 1
        return searches.evaluate(program)

    searches.run("r", 4, evaluate=evaluate, search__without=without)
    del times[searches.problem.initial.id]
    assert max(times.values()) == most
