import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from evolve.errors import StoreError, UsageError
from evolve.records import (
    Attempt,
    AttemptKey,
    Evaluation,
    EvaluationPlace,
    Lesson,
    Plan,
    Program,
    SourceFile,
    Status,
    Summary,
)
from evolve.records.chat import Message, Reply, Request
from evolve.records.results import (
    Call,
    Evaluated,
    Generation,
    ModelUse,
    SlotResult,
)
from evolve.search.population import light_attempts
from evolve.store import Store
from evolve.store.schema import VERSION
from evolve.store.store import copy_database, repair_database


def make_program(number: int) -> Program:
    return Program((SourceFile("a.py", f"x = {number}\n"), SourceFile("b.txt", "\u00e9\x00\n")))


EVALUATION = Evaluation(
    Status.OK, 1.5, {"m": 2.0}, {"x": 0.25}, {"note": "text \U0001f600"}, seconds=0.5
)
EVALUATION_REJECTED = Evaluation(Status.REJECTED, reason="no code")
PLAN = Plan("change", "hypothesis", ("a", "b"), base="0.0.0")
SUMMARY = Summary("v", (Lesson("claim", "evidence", "scope", works=False, tags=("t",)),), ("1.0",))
REQUEST = Request("editor", (Message("system", "s"), Message("user", "u")), 100, 0.5, 7)
REPLY = Reply("text", "model", 10, 5, None, 1.5, "length")


def make_generation(number: int) -> Generation:
    key = AttemptKey(number, 0, 0)
    parent = None if number == 0 else AttemptKey(number - 1, 0, 0)
    good = Attempt(key, 0, parent, number, PLAN, make_program(number), EVALUATION)
    rejected = Attempt(
        AttemptKey(number, 0, 1),
        0,
        parent,
        number,
        None,
        None,
        Evaluation(Status.REJECTED, reason="no code", artifacts={"detail": "d"}),
    )
    placed = (replace(good, evaluated=EvaluationPlace(key, key)), rejected)
    slot = SlotResult(0, placed, uses=(ModelUse("editor", "model", None, 15),))
    return Generation(number, (slot,), float(number), SUMMARY, (PLAN,))


def fill(store: Store, generations: int = 3) -> None:
    for number in range(generations):
        key = AttemptKey(number, 0, 0)
        store.keep([Call(key, REQUEST, REPLY), Evaluated(key, make_program(number), EVALUATION)])
        store.commit(make_generation(number))


@pytest.fixture
def store(tmp_path):
    store = Store.create(tmp_path)
    yield store
    store.close()


def test_attempts_come_back_equal(store):
    fill(store)
    for number in range(3):
        for told in make_generation(number).slots[0].attempts:
            assert store.load_attempt(told.key) == told


def test_light_attempts_are_those_that_the_population_was_told(store):
    fill(store)
    told = [light for number in range(3) for light in light_attempts(make_generation(number))]
    assert list(store.light_attempts()) == told


def test_calls_and_evaluations_after_the_last_commit_come_back_equal(store):
    fill(store, 2)
    key = AttemptKey(2, 0, 0)
    call = Call(key, REQUEST, REPLY, error="empty")
    evaluated = Evaluated(key, make_program(9), Evaluation(Status.TIMEOUT, reason="late"))
    store.keep([call, evaluated])
    assert store.finished_after(1) == ([call], [evaluated])


def test_what_was_kept_and_committed_survives_without_closing(store, tmp_path):
    fill(store)
    reader = Store.open_to_read(tmp_path)
    assert reader.last_generation() == 2
    assert reader.spent()["calls"] == reader.spent()["evaluations"] == 3
    assert [str(one.status) for one in reader.light_attempts()] == ["ok", "rejected"] * 3
    reader.close()


def test_a_commit_that_fails_leaves_nothing_half_visible(store):
    fill(store, 1)
    doubled = make_generation(1)
    slot = doubled.slots[0]
    broken = Generation(1, (slot, SlotResult(1, slot.attempts)), 1.0)
    with pytest.raises(StoreError, match="UNIQUE constraint failed"):
        store.commit(broken)
    assert store.last_generation() == 0
    assert len(list(store.light_attempts())) == 2
    store.keep([Evaluated(AttemptKey(1, 0, 0), make_program(1), EVALUATION)])
    store.commit(doubled)
    assert store.last_generation() == 1


def test_usage_is_summed_by_role_and_model(store):
    fill(store)
    ((role, model, used),) = store.usage()
    assert (role, model, used.calls, used.tokens, used.unpriced_calls) == (
        "editor",
        "model",
        3,
        45,
        3,
    )


def test_a_missing_attempt_is_an_error(store):
    with pytest.raises(StoreError, match=r"no attempt 5\.0\.0"):
        store.load_attempt(AttemptKey(5, 0, 0))


def test_a_second_writer_is_refused_and_a_reader_is_not(store, tmp_path):
    fill(store, 1)
    with pytest.raises(UsageError, match="being written by process"):
        Store.open_to_write(tmp_path)
    Store.open_to_read(tmp_path).close()


def test_the_lock_of_a_closed_store_is_free(store, tmp_path):
    fill(store, 1)
    store.close()
    again = Store.open_to_write(tmp_path)
    assert again.last_generation() == 0
    again.close()


def test_a_folder_without_a_database_is_no_run(tmp_path):
    with pytest.raises(UsageError, match=r"expected a run folder with `run\.db`"):
        Store.open_to_read(tmp_path)


def test_a_database_of_another_version_is_refused_and_its_writer_is_named(store, tmp_path):
    store.set_facts(version="0.0.7")
    store.close()
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    expected = r"got others, written by evolve 0\.0\.7; use that version of `evolve`"
    for reopen in (Store.open_to_write, Store.open_to_read):
        with pytest.raises(UsageError, match=expected):
            reopen(tmp_path)


def test_a_database_of_something_else_is_refused(tmp_path):
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        connection.execute("CREATE TABLE facts (anything)")
    for reopen in (Store.open_to_write, Store.open_to_read):
        with pytest.raises(UsageError, match="got others, written by another version of evolve"):
            reopen(tmp_path)


def test_a_database_that_is_still_empty_is_read_as_a_run_without_generations(tmp_path):
    (tmp_path / "run.db").touch()
    with closing(Store.open_to_read(tmp_path)) as store:
        assert (store.last_generation(), store.facts()) == (None, {})
    assert (tmp_path / "run.db").read_bytes() == b""


def test_a_file_that_is_no_database_is_an_error(tmp_path):
    (tmp_path / "run.db").write_text("not a database, but long enough to be looked at" * 50)
    with pytest.raises(StoreError, match="file is not a database"):
        Store.open_to_read(tmp_path)


def test_a_commit_is_counted_at_once(store):
    fill(store, 5)
    key = AttemptKey(5, 0, 0)
    store.keep([Call(key, REQUEST, REPLY), Evaluated(key, make_program(5), EVALUATION)])
    store.commit(make_generation(5))
    assert store.spent()["calls"] == 6
    assert len(list(store.light_attempts())) == 12


def test_the_summary_and_the_plans_of_a_generation_come_back_whole(store):
    fill(store, 1)
    key = AttemptKey(1, 0, 0)
    told = Attempt(key, 0, AttemptKey(0, 0, 0), 1, PLAN, None, EVALUATION_REJECTED)
    store.commit(Generation(1, (SlotResult(0, (told,)),), 1.0))
    found = [store.load_generation(number) for number in (0, 1, 7)]
    assert [one.summary for one in found] == [SUMMARY, None, None]
    assert [one.plans for one in found] == [(PLAN,), (), ()]


def test_an_evaluation_belongs_to_the_first_slot_that_needed_it_whoever_began(store):
    fill(store, 1)
    own, recorded = AttemptKey(1, 0, 0), AttemptKey(1, 3, 0)
    store.keep([Evaluated(recorded, make_program(1), EVALUATION)])
    attempt = Attempt(own, 0, AttemptKey(0, 0, 0), 1, PLAN, make_program(1), EVALUATION)
    told = replace(attempt, evaluated=EvaluationPlace(own, recorded))
    store.commit(Generation(1, (SlotResult(0, (told,)),), 1.0))
    assert store.load_attempt(own) == attempt
    assert [one.key for one in store.finished_after(0)[1]] == [own]


LARGE = "".join(f"line {number} \u00e9\n" for number in range(9000))
KEY = AttemptKey(0, 0, 0)


def fill_with_artifacts(folder) -> Evaluated:
    artifacts = {"first": "small", "log": LARGE, "last": "\ud800 odd"}
    evaluated = Evaluated(KEY, make_program(0), replace(EVALUATION, artifacts=artifacts))
    with closing(Store.create(folder)) as store:
        store.keep([evaluated])
        store.commit(make_generation(0))
    return evaluated


def load(folder) -> dict[str, str]:
    with closing(Store.open_to_read(folder)) as store:
        (evaluated,) = store.finished_after(-1)[1]
        assert store.load_attempt(KEY).evaluation == evaluated.evaluation
        return dict(evaluated.evaluation.artifacts)


def test_copies_take_all_artifacts_along(tmp_path):
    for name in ("run", "copy", "saved"):
        (tmp_path / name).mkdir()
    artifacts = fill_with_artifacts(tmp_path / "run").evaluation.artifacts
    copy_database(tmp_path / "run", tmp_path / "copy", None)
    repair_database(tmp_path / "run", tmp_path / "saved")
    for name in ("run", "copy", "saved"):
        assert list(load(tmp_path / name).items()) == list(artifacts.items())


def test_prune_drops_large_artifacts_that_nothing_shows_any_more(tmp_path):
    fill_with_artifacts(tmp_path)
    with closing(Store.open_to_write(tmp_path)) as store:
        assert store.prune([KEY], 9, 0).artifacts == 0
        assert store.prune([], 9, 10**7).artifacts == 0
        dropped = store.prune([], 9, 1000)
    assert (dropped.artifacts, load(tmp_path)) == (1, {})
    assert dropped.bytes > 10_000


def test_a_copy_of_a_generation_that_is_not_there_is_refused(tmp_path):
    for name in ("run", "copy"):
        (tmp_path / name).mkdir()
    with closing(Store.create(tmp_path / "run")) as store:
        fill(store, 2)
    with pytest.raises(UsageError, match="expected a generation from 0 to 1, got 2"):
        copy_database(tmp_path / "run", tmp_path / "copy", 2)
