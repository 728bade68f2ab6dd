from evolve.records import Attempt, AttemptKey, Evaluation, Plan, Status
from evolve.records.operators import TUNE
from evolve.records.results import SlotResult, Told
from evolve.search.fruitless import FruitlessWatch
from evolve.session.rejections import advise, count_reasons

SILENT = "the planner's reply cannot be used: an empty reply, finish reason 'stop'"
PROSE = "the reply holds neither edits nor a program"


def slot(number: int, *outcomes: str, operator: str = "") -> SlotResult:
    """A slot with an attempt for each reason, or for `ok`."""
    told = []
    for index, outcome in enumerate(outcomes):
        status = Status.OK if outcome == "ok" else Status.REJECTED
        evaluation = Evaluation(status, objective=1.0 if outcome == "ok" else None, reason=outcome)
        plan = Plan("change", operator=operator)
        key = AttemptKey(1, number, index)
        told.append(Told(Attempt(key, 0, None, 1, plan, None, evaluation)))
    return SlotResult(number, tuple(told))


def test_three_generations_without_any_usable_reply_end_a_run():
    watch = FruitlessWatch(3)
    assert [watch.add([slot(0, SILENT)]) for _ in range(3)] == [False, False, True]


def test_tuning_beside_a_silent_model_does_not_count():
    watch = FruitlessWatch(3)
    generation = [slot(0, SILENT), slot(1, "ok", "ok", operator=TUNE)]
    assert [watch.add(generation) for _ in range(3)] == [False, False, True]


def test_one_evaluation_starts_the_count_anew():
    watch = FruitlessWatch(3)
    for _ in range(5):
        assert not watch.add([slot(0, SILENT), slot(1, SILENT)])
        assert not watch.add([slot(0, SILENT), slot(1, SILENT)])
        assert not watch.add([slot(0, SILENT), slot(1, "ok")])


def test_a_weak_model_that_answers_gets_more_attempts_than_one_that_does_not():
    watch = FruitlessWatch(3)
    ends = [watch.add([slot(0, PROSE, PROSE)]) for _ in range(12)]
    assert ends == [False] * 11 + [True]


def test_replies_that_are_nearly_all_unusable_end_a_run():
    watch = FruitlessWatch(3)
    generation = [*(slot(number, PROSE) for number in range(19)), slot(19, "ok")]
    assert [watch.add(generation) for _ in range(3)] == [False, False, True]


def test_a_generation_without_any_attempt_is_fruitless():
    watch = FruitlessWatch(2)
    assert [watch.add([]), watch.add([])] == [False, True]


def test_zero_switches_it_off():
    watch = FruitlessWatch(0)
    assert not any(watch.add([slot(0, SILENT)]) for _ in range(50))


def test_reasons_that_differ_in_numbers_and_names_count_as_one():
    rejections = {
        "attempt 3.1.0 is the same": 4,
        "attempt 5.0.0 is the same": 3,
        "cut off after 20 tokens": 2,
    }
    assert count_reasons(rejections) == [
        ("attempt 3.1.0 is the same", 7),
        ("cut off after 20 tokens", 2),
    ]


def test_each_reason_has_its_advice():
    assert "models.max_tokens" in advise("cannot be used: cut off after 20 tokens")
    assert "models.digest_tokens" in advise("cannot be used: the prompt is too long")
    assert "drop" in advise("cannot be used: the provider refused the request: odd")
    assert "steps.form" in advise(PROSE)
