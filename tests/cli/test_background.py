"""Runs that lose, leave or regain their terminal."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.commands import (
    count_rows,
    run_detached,
    run_evolve,
    run_json,
    start_evolve,
    write_problem,
    write_script,
)

ENVIRONMENT = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}


def slow_model(folder, seconds=0.2) -> tuple[str, ...]:
    return "--model", write_script(folder / "model.json", latency_seconds=seconds)


def wait_for(condition, seconds=60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def wait_for_calls(folder, calls=3) -> None:
    wait_for(lambda: count_rows(folder / "r" / "run.db", "calls") >= calls)


def test_a_detached_run_is_attached_to_until_its_end(tmp_path, problem):
    told = run_detached(
        "run", problem, *slow_model(tmp_path), "--generations", 2, "--run-dir", "r", cwd=tmp_path
    )
    assert re.search(r"detached: process \d+ runs .*; output: r/output.log", told)
    assert run_json("show", "r", cwd=tmp_path)["status"] == "running"
    seen = run_evolve("attach", "r", cwd=tmp_path).stdout
    assert "generation 2/2  champion" in seen
    assert "finished: all generations done; champion" in seen
    assert (tmp_path / "r" / "report.html").is_file()
    assert "finished: all generations done" in (tmp_path / "r" / "output.log").read_text()


def test_an_interrupt_leaves_the_run_alone_and_stop_ends_it_in_order(tmp_path, problem):
    run_detached(
        "run", problem, *slow_model(tmp_path), "--generations", 40, "--run-dir", "r", cwd=tmp_path
    )
    attached = start_evolve("attach", "r", cwd=tmp_path)
    assert attached.stdout is not None
    assert attached.stdout.readline().startswith("generation ")
    attached.send_signal(signal.SIGINT)
    out, err = attached.communicate(timeout=120)
    assert attached.returncode == 130, out + err
    assert "the run continues; to stop it: evolve stop r" in out
    assert run_json("show", "r", cwd=tmp_path)["status"] == "running"
    assert run_evolve("stop", "r", cwd=tmp_path).stdout == "stopped; to continue: evolve resume r\n"
    assert run_json("show", "r", cwd=tmp_path)["stopped_because"] == "interrupted"
    assert "interrupted; " in run_evolve("attach", "r", cwd=tmp_path, code=130).stdout
    assert "is not running" in run_evolve("stop", "r", cwd=tmp_path).stdout


def test_a_run_that_does_not_stop_in_time_can_be_killed(tmp_path, problem):
    run_detached("run", problem, *slow_model(tmp_path, 5), "--run-dir", "r", cwd=tmp_path)
    late = run_evolve("stop", "r", "--timeout", 0, cwd=tmp_path, code=4)
    assert "has not stopped within 0 s" in late.stderr
    assert "evolve stop r --force" in late.stderr
    assert "killed; to continue" in run_evolve("stop", "r", "--force", cwd=tmp_path).stdout
    killed = run_evolve("attach", "r", cwd=tmp_path, code=4)
    assert "killed: its process is gone\nto continue: evolve resume r" in killed.stderr


def test_a_detached_run_that_cannot_start_is_told_at_once(tmp_path):
    folder = write_problem(tmp_path / "bad", initial="def point():\n    return 1 / 0\n")
    done = run_evolve("run", folder, "--run-dir", "r", "--detach", cwd=tmp_path, code=2)
    assert "ZeroDivisionError" in done.stdout
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("detach", [False, True], ids=["stops", "goes on"])
def test_when_the_terminal_is_closed_the_run(tmp_path, problem, detach):
    words = ["run", problem, *slow_model(tmp_path), "--generations", "40", "--run-dir", "r"]
    words += ["--detach"] if detach else []
    terminal, end_of_it = os.openpty()

    process = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-m", "evolve", *map(str, words)], cwd=tmp_path,
        env={**os.environ, **ENVIRONMENT, "TERM": "xterm"},
        stdin=end_of_it, stdout=end_of_it, stderr=end_of_it,
    )  # fmt: skip
    os.close(end_of_it)
    wait_for_calls(tmp_path)
    if detach:
        process.wait(30)
    os.close(terminal)
    if detach:
        calls = count_rows(tmp_path / "r" / "run.db", "calls")
        wait_for_calls(tmp_path, calls + 3)
        assert "stopped" in run_evolve("stop", "r", cwd=tmp_path).stdout
    else:
        assert process.wait(60) == 130
    assert run_json("show", "r", cwd=tmp_path)["stopped_because"] == "interrupted"


def test_under_nohup_a_closed_terminal_is_passed_over(tmp_path, problem):
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "evolve", "run", str(problem), *slow_model(tmp_path, 0.05),
         "--generations", "2", "--run-dir", "r"],
        cwd=tmp_path, env={**os.environ, **ENVIRONMENT}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    wait_for_calls(tmp_path)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "finished" in out
