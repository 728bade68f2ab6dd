"""Run folders as somebody else may have filled them: links, names, code in the database."""

import os
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from evolve.errors import EvolveError, StoreError, UsageError
from evolve.records import INITIAL, Attempt, AttemptKey, Evaluation, Program, SourceFile, Status
from evolve.records.results import Evaluated
from evolve.runs.run_folder import save_settings, write_program
from evolve.settings import Settings
from evolve.store import Store, find_holder
from evolve.store.schema import pack, unpack
from tests.searches import Searches

NAMES = ["../out.py", "/tmp/evolve-out.py", "a/../../out.py", ".bashrc", "a/.git/hook", ""]


@pytest.fixture
def run(tmp_path) -> Path:
    Searches(tmp_path).run("run", 2)
    return tmp_path / "run"


@pytest.fixture
def victim(tmp_path) -> Path:
    path = tmp_path / "victim"
    path.write_text("as it was")
    return path


def change(run: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(run / "run.db")) as connection, connection:
        connection.execute(sql, values)


@pytest.mark.parametrize("is_hard", [False, True])
def test_nothing_is_written_through_a_link_beside_the_database(run, victim, is_hard):
    (run / "run.lock").unlink(missing_ok=True)
    if is_hard:
        (run / "run.lock").hardlink_to(victim)
    else:
        (run / "run.lock").symlink_to(victim)
    with pytest.raises(StoreError, match=r"run\.lock: cannot be written: it is a"):
        Store.open_to_write(run)
    assert victim.read_text() == "as it was"


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_database_behind_a_link_is_refused(run, tmp_path, suffix):
    path = run / f"run.db{suffix}"
    if path.exists():
        path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    for opened in (Store.open_to_read, Store.open_to_write):
        with pytest.raises(UsageError, match=r"links are not followed|expected a run folder"):
            opened(run)


def test_the_lock_of_another_run_is_not_taken_for_its_own(run, tmp_path):
    Searches(tmp_path / "mine").run("busy", 1)
    with closing(Store.open_to_write(tmp_path / "mine/busy")):
        assert find_holder(tmp_path / "mine/busy") == str(os.getpid())
        (run / "run.lock").unlink(missing_ok=True)
        (run / "run.lock").symlink_to(tmp_path / "mine/busy/run.lock")
        assert find_holder(run) is None


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER t AFTER INSERT ON facts BEGIN DELETE FROM attempts; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE VIRTUAL TABLE t USING fts5(a)",
    ],
)
def test_a_database_with_code_in_it_is_refused(run, sql):
    change(run, sql)
    for opened in (Store.open_to_read, Store.open_to_write):
        with pytest.raises(StoreError, match="which no run has"):
            opened(run)


@pytest.mark.parametrize("name", NAMES)
def test_no_program_is_written_outside_its_folder(tmp_path, name):
    program = Program((SourceFile(name, "x = 1\n"),))
    attempt = Attempt(INITIAL, 0, None, 0, None, program, Evaluation(Status.OK, 1.0))
    with pytest.raises(StoreError, match="expected the path of a file inside"):
        write_program(tmp_path / "out", attempt)
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


@pytest.mark.parametrize("name", NAMES)
def test_a_program_with_such_a_path_is_damage(tmp_path, name):
    searches = Searches(tmp_path)
    searches.run("run", 1)
    program = Program((SourceFile(name, "x = 1\n"),))
    key = AttemptKey(1, 77, 0)
    with closing(Store.open_to_write(tmp_path / "run")) as store:
        store.keep([Evaluated(key, program, Evaluation(Status.OK, 1.0))])
        with pytest.raises(StoreError, match="damaged: program"):
            store.finished_after(0)


@pytest.mark.parametrize("below", ["best", "best/deeper"])
def test_the_champion_is_not_written_behind_a_link(tmp_path, below):
    (tmp_path / "run").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "run/best").symlink_to(tmp_path / "home")
    program = Program((SourceFile("initial.py", "x = 1\n"),))
    attempt = Attempt(INITIAL, 0, None, 0, None, program, Evaluation(Status.OK, 1.0))
    with pytest.raises(StoreError, match="is a link"):
        write_program(tmp_path / "run", attempt, below=below)
    assert list((tmp_path / "home").iterdir()) == []


def test_settings_behind_a_link_are_replaced_in_the_run(run, victim):
    (run / "settings.toml").unlink(missing_ok=True)
    (run / "settings.toml").symlink_to(victim)
    save_settings(run, Settings())
    assert victim.read_text() == "as it was"


def test_a_text_that_unpacks_without_end_is_damage():
    bomb = zlib.compress(zlib.compress(b"\0" * (1 << 20), 9) * 8, 9)
    assert unpack(pack("text")) == "text"
    with pytest.raises(zlib.error):
        unpack(bomb[:-5])
    packer = zlib.compressobj(9)
    parts = [packer.compress(b"\0" * (1 << 24)) for _ in range(17)]
    with pytest.raises(zlib.error, match="longer than any"):
        unpack(b"".join([*parts, packer.flush()]))


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\ud800".encode("utf-16", "surrogatepass")])
def test_facts_that_cannot_be_read_are_damage(run, text):
    change(run, "INSERT INTO facts VALUES ('seed', ?)", text)
    with pytest.raises(EvolveError), closing(Store.open_to_read(run)) as store:
        store.facts()
