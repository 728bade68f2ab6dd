import pytest
from instances import HOLDOUT, TRAINING, VALIDATION, open_stream, play_together, renew_seed

from evolve.scoring import Infeasible
from tests.direct_program import DirectProgram


def test_streams_differ_by_problem_split_seed_and_number_and_never_change():
    keys = [("a", TRAINING, 0, 0), ("a", TRAINING, 0, 1), ("a", TRAINING, 1, 0)]
    keys += [("a", VALIDATION, 0, 0), ("a", HOLDOUT, 0, 0), ("b", TRAINING, 0, 0)]
    first = {key: open_stream(*key).random() for key in keys}
    assert len(set(first.values())) == len(keys)
    assert first == {key: open_stream(*key).random() for key in keys}


def count_down(start):
    total = 0
    while start:
        total += yield (start,)
        start -= 1
    return total


def test_games_of_different_length_take_turns():
    asked = []

    def double(number):
        asked.append(number)
        return 2 * number

    outcomes = play_together(
        DirectProgram(double=double), "double", [count_down(n) for n in (1, 0, 3)]
    )
    assert outcomes == [2, 0, 12]
    assert asked == [1, 3, 2, 1]


def test_a_missing_reply_is_infeasible():
    class Short(DirectProgram):
        def call_many(self, function, argument_lists):
            return []

    with pytest.raises(Infeasible, match="f: expected 1 replies, got 0"):
        play_together(Short(), "f", [count_down(1)])


def test_a_hold_out_has_another_seed_every_time():
    seeds = {renew_seed(3) for _ in range(100)}
    assert len(seeds) == 100
    assert 3 not in seeds
    draws = [open_stream("a", HOLDOUT, seed, 0).random() for seed in seeds]
    assert len(set(draws)) == 100
