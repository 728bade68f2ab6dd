"""Commands that write or delete files, over run folders that somebody else has filled."""

import fcntl
import json
import os
import shutil
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from evolve.records import Program, SourceFile
from tests.commands import run_evolve


@pytest.fixture
def run(made, tmp_path) -> Path:
    shutil.copytree(made / "r", tmp_path / "deep/er/r")
    return tmp_path / "deep/er/r"


@pytest.fixture
def victim(tmp_path) -> Path:
    path = tmp_path / "victim"
    path.write_text("as it was")
    return path


def rename_program_files(run: Path, name: str) -> None:
    """Makes every program of a run one whose file has another path, with ids that fit."""
    with closing(sqlite3.connect(run / "run.db")) as database, database:
        found = database.execute("SELECT id, source FROM programs").fetchall()
        for program, data in found:
            ((_, text),) = json.loads(zlib.decompress(data))
            other = Program((SourceFile(name, text),))
            packed = zlib.compress(json.dumps([[name, text]]).encode())
            database.execute("UPDATE programs SET source = ? WHERE id = ?", (packed, program))
            for table, column in (("programs", "id"), ("attempts", "program"),
                                  ("evaluations", "program")):  # fmt: skip
                database.execute(
                    f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (other.id, program)
                )


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["../../victim", "{tmp}/victim", ".bashrc", "a/../../../victim"])
@pytest.mark.parametrize(
    "command",
    [
        ["best", "{run}", "--output", "out"],
        ["export", "{run}", "--output", "out"],
        ["fork", "{run}", "--run-dir", "out"],
        ["report", "{run}"],
        ["prune", "{run}"],
        ["repair", "{run}", "--output", "out"],
        ["resume", "{run}", "--generations", "2"],
        ["verify", "{run}"],
    ],
    ids=lambda command: command[0],
)
def test_no_path_in_a_database_leads_out(run, victim, tmp_path, command, name):
    rename_program_files(run, name.replace("{tmp}", str(tmp_path)))
    (tmp_path / "work").mkdir()
    before = files_of(tmp_path)
    run_evolve(
        *[part.replace("{run}", str(run)) for part in command], cwd=tmp_path / "work", code=None
    )
    assert victim.read_text() == "as it was"
    new = files_of(tmp_path) - before
    assert all(path.is_relative_to(run) or path.is_relative_to(tmp_path / "work") for path in new)
    assert not any(path.name in {".bashrc", "victim"} for path in new)


def test_such_a_champion_is_not_written(run, tmp_path):
    rename_program_files(run, "../../victim")
    error = run_evolve("best", run, "--output", "out", cwd=tmp_path, code=4).stderr
    assert "expected the path of a file inside" in error
    assert "../../victim" in error


@pytest.mark.parametrize(
    ("link", "command", "code"),
    [
        ("report.html", ["report"], 4),
        ("certificate.json", ["verify"], 4),
        ("run.lock", ["resume", "--generations", "2"], 4),
        ("run.lock", ["prune"], 4),
        ("output.log", ["resume", "--generations", "2", "--detach"], 4),
        ("settings.toml", ["resume", "--generations", "2"], 2),
        ("run.db", ["show"], 2),
        ("run.db-wal", ["show"], 2),
        ("best/initial.py", ["resume", "--generations", "1"], 0),
        ("best/verdict.json", ["resume", "--generations", "1"], 0),
    ],
)
def test_nothing_is_written_through_a_link_in_a_run(run, victim, link, command, code):
    path = run / link
    path.unlink(missing_ok=True)
    path.symlink_to(victim)
    run_evolve(command[0], run, *command[1:], cwd=victim.parent, code=code)
    assert victim.read_text() == "as it was"


@pytest.mark.parametrize("name", ["best", "artifacts"])
def test_no_folder_that_is_a_link_is_written_to(run, tmp_path, name):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/kept.txt").write_text("mine")
    shutil.rmtree(run / name, ignore_errors=True)
    (run / name).symlink_to(tmp_path / "home")
    for command in (["resume", run, "--generations", "2"], ["prune", run]):
        run_evolve(*command, cwd=tmp_path, code=None)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["kept.txt"]


def test_a_file_that_is_named_is_not_written_through_a_link(run, victim, tmp_path):
    (tmp_path / "page.html").symlink_to(victim)
    error = run_evolve("report", run, "--output", "page.html", cwd=tmp_path, code=4).stderr
    assert "it is a link" in error
    assert victim.read_text() == "as it was"


@pytest.mark.parametrize("holder", ["-1", "0", "1", "-2", "abc", "+1", "\u0661"])
def test_only_a_single_process_is_stopped(run, tmp_path, holder):
    with (run / "run.lock").open("w") as lock:
        lock.write(holder)
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        error = run_evolve("stop", run, "--timeout", "1", cwd=tmp_path, code=2).stderr
    assert f"process {holder} cannot be seen from here" in error


def test_a_name_of_a_folder_is_quoted_in_what_is_to_be_copied(run, tmp_path):
    other = run.rename(tmp_path / "r; touch harm #")
    (other / "run.db").write_bytes(b"damaged" * 1000)
    error = run_evolve("show", "r; touch harm #", cwd=tmp_path, code=4).stderr
    assert "evolve repair 'r; touch harm #' --output" in error


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run, tmp_path):
    for name in ("run.lock", "report.html", "run.owner"):
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)
    assert "--trust" in run_evolve("verify", run, cwd=tmp_path, code=2).stderr
