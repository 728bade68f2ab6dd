import dataclasses
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from evolve.errors import DamagedStoreError, EvolveError, StoreError
from evolve.records import AttemptKey
from evolve.records.chat import Message
from evolve.records.results import Call, Evaluated
from evolve.runs.derived import describe_everything
from evolve.store import DATABASE, Store
from evolve.store.connection import connect_to_write
from evolve.store.store import Repaired, copy_database, repair_database
from tests.store.test_store import EVALUATION, REPLY, REQUEST, fill, make_generation, make_program

WRITES = ("BEGIN", "INSERT", "DELETE", "UPDATE", "COMMIT")
GENERATIONS = 3
PAGE = 16384
# First byte of a page of SQLite that refers to others of a table with row numbers.
INTERIOR = 5


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


def check_whole(store: Store, acknowledged: list[object]) -> None:
    """Checks that nothing durable is lost and nothing is half-visible."""
    last = store.last_generation()
    committed = -1 if last is None else last
    assert committed >= max((item for item in acknowledged if isinstance(item, int)), default=-1)
    calls, evaluations = store.finished_after(-1)
    for keys in ({call.key for call in calls}, {item.key for item in evaluations}):
        assert keys >= {item for item in acknowledged if isinstance(item, AttemptKey)}
    for number in range(GENERATIONS):
        keys = [told.key for told in make_generation(number).slots[0].attempts]
        assert store.keys_of(number) == (keys if number <= committed else [])
        for key in store.keys_of(number):
            store.load_attempt(key)
        assert (store.load_generation(number).summary is not None) == (number <= committed)
    assert len(list(store.light_attempts())) == 2 * (committed + 1)


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
    store._connection.execute("PRAGMA max_page_count = 1")
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    make_run(folder, 6)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def saved(tmp_path):
    return tmp_path / "saved"


def save(run: Path, saved: Path) -> Repaired:
    saved.mkdir()
    return repair_database(run, saved)


def expect_generations(run: Path, last: int) -> None:
    with closing(Store.open_to_write(run)) as store:
        assert store.last_generation() == last
        for number in range(last + 1):
            for told in make_generation(number).slots[0].attempts:
                assert store.load_attempt(told.key) == told


def damage(run: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(run / DATABASE)) as connection:
        assert connection.execute(sql, values).rowcount == 1
        connection.commit()


def test_a_damaged_text_is_named_and_the_generations_before_it_are_saved(run, saved):
    damage(run, "UPDATE programs SET source = X'789CFF' WHERE id = ?", make_program(4).id)
    with (
        closing(Store.open_to_read(run)) as store,
        pytest.raises(DamagedStoreError, match=r"run\.db: damaged: .*`evolve repair .* --output"),
    ):
        store.load_attempt(AttemptKey(4, 0, 0))
    assert save(run, saved) == (3, 2, 2, [], [])
    expect_generations(saved, 3)


@pytest.mark.parametrize(
    ("change", "last"),
    [
        ("UPDATE calls SET messages = X'00' WHERE generation = 4", 3),
        ("UPDATE calls SET text = X'789C' WHERE generation = 4", 3),
        ("UPDATE artifacts SET texts = 7 WHERE generation = 4", 3),
        ("UPDATE attempts SET plan = '{' WHERE generation = 4 AND number = 0", 3),
        ("UPDATE attempts SET plan = '[1]' WHERE generation = 4 AND number = 0", 3),
        ("UPDATE attempts SET plan = CAST(X'80' AS TEXT) WHERE generation = 4 AND number = 0", 3),
        ("UPDATE evaluations SET status = 'other' WHERE generation = 4", 3),
        ("UPDATE evaluations SET measures = 'null,' WHERE generation = 4", 3),
        ("UPDATE generations SET summary = '1' WHERE number = 4", 3),
        ("DELETE FROM evaluations WHERE generation = 4", 3),
        ("DELETE FROM generations WHERE number = 4", 3),
        ("UPDATE evaluations SET seconds = 'long' WHERE generation = 4", 3),
    ],
)
def test_what_cannot_be_read_is_damage_and_ends_what_is_saved(run, saved, change, last):
    damage(run, change)
    if not change.startswith("DELETE FROM generations"):
        with pytest.raises(DamagedStoreError, match=r"evolve repair .* --output DIR"):
            everything(run)
    assert save(run, saved).generation == last
    expect_generations(saved, last)


def test_a_source_of_another_program_is_damage(run, saved):
    names = [make_program(number).id for number in (2, 4)]
    damage(
        run,
        "UPDATE programs SET source = (SELECT source FROM programs WHERE id = ?) WHERE id = ?",
        *names,
    )
    with pytest.raises(DamagedStoreError, match=f"in place of program {names[1]} there is"):
        everything(run)
    assert save(run, saved).generation == 3


def test_facts_that_cannot_be_read_are_left_out_and_named(run, saved):
    with closing(Store.open_to_write(run)) as store:
        store.set_facts(seed=1, problem="valley")
    damage(run, "UPDATE facts SET value = '}' WHERE name = 'seed'")
    with (
        closing(Store.open_to_read(run)) as store,
        pytest.raises(DamagedStoreError, match="damaged: JSONDecodeError"),
    ):
        store.facts()
    assert save(run, saved).lost == ["facts: seed"]
    with closing(Store.open_to_read(saved)) as store:
        assert store.facts() == {"problem": "valley"}


def test_a_table_whose_root_is_damaged_is_named_and_not_taken_for_empty(run, saved):
    write_page(run, root_of(run, "calls"), b"\xff" * PAGE)
    with (
        closing(Store.open_to_read(run)) as store,
        pytest.raises(DamagedStoreError, match=r"malformed; `evolve repair"),
    ):
        store.finished_after(-1)
    with pytest.raises(StoreError, match="not even the start can be read"):
        save(run, saved)


def test_a_damaged_page_ends_what_is_saved_where_its_rows_begin(tmp_path):
    run, saved = tmp_path / "run", tmp_path / "saved"
    run.mkdir()
    # Long requests, so that the table takes many pages.
    request = dataclasses.replace(REQUEST, messages=(Message("user", noise(4000)),))
    with closing(Store.create(run)) as store:
        for number in range(60):
            key = AttemptKey(number, 0, 0)
            item = Evaluated(key, make_program(number), EVALUATION)
            store.keep([Call(key, request, REPLY), item])
            store.commit(make_generation(number))
    leaves = leaves_of(run, "calls")
    assert len(leaves) > 10
    write_page(run, leaves[len(leaves) // 2], b"\xff" * PAGE)
    told = save(run, saved)
    assert 20 < told.generation < 40
    assert told.calls > 20
    assert told.findings
    expect_generations(saved, told.generation)


def noise(length: int) -> str:
    """Returns a text that cannot be compressed much."""
    return random.Random(1).randbytes(length).hex()


def root_of(run: Path, table: str) -> int:
    with closing(sqlite3.connect(run / DATABASE)) as connection:
        sql = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        return int(connection.execute(sql, (table,)).fetchone()[0])


def leaves_of(run: Path, table: str) -> list[int]:
    """Returns the pages that a table's root of one level refers to, in order."""
    data = (run / DATABASE).read_bytes()
    page = data[(root_of(run, table) - 1) * PAGE :][:PAGE]
    assert page[0] == INTERIOR
    cells = int.from_bytes(page[3:5], "big")
    places = [int.from_bytes(page[12 + 2 * n :][:2], "big") for n in range(cells)]
    return [int.from_bytes(page[place:][:4], "big") for place in places]


def write_page(run: Path, page: int, data: bytes) -> None:
    with (run / DATABASE).open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(data)


@pytest.mark.parametrize("page", range(1, 33))
def test_a_page_of_garbage_is_named_or_changes_nothing(run, saved, page):
    whole = everything(run)
    assert (run / DATABASE).stat().st_size <= 32 * PAGE
    write_page(run, page, random.Random(page).randbytes(PAGE))
    # The page of an index that no query asks may be anything.
    with suppress(StoreError):
        assert everything(run) == whole
    with suppress(StoreError):
        told = save(run, saved)
        expect_generations(saved, told.generation)


def test_no_change_of_bytes_does_worse_than_to_be_named(run, saved):
    database = run / DATABASE
    data = database.read_bytes()
    draws = random.Random(7)
    rows = [place for place in range(len(data)) if data[place]]
    told = 0
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(draws.randrange(1, 30)):
            changed[draws.choice(rows)] = draws.randrange(256)
        database.write_bytes(changed)
        try:
            read_all(run)
        except EvolveError as error:
            assert "evolve repair" in str(error) or "got others" in str(error)  # noqa: PT017 - not every change is one that matters
            told += 1
        shutil.rmtree(saved, ignore_errors=True)
        with suppress(EvolveError):
            last = save(run, saved).generation
            assert read_all(saved) == last
    assert told > 8


def read_all(run: Path) -> int:
    """Reads whatever commands read, and returns the last generation."""
    with closing(Store.open_to_read(run)) as store:
        list(describe_everything(store))
        list(store.light_attempts())
        store.spent(), store.load_generation(1)
        last = store.last_generation()
        assert last is not None
        return last


def everything(run: Path) -> list[str]:
    with closing(Store.open_to_read(run)) as store:
        return [json.dumps(line, sort_keys=True) for line in describe_everything(store)]


def test_a_copy_holds_everything_up_to_its_generation_and_nothing_else(tmp_path):
    run, copy = tmp_path / "run", tmp_path / "copy"
    make_run(run, 6)
    copy.mkdir()
    assert copy_database(run, copy, 2) == 2
    store = Store.open_to_read(copy)
    assert store.last_generation() == 2
    assert store.finished_after(2) == ([], [])
    assert store.spent()["calls"] == 3
    store.close()
