"""Run folders as somebody else may have filled them: links, names, code in the database."""

import hashlib
import os
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from evolve.errors import EvolveError, StoreError, UsageError
from evolve.records import INITIAL, Attempt, AttemptKey, Evaluation, Program, SourceFile, Status
from evolve.records.results import Evaluated
from evolve.run.folder import save_settings, write_program
from evolve.settings import Settings
from evolve.store import Store, find_holder
from evolve.store.artifacts import LARGE_BYTES, ArtifactFiles
from evolve.store.copying import copy_database
from evolve.store.pruning import prune_database
from evolve.store.rows import inflate
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


def keep_large(run: Path) -> str:
    text = "x" * (LARGE_BYTES + 1)
    evaluation = Evaluation(Status.OK, 1.0, artifacts={"large": text})
    with closing(Store.open_to_write(run)) as store:
        program = Program((SourceFile("initial.py", "x = 1\n"),))
        store.keep([Evaluated(AttemptKey(1, 77, 0), program, evaluation)])
    return hashlib.sha256(text.encode()).hexdigest()


def test_pruning_deletes_nothing_behind_a_link(run, tmp_path):
    keep_large(run)
    (tmp_path / "home").mkdir()
    (run / "artifacts").rename(tmp_path / "home/artifacts")
    (tmp_path / "home/artifacts/mine.txt").write_text("mine")
    (run / "artifacts").symlink_to(tmp_path / "home/artifacts")
    with pytest.raises(StoreError, match="is a link"):
        prune_database(run, keep=[], upto=9, fewest_bytes=0, last=1)
    assert len(list((tmp_path / "home/artifacts").iterdir())) == 2


def test_artifacts_are_not_written_behind_a_link(run, tmp_path):
    (tmp_path / "home").mkdir()
    (run / "artifacts").symlink_to(tmp_path / "home")
    with pytest.raises(StoreError, match="link"):
        keep_large(run)
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("name", ["../../victim", "/tmp/evolve-victim", "", "a/b", "run.db"])
def test_artifacts_are_copied_by_their_hash_alone(run, tmp_path, name):
    digest = keep_large(run)
    change(run, "UPDATE artifact_files SET sha256 = ? WHERE sha256 = ?", name, digest)
    (tmp_path / "a/b").mkdir(parents=True)
    target = tmp_path / "a/b/copy"
    target.mkdir()
    with closing(sqlite3.connect(run / "run.db")) as connection:
        ArtifactFiles(run).copy_to(target, connection)
    assert list(target.rglob("*")) == []
    assert not (tmp_path / "a/victim").exists()


def test_a_link_or_a_pipe_among_the_artifacts_is_a_missing_one(run, victim):
    digest = keep_large(run)
    path = run / "artifacts" / digest
    path.unlink()
    path.symlink_to(victim)
    with closing(Store.open_to_read(run)) as store:
        assert len(store.missing_artifacts()) == 1
        path.unlink()
        os.mkfifo(path)
        assert len(store.missing_artifacts(contents=True)) == 1


def test_a_copy_of_a_run_takes_no_link_along(run, tmp_path):
    digest = keep_large(run)
    (run / "artifacts" / digest).rename(tmp_path / "moved")
    (run / "artifacts" / digest).symlink_to(tmp_path / "moved")
    (tmp_path / "copy").mkdir()
    copy_database(run, tmp_path / "copy", None)
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["run.db"]


def test_a_text_that_unpacks_without_end_is_damage():
    bomb = zlib.compress(zlib.compress(b"\0" * (1 << 20), 9) * 8, 9)
    assert inflate(zlib.compress(b"text")) == b"text"
    with pytest.raises(zlib.error):
        inflate(bomb[:-5])
    packer = zlib.compressobj(9)
    parts = [packer.compress(b"\0" * (1 << 24)) for _ in range(17)]
    with pytest.raises(zlib.error, match="longer than any"):
        inflate(b"".join([*parts, packer.flush()]))


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\ud800".encode("utf-16", "surrogatepass")])
def test_facts_that_cannot_be_read_are_damage(run, text):
    change(run, "INSERT INTO facts VALUES ('seed', ?)", text)
    with pytest.raises(EvolveError), closing(Store.open_to_read(run)) as store:
        store.facts()
