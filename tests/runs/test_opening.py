"""The machine fails under a run: it says what, and the resumed run ends like an undisturbed one."""

import os
import re
import shutil
import site
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

import evolve
from evolve.errors import MachineError, StoreError
from evolve.runs.opening import failures_of_the_machine
from evolve.store import DATABASE, Store
from tests.commands import (
    run_evolve,
    run_json,
    start_evolve,
    wait_for_rows,
    write_problem,
    write_script,
)
from tests.model_server import Answer, ModelServer, answer_like_scripted
from tests.store.test_store import fill, make_generation

NOBODY = 65534


def asked(folder: Path, generations: int = 6, latency: float = 0.05) -> tuple[object, ...]:
    model = write_script(folder / "model.json", latency_seconds=latency)
    return "--model", model, "--generations", generations, "--set", "loop.slots=4"


def archive_of(run: Path, cwd: Path) -> object:
    return run_json("archive", run, cwd=cwd)


@contextmanager
def mounted(folder: Path, *arguments: str):
    folder.mkdir()
    done = subprocess.run(["mount", *arguments, folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_stops_the_run_until_there_is_room(tmp_path, problem):
    run_evolve("run", problem, *asked(tmp_path), "--run-dir", "whole", cwd=tmp_path)
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=2m", "tmpfs"):
        run = disk / "r"
        done = run_evolve("run", problem, *asked(tmp_path), "--run-dir", run, cwd=tmp_path, code=4)
        assert "what was committed is safe: free the disk" in done.stderr
        assert f"to continue: evolve resume {run}" in done.stderr
        assert run_evolve("resume", run, cwd=tmp_path, code=4).stderr.startswith("error: ")
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert "finished" in run_evolve("resume", run, cwd=tmp_path).stdout
        assert archive_of(run, tmp_path) == archive_of(tmp_path / "whole", tmp_path)


def test_a_disk_that_turns_read_only_stops_the_run_until_it_is_writable(tmp_path, problem):
    run_evolve("run", problem, *asked(tmp_path), "--run-dir", "whole", cwd=tmp_path)
    image, disk = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, capture_output=True)
    run = disk / "r"
    with mounted(disk, "-o", "loop", str(image)):
        process = start_evolve("run", problem, *asked(tmp_path), "--run-dir", run, cwd=tmp_path)
        wait_for_rows(run, "generations", 2)
        # What the kernel does to a file system in which it finds an error.
        subprocess.run(["mount", "-o", "remount,abort", disk], capture_output=True, check=False)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 4, out + err
        assert "what was committed is safe" in err
        assert f"to continue: evolve resume {run}" in err
    subprocess.run(["fsck.ext4", "-y", image], capture_output=True, check=False)
    disk.rmdir()
    with mounted(disk, "-o", "loop", str(image)):
        assert "finished" in run_evolve("resume", run, cwd=tmp_path).stdout
        assert archive_of(run, tmp_path) == archive_of(tmp_path / "whole", tmp_path)


_SPAWNS = (
    "import evolve, numpy, subprocess, sys; subprocess.run([sys.executable, '-V'], check=True)"
)


@contextmanager
def folder_of_nobody() -> Iterator[tuple[Path, list[str], dict[str, str]]]:
    """Returns a folder of another user, and how to run our Python as that user."""
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    places = [str(Path(evolve.__file__).parent.parent), *site.getsitepackages()]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "DOCKER_HOST": "unix:///no",
                   "PYTHONPATH": ":".join(places)}  # fmt: skip
    try:
        os.chown(folder, NOBODY, NOBODY)
        # Ours may lie where only root may look.
        for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
            command = [*user, python]
            with suppress(OSError):
                done = subprocess.run(
                    [*command, "-c", _SPAWNS], cwd=folder, env=environment, capture_output=True,
                    check=False,
                )  # fmt: skip
                if done.returncode == 0:
                    yield folder, command, environment
                    return
        pytest.skip("no other user can run this here")
    finally:
        shutil.rmtree(folder)


def test_a_lost_permission_stops_the_run_until_it_is_given_back():
    with folder_of_nobody() as (folder, command, environment):
        problem = write_problem(folder / "valley")
        words = ["-m", "evolve", "run", problem, *asked(folder, 30),
                 "--run-dir", "r"]  # fmt: skip
        process = subprocess.Popen(
            [*command, *map(str, words)], cwd=folder, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for_rows(folder / "r", "generations", 2)
        for path in (folder / "r", folder / "r" / "best"):
            path.chmod(0o555)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 4, out + err
        assert "Permission denied" in err
        assert "to continue: evolve resume r" in err
        resume = [*command, "-m", "evolve", "resume", "r", "--generations", "3"]
        done = subprocess.run(
            resume, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 4
        assert "Permission denied" in done.stderr
        for path in (folder / "r", folder / "r" / "best"):
            path.chmod(0o755)
        done = subprocess.run(
            resume, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_a_database_that_another_process_holds_for_a_while_is_waited_for(tmp_path, problem):
    run_evolve("run", problem, *asked(tmp_path), "--run-dir", "whole", cwd=tmp_path)
    process = start_evolve("run", problem, *asked(tmp_path), "--run-dir", "r", cwd=tmp_path)
    wait_for_rows(tmp_path / "r", "generations", 2)
    with closing(sqlite3.connect(tmp_path / "r" / DATABASE, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(6.0)
        other.rollback()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert archive_of(tmp_path / "r", tmp_path) == archive_of(tmp_path / "whole", tmp_path)


def test_a_database_that_another_process_does_not_let_go_is_named(tmp_path):
    store = Store.create(tmp_path)
    fill(store, 1)
    store._connection.execute("PRAGMA busy_timeout = 50")
    with closing(sqlite3.connect(tmp_path / DATABASE)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process holds the database, and what was"):
            store.commit(make_generation(1))
        other.rollback()
    store.commit(make_generation(1))
    store.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "out of memory; what was committed is safe: free memory, then"),
        (OSError(24, "Too many open files"), "raise the limit on open files"),
        (OSError(28, "No space left on device", "/disk/file"), "/disk/file: No space left"),
        (
            BlockingIOError(11, "Resource temporarily unavailable"),
            "end other processes, then `evolve resume r`",
        ),
        (
            RuntimeError("can't start new thread"),
            "end other processes or free memory, then `evolve resume r`",
        ),
    ],
)
def test_failures_of_the_machine_are_told_as_such(error, words):
    with pytest.raises(MachineError, match=words), failures_of_the_machine(Path("r")):
        raise error


@pytest.mark.parametrize("error", [OSError(2, "No such file"), RuntimeError("other"), KeyError()])
def test_what_may_be_a_bug_is_not_told_as_a_failure_of_the_machine(error):
    with pytest.raises(type(error)), failures_of_the_machine(Path("r")):
        raise error


def test_a_network_that_is_cut_in_mid_reply_stops_the_run_and_it_can_be_resumed(tmp_path, problem):
    is_cut = False

    def answer(body) -> Answer:
        good = answer_like_scripted(body)
        return Answer(good.text, cut_after=40) if is_cut else good

    key = {"OPENAI_API_KEY": "sk-test"}
    with ModelServer(answer, delay=0.02) as server:
        process = start_evolve(
            "run", problem, "--model", "openai/test", "--api-base", server.url, "--run-dir", "r",
            "--generations", 4, "--set", "models.request_seconds=3", "--set", "tuning.share=0",
            cwd=tmp_path, **key,
        )  # fmt: skip
        wait_for_rows(tmp_path / "r", "generations", 2)
        is_cut = True
        out, err = process.communicate(timeout=120)
        assert process.returncode == 4, out + err
        assert re.search(r"down for \d+ s, the last request failed with", err)
        assert "to continue: evolve resume r" in err
        before = run_json("show", "r", cwd=tmp_path)["calls"]
        is_cut = False
        run_evolve("resume", "r", cwd=tmp_path, **key)
    assert run_json("show", "r", cwd=tmp_path)["calls"] > before
