from dataclasses import replace

import pytest

from evolve.problem import Reference, load_problem
from evolve.records import AttemptKey, Status
from evolve.steps.page import compare_instances, show_status, tried_block
from tests.builders import make_attempt, make_digest, make_tried


def show_with(problem, **fields):
    digest = make_digest(problem)
    return show_status(replace(digest, status=replace(digest.status, **fields)))


@pytest.mark.parametrize(
    ("objective", "advice"),
    [
        (-8.25, "another approach can gain more"),
        (-0.9, None),
        (-0.05, "change one thing at a time"),
    ],
)
def test_far_from_the_best_known_value_another_approach_is_asked_for(problem, objective, advice):
    found = load_problem(problem)
    shown = show_with(found, objective=objective)
    if advice is None:
        assert len(shown.splitlines()) == 3
    else:
        assert advice in shown


def test_the_standing_names_start_references_and_what_is_left(problem):
    found = load_problem(problem)
    shown = show_with(found, references=(("baseline", Reference(-9.0, "a grid")),))
    assert "59 evaluations left, $1.50 left for models" in shown
    assert "champion -8.25 (program 2.1.0), start -13; baseline -9 (a grid)" in shown
    late = show_with(found, generation=6)
    assert "The last 3 generations brought no new champion." in late


def test_all_attempts_stand_in_a_table_by_objective_with_duplicates_folded(problem):
    found = load_problem(problem)
    items = tried_block(make_digest(found)).items
    assert [item.split(":")[0] for item in items[:4]] == [
        "- 2.1.0", "- 1.0.0", "- 1.1.0", "- 1.2.0",
    ]  # fmt: skip
    assert "new best" in items[0]
    assert "failed (infeasible): Return three numbers" in items[3]
    assert items[4] == "- 1 attempt repeated a program that was known already"
    assert items[5] == "- constants of 1.0.0 (-9.25) tuned: 24 evaluations, best -9 (program 2.2.3)"


def test_of_many_attempts_the_best_the_latest_and_failed_ones_are_listed(problem):
    found = load_problem(problem)
    tried = tuple(
        make_tried(AttemptKey(number, 0, 0), -100.0 + number % 50, f"change {number}")
        for number in range(1, 200)
    )
    failed = tuple(
        make_tried(AttemptKey(200 + n, 0, 0), None, f"failure {n}", status=Status.ERROR)
        for n in range(20)
    )
    items = tried_block(make_digest(found, tried=(*tried, *failed))).items
    assert "change 49" in items[0]
    assert len(items) < 50
    assert any("failure 19" in item for item in items)
    assert not any("failure 0;" in item for item in items)
    assert any(item.startswith("- and ") for item in items)


def test_of_a_bound_alone_it_is_not_known_how_near_one_can_come(problem):
    found = load_problem(problem)
    bound = (("bound", Reference(0.0, "no sum of squares is below")),)
    shown = show_with(found, references=bound)
    assert "bound 0 (no sum of squares is below)" in shown
    assert "How near to the bound a program can come is not known." in shown


def test_a_gain_by_instance_leaves_validation_out(problem):
    found = load_problem(problem)

    def attempt(number, **instances):
        one = make_attempt(found, AttemptKey(1, number, 0), 1.0)
        named = {name.replace("_", " "): value for name, value in instances.items()}
        return replace(one, evaluation=replace(one.evaluation, instances=named))

    new = attempt(0, a=1.0, b=2.0, validation_c=9.0)
    old = attempt(1, a=0.0, b=1.5, validation_c=0.0)
    shown = compare_instances(new, old, found)
    assert "+0.75, with a standard error of 0.25 over 2 instances" in shown
    assert "validation" not in shown
