from pathlib import Path

import pytest
from instances import TRAINING
from spot_jobs import ON_DEMAND, SPOT, WAIT, Job, draw_job, evaluate, evaluate_holdout, play

from evolve.problem import load_problem
from evolve.scoring import Infeasible
from tests.direct_program import DirectProgram

PROBLEM = load_problem(Path(__file__).parents[2] / "problems" / "spot_jobs")


def finish(job, choices):
    """Plays a job; the last choice is repeated."""
    game, value = play(job), None
    choices = list(choices)
    try:
        while True:
            game.send(value)
            value = choices.pop(0) if len(choices) > 1 else choices[0]
    except StopIteration as end:
        return end.value


def score(policy):
    return evaluate(DirectProgram(choose=policy), seed=0)


def test_the_recorded_baseline_is_what_spot_or_waiting_gives():
    assert PROBLEM.baseline is not None
    assert PROBLEM.bound is not None
    found = score(lambda *_state: SPOT).objective
    assert found == pytest.approx(PROBLEM.baseline.value, abs=1e-6)
    assert PROBLEM.bound.value < found


def test_on_demand_costs_the_work_and_one_start():
    cost, spot, waiting = finish(Job(10, 20, 2, (None,) * 20), [ON_DEMAND])
    assert (cost, spot, waiting) == (120.0, 0.0, 0.0)


def test_spot_is_paid_by_its_price_and_lost_without_notice():
    prices = (0.5, 0.5, 0.5, None, 0.25, 0.25, 0.25, *(None,) * 30)
    # One step of start and two of work, twice.
    cost, spot, _ = finish(Job(4, 37, 1, prices), [SPOT])
    assert cost == 100.0 * (3 * 0.5 + 3 * 0.25) / 4
    assert spot == 6 / 7


@pytest.mark.parametrize("choice", [WAIT, SPOT])
@pytest.mark.parametrize("prices", [(None,) * 20, (0.2,) * 20, (0.2, None) * 10, (None, 0.2) * 10])
def test_the_deadline_is_always_kept(choice, prices):
    job = Job(10, 20, 3, prices)
    cost, *_ = finish(job, [choice])
    assert cost <= 100.0 * 20 / 10
    assert finish(Job(17, 20, 3, prices), [choice])[0] == 100.0 * 20 / 17


def test_every_job_can_be_done_on_demand():
    for number in range(20):
        job = draw_job(TRAINING, 0, number)
        assert job.work + job.overhead < job.deadline == len(job.prices)
        assert finish(job, [ON_DEMAND])[0] == 100.0 * (job.work + job.overhead) / job.work


def test_a_policy_is_told_hours_and_only_the_present_price():
    game = play(Job(8, 16, 2, (0.3,) * 16))
    assert next(game) == (2.0, 4.0, 0.5, 0.0, 0.0, 1.0, 0.3)
    assert game.send(SPOT) == (2.0, 3.75, 0.5, 0.25, 1.0, 1.0, 0.3)


@pytest.mark.parametrize("value", [3, -1, 0.5, None, "1", True, float("nan"), [1]])
def test_choices_are_checked_strictly(value):
    with pytest.raises(Infeasible, match=r"^choose at step 0"):
        score(lambda *_state: value)


def test_the_hold_out_is_another_draw():
    program = DirectProgram(choose=lambda *_state: SPOT)
    assert evaluate_holdout(program, seed=0).objective != score(lambda *_state: SPOT).objective
