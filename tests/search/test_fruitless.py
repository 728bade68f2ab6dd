"""Runs whose models bring nothing end, and say why."""

import signal

from evolve.records import INITIAL, AttemptKey, Status
from evolve.records.results import UNUSABLE, LightAttempt
from evolve.runs.outcome import ReasonCounts, advise
from evolve.search.schedule import FruitlessWatch
from tests.commands import run_evolve, run_json, start_evolve, wait_for_rows, write_script

PROSE = "the reply holds neither edits nor a program"


def make_attempts(count: int, evaluated: int = 0, unusable: int = 0) -> list[LightAttempt]:
    """Returns the attempts of models in a generation: evaluated ones, then rejected ones."""
    statuses = [Status.CRASHED] * evaluated + [Status.REJECTED] * (count - evaluated)
    return [
        LightAttempt(
            AttemptKey(1, slot, 0), 0, INITIAL, 1, None, None, None, status, None, {}, {},
            reason=f"the reply {UNUSABLE}" if slot >= count - unusable else "no program",
        )
        for slot, status in enumerate(statuses)
    ]  # fmt: skip


def silent(slots: int = 1) -> list[LightAttempt]:
    """Returns a generation in which no reply can be used."""
    return make_attempts(slots, 0, slots)


def test_three_generations_without_any_usable_reply_end_a_run():
    watch = FruitlessWatch(3)
    assert [watch.add(silent()) for _ in range(3)] == [False, False, True]


def test_one_evaluation_starts_the_count_anew():
    watch = FruitlessWatch(3)
    for _ in range(5):
        assert not watch.add(silent(2))
        assert not watch.add(silent(2))
        assert not watch.add(make_attempts(2, 1, 1))


def test_a_weak_model_that_answers_gets_more_attempts_than_one_that_does_not():
    watch = FruitlessWatch(3)
    ends = [watch.add(make_attempts(2)) for _ in range(12)]
    assert ends == [False] * 11 + [True]


def test_replies_that_are_nearly_all_unusable_end_a_run():
    watch = FruitlessWatch(3)
    assert [watch.add(make_attempts(20, 1)) for _ in range(3)] == [False, False, True]


def test_a_generation_without_any_attempt_is_fruitless():
    watch = FruitlessWatch(2)
    assert [watch.add(silent(0)), watch.add(silent(0))] == [False, True]


def test_zero_switches_it_off():
    watch = FruitlessWatch(0)
    assert not any(watch.add(silent()) for _ in range(50))


def test_tuning_beside_it_or_a_kill_does_not_prolong_such_a_run_and_a_resume_tries_anew(
    tmp_path, problem
):
    model = write_script(tmp_path / "model.json", editor=["no program"], latency_seconds=0.1)
    asked = ("run", problem, "--model", model, "--generations", 40, "--set", "steps.repairs=0",
             "--set", "tuning.share=0.2")  # fmt: skip
    run_evolve(*asked, "--run-dir", "whole", cwd=tmp_path, code=4)
    ended = run_json("show", "whole", cwd=tmp_path)
    assert ended["stopped_because"] == "fruitless"
    process = start_evolve(*asked, "--run-dir", "r", cwd=tmp_path)
    wait_for_rows(tmp_path / "r", "generations", 4)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    run_evolve("resume", "r", cwd=tmp_path, code=4)
    assert run_json("show", "r", cwd=tmp_path)["attempts"] == ended["attempts"]
    run_evolve("resume", "r", cwd=tmp_path, code=4)
    assert run_json("show", "r", cwd=tmp_path)["attempts"] > ended["attempts"]


def test_reasons_that_differ_in_numbers_and_names_count_as_one():
    rejections = {
        "attempt 3.1.0 is the same": 4,
        "attempt 5.0.0 is the same": 3,
        "cut off after 20 tokens": 2,
    }
    assert ReasonCounts(rejections).most_common() == [
        ("attempt 3.1.0 is the same", 7),
        ("cut off after 20 tokens", 2),
    ]


def test_each_reason_has_its_advice():
    assert "models.max_tokens" in advise("cannot be used: cut off after 20 tokens")
    assert "models.digest_tokens" in advise("cannot be used: the prompt is too long")
    assert "drop" in advise("cannot be used: the provider refused the request: odd")
    assert "steps.form" in advise(PROSE)
