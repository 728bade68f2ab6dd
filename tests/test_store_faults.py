import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from evolve.copies.export import describe_everything
from evolve.errors import EvolveError, StoreError
from evolve.records import AttemptKey
from evolve.records.results import Call, Evaluated
from evolve.store import DATABASE, Store, seals
from evolve.store.copying import copy_database
from evolve.store.opening import connect_to_write
from evolve.store.salvage import salvage_database
from tests.test_store import EVALUATION, REPLY, REQUEST, fill, make_generation, make_program

WRITES = ("BEGIN", "INSERT", "DELETE", "UPDATE", "COMMIT")
GENERATIONS = 3


class FaultyConnection(sqlite3.Connection):
    """Fails once, at one of its writes: before it is done, or after."""

    fail_at = -1
    after = False
    writes = 0

    def execute(self, sql, *values):
        return self._write(sql, lambda: super(FaultyConnection, self).execute(sql, *values))

    def executemany(self, sql, *values):
        return self._write(sql, lambda: super(FaultyConnection, self).executemany(sql, *values))

    def _write(self, sql: str, write: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        is_fault = False
        if sql.startswith(WRITES):
            is_fault = self.writes == self.fail_at
            self.writes += 1
        if is_fault and not self.after:
            raise sqlite3.OperationalError("disk I/O error")
        cursor = write()
        if is_fault:
            raise sqlite3.OperationalError("disk I/O error")
        return cursor


def open_faulty(folder: Path, fail_at: int, *, after: bool) -> Store:
    connect_to_write(folder).close()
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None, factory=FaultyConnection)
    connection.fail_at, connection.after = fail_at, after
    seals.register(connection)
    return Store(connection, folder, None)


def write_run(store: Store, acknowledged: list[object]) -> None:
    """Goes on from what the store holds, as a resumed run does, noting what was durable."""
    store.set_facts(seed=1)
    last = store.last_generation()
    for number in range(0 if last is None else last + 1, GENERATIONS):
        key = AttemptKey(number, 0, 0)
        item = [Call(key, REQUEST, REPLY), Evaluated(key, make_program(number), EVALUATION)]
        store.keep(item)
        acknowledged.append(key)
        store.commit(make_generation(number))
        acknowledged.append(number)
        store.save_snapshot("v", {"generation": number})


def check_whole(store: Store, acknowledged: list[object]) -> None:
    """Checks that nothing durable is lost and nothing is half-visible."""
    last = store.last_generation()
    committed = -1 if last is None else last
    assert committed >= max((item for item in acknowledged if isinstance(item, int)), default=-1)
    calls, evaluations = store.finished_after(-1)
    for keys in ({call.key for call in calls}, {item.key for item in evaluations}):
        assert keys >= {item for item in acknowledged if isinstance(item, AttemptKey)}
    for number in range(GENERATIONS):
        keys = [told.attempt.key for told in make_generation(number).slots[0].attempts]
        assert store.keys_of(number) == (keys if number <= committed else [])
        for key in store.keys_of(number):
            store.load_attempt(key)
        assert (store.load_lesson(number, 0) is not None) == (number <= committed)
    assert sum(store.outcomes().values()) == 2 * (committed + 1)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_fault_at_any_write_loses_nothing_durable_and_shows_nothing_half(tmp_path, after):
    fail_at = 0
    while True:
        folder = tmp_path / f"{fail_at}"
        folder.mkdir()
        store = open_faulty(folder, fail_at, after=after)
        acknowledged: list[object] = []
        try:
            write_run(store, acknowledged)
        except StoreError as error:
            assert "what was committed is safe" in str(error)  # noqa: PT017 - not every round fails
        else:
            store.close()
            break
        check_whole(store, acknowledged)
        store.close()
        again = Store.open_to_write(folder)
        check_whole(again, acknowledged)
        write_run(again, acknowledged)
        check_whole(again, acknowledged)
        assert again.spent()["calls"] == GENERATIONS
        again.close()
        fail_at += 1
    assert fail_at > 30


def test_a_full_database_stops_with_what_to_do(tmp_path):
    store = Store.create(tmp_path)
    fill(store, 1)
    store.query("PRAGMA max_page_count = 1")
    with pytest.raises(StoreError, match="database or disk is full; what was committed is safe"):
        fill_many(store)
    last = store.last_generation()
    store.close()
    again = Store.open_to_write(tmp_path)
    assert again.last_generation() == last
    fill_one(again, last + 1)
    again.close()


def fill_many(store: Store) -> None:
    for number in range(1, 2000):
        fill_one(store, number)


def fill_one(store: Store, number: int) -> None:
    key = AttemptKey(number, 0, 0)
    store.keep([Call(key, REQUEST, REPLY), Evaluated(key, make_program(number), EVALUATION)])
    store.commit(make_generation(number))


def make_run(folder: Path, generations: int) -> None:
    folder.mkdir()
    store = Store.create(folder)
    fill(store, generations)
    store.close()


def test_a_damaged_text_is_named_and_the_generations_before_it_are_saved(tmp_path):
    run, saved = tmp_path / "run", tmp_path / "saved"
    make_run(run, 6)
    saved.mkdir()
    connection = sqlite3.connect(run / DATABASE)
    ((source, data),) = connection.execute(
        "SELECT s.number, s.data FROM sources s JOIN programs p ON p.source = s.number "
        "WHERE p.id = ?",
        (make_program(4).id,),
    )
    broken = bytes([data[0]]) + b"\xff" * (len(data) - 1)
    connection.execute("UPDATE sources SET data = ? WHERE number = ?", (broken, source))
    connection.commit()
    connection.close()
    store = Store.open_to_read(run)
    with pytest.raises(StoreError, match=r"damaged: .*`evolve repair .* saves the last good"):
        store.load_attempt(AttemptKey(4, 0, 0))
    store.close()
    assert salvage_database(run, saved) == (3, 2, 2, [], [])
    store = Store.open_to_write(saved)
    assert store.last_generation() == 3
    for number in range(4):
        for told in make_generation(number).slots[0].attempts:
            assert store.load_attempt(told.attempt.key) == told.attempt
    store.close()


def test_a_table_whose_root_is_damaged_is_named_and_not_taken_for_empty(tmp_path):
    run, saved = tmp_path / "run", tmp_path / "saved"
    make_run(run, 6)
    saved.mkdir()
    connection = sqlite3.connect(run / DATABASE)
    ((root,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'calls'")
    connection.close()
    with (run / DATABASE).open("r+b") as file:
        file.seek((root - 1) * 16384)
        file.write(b"\xff" * 16384)
    store = Store.open_to_read(run)
    with pytest.raises(StoreError, match=r"malformed; `evolve repair"):
        store.finished_after(-1)
    store.close()
    assert salvage_database(run, saved) == (5, 0, 0, ["calls"], [])
    store = Store.open_to_read(saved)
    assert store.facts()["pruned"] == 5
    assert (
        store.load_attempt(AttemptKey(5, 0, 0)) == make_generation(5).slots[0].attempts[0].attempt
    )
    store.close()


@pytest.mark.parametrize("page", range(24))
def test_a_page_of_garbage_is_never_passed_over(tmp_path, page):
    run, saved = tmp_path / "run", tmp_path / "saved"
    make_run(run, 6)
    saved.mkdir()
    whole = everything(run)
    with (run / DATABASE).open("r+b") as file:
        if page * 16384 >= file.seek(0, os.SEEK_END):
            return
        file.seek(page * 16384)
        file.write(random.Random(page).randbytes(16384))
    # The page of an index that no query asks may be anything.
    with suppress(EvolveError):
        assert everything(run) == whole
    with suppress(EvolveError):
        told = salvage_database(run, saved)
        assert told.tables or set(everything(saved)) <= set(whole)
        with closing(Store.open_to_read(saved)) as store:
            assert store.last_generation() == told.generation
            for attempt in store.told_attempts():
                assert store.load_attempt(attempt.key).objective == attempt.objective


def test_a_changed_byte_is_told_or_changes_nothing(tmp_path):
    run, saved = tmp_path / "run", tmp_path / "saved"
    make_run(run, 6)
    database = run / DATABASE
    whole, data = everything(run), bytearray(database.read_bytes())
    draws = random.Random(7)
    told = 0
    for turn in range(60):
        # Most of so small a database is free space: half of the bytes are those of a known row.
        place = draws.choice((draws.randrange(len(data)), data.rindex(b"hypothesis") + 40))
        place = min(place + draws.randrange(200), len(data) - 1)
        before, data[place] = data[place], data[place] ^ draws.randrange(1, 256)
        database.write_bytes(data)
        data[place] = before
        try:
            assert everything(run) == whole
        except StoreError as error:
            assert "evolve repair" in str(error)  # noqa: PT017 - not every change is one that matters
            told += 1
            if turn % 4:
                continue
            shutil.rmtree(saved, ignore_errors=True)
            saved.mkdir()
            with suppress(StoreError):
                salvaged = salvage_database(run, saved)
                assert salvaged.tables or set(everything(saved)) <= set(whole)
    assert told > 8


def keep_call(store: Store, slot: int) -> None:
    store.keep([Call(AttemptKey(1, slot, 0), REQUEST, REPLY)])


def test_a_change_is_told_though_more_is_written_of_its_generation(tmp_path):
    with closing(Store.create(tmp_path)) as store:
        fill(store, 1)
        keep_call(store, 0)
        store.query("UPDATE calls SET completion_tokens = 999 WHERE generation = 1")
        keep_call(store, 1)
        store.commit(make_generation(1))
        with pytest.raises(StoreError, match="damaged: generation 1 is not what was written"):
            store.finished_after(0)


def test_what_is_written_after_an_older_schema_is_sealed_with_what_was_there(tmp_path):
    with closing(Store.create(tmp_path)) as store:
        fill(store, 1)
        keep_call(store, 0)
        store.query("DELETE FROM seals WHERE generation = 1")
        keep_call(store, 1)
        keep_call(store, 1)
        keep_call(store, 2)
        with closing(Store.open_to_read(tmp_path)) as reader:
            assert len(reader.finished_after(0)[0]) == 3
        store.query("UPDATE calls SET completion_tokens = 999 WHERE slot = 0 AND generation = 1")
        with pytest.raises(StoreError, match="damaged: generation 1 is not what was written"):
            store.finished_after(0)


def test_changed_facts_are_told(tmp_path):
    make_run(tmp_path / "run", 1)
    with closing(Store.open_to_write(tmp_path / "run")) as store:
        store.set_facts(seed=1)
    with closing(sqlite3.connect(tmp_path / "run" / DATABASE)) as connection:
        connection.execute("UPDATE facts SET value = '2'")
        connection.commit()
    with (
        closing(Store.open_to_read(tmp_path / "run")) as store,
        pytest.raises(StoreError, match="damaged: facts and launches are not those"),
    ):
        store.facts()


def everything(run: Path) -> list[str]:
    with closing(Store.open_to_read(run)) as store:
        return [json.dumps(line, sort_keys=True) for line in describe_everything(store)]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_a_log_that_was_cut_is_told_and_what_is_left_is_saved(tmp_path, share):
    run, cut, saved = tmp_path / "run", tmp_path / "cut", tmp_path / "saved"
    for folder in (run, saved):
        folder.mkdir()
    store = Store.create(run)
    # Else the database itself would be a part of what is cut.
    fill(store, 1)
    store.query("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(1, 6):
        fill_one(store, number)
    shutil.copytree(run, cut)
    store.close()
    log = cut / f"{DATABASE}-wal"
    data = log.read_bytes()
    log.write_bytes(data[: int(share * len(data))])
    for reopen in (Store.open_to_read, Store.open_to_write):
        with pytest.raises(StoreError, match=r"damaged: generation 5 was written.*evolve repair"):
            reopen(cut)
    last = salvage_database(cut, saved).generation
    with closing(Store.open_to_write(saved)) as again:
        assert again.last_generation() == last
        for number in range(last + 1):
            for told in make_generation(number).slots[0].attempts:
                assert again.load_attempt(told.attempt.key) == told.attempt


def test_a_call_that_was_cut_off_is_told(tmp_path):
    with closing(Store.create(tmp_path)) as store:
        fill(store, 1)
        keep_call(store, 0)
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("DELETE FROM calls WHERE generation = 1")
        connection.execute("DELETE FROM seals WHERE generation = 1")
        connection.commit()
    with pytest.raises(StoreError, match=r"damaged: call 1\.0\.0 was written and is missing"):
        Store.open_to_write(tmp_path)


def test_a_copy_holds_everything_up_to_its_generation_and_nothing_else(tmp_path):
    run, copy = tmp_path / "run", tmp_path / "copy"
    make_run(run, 6)
    copy.mkdir()
    assert copy_database(run, copy, 2) == 2
    store = Store.open_to_read(copy)
    assert store.last_generation() == 2
    assert store.finished_after(2) == ([], [])
    assert store.spent()["calls"] == 3
    assert store.query("SELECT COUNT(*) FROM programs") == [(3,)]
    assert store.query("SELECT COUNT(*) FROM sources") == [(3,)]
    store.close()
