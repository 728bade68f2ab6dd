"""Trackers follow a run: a real MLflow server, its database, and event files of TensorBoard."""

import importlib.util
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing

import pytest

from evolve.report.observers import TrackerObserver
from tests.commands import run_evolve, start_evolve, write_problem

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="needs MLflow: pip install 'evolve[mlflow]'"
)
needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None,
    reason="needs tensorboardX: pip install 'evolve[tensorboard]'",
)


def track(folder, name, code=0, **environment):
    write_problem(folder / "valley")
    process = start_evolve(
        "run", "valley", "--generations", "2", "--run-dir", "r", "--track", name, cwd=folder,
        **environment,
    )  # fmt: skip
    out, err = process.communicate(timeout=180)
    assert process.returncode == code, f"{out}\n{err}"
    return out


@needs_mlflow
def test_mlflow_keeps_numbers_and_settings_in_the_run_folder(tmp_path):
    track(tmp_path, "mlflow")
    with closing(sqlite3.connect(tmp_path / "r/mlflow.db")) as database:
        metrics = database.execute("SELECT key, step FROM metrics WHERE key = 'objective'")
        assert [step for _, step in metrics.fetchall()] == [1, 2]
        settings = dict(database.execute("SELECT key, value FROM params").fetchall())
        tags = dict(database.execute("SELECT key, value FROM tags").fetchall())
    assert settings["loop.generations"] == "2"
    assert tags["champion"].count(".") == 2
    # Numbers and settings only: nothing of a program.
    assert b"def point" not in (tmp_path / "r/mlflow.db").read_bytes()


@needs_mlflow
def test_mlflow_reports_to_a_server(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--port", address.rpartition(":")[2],
         "--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not is_up(address):
            assert server.poll() is None
            assert time.monotonic() < deadline, "the server never came up"
            time.sleep(0.5)
        track(tmp_path, "mlflow", MLFLOW_TRACKING_URI=address)
        runs = ask(f"{address}/api/2.0/mlflow/runs/search", experiment_ids=["1"])["runs"]
        assert [run["info"]["status"] for run in runs] == ["FINISHED"]
        metrics = {one["key"]: one["value"] for one in runs[0]["data"]["metrics"]}
        assert metrics["evaluations"] > 1
    finally:
        os.killpg(server.pid, 9)
        server.wait()


@needs_tensorboard
def test_tensorboard_gets_event_files(tmp_path):
    track(tmp_path, "tensorboard")
    (events,) = (tmp_path / "r/tensorboard").iterdir()
    data = events.read_bytes()
    assert data.count(b"objective") == 2
    assert b"loop.generations" in data
    assert b"def point" not in data


@needs_mlflow
def test_a_server_that_is_not_there_ends_the_command_and_leaves_the_run(tmp_path):
    out = track(
        tmp_path, "mlflow", code=4, MLFLOW_TRACKING_URI="http://127.0.0.1:9",
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
    )  # fmt: skip
    assert "starting program: objective" in out
    run_evolve("resume", "r", cwd=tmp_path)


class Failing:
    """A tracker of a user whose disk is full."""

    def on_generation(self, numbers, step):
        raise OSError("no space left")

    def on_end(self, facts):
        raise AssertionError("it was switched off")


def test_a_tracker_that_fails_is_switched_off_and_named():
    said = []
    observer = TrackerObserver([Failing()], None, said.append)
    observer.report({"objective": 1.0}, 1)
    observer.report({"objective": 2.0}, 2)
    observer.end()
    assert said == ["Failing: switched off: OSError: no space left"]


def test_what_cannot_track_is_refused_before_anything_slow(tmp_path):
    refused = run_evolve("run", "valley", "--track", "nothing", cwd=tmp_path, code=2)
    assert "--track: expected one of mlflow, wandb, tensorboard, got 'nothing'" in refused.stderr
    both = run_evolve("run", "valley", "--detach", "--json-lines", cwd=tmp_path, code=2)
    assert "--detach: expected neither --json-lines nor --track" in both.stderr


def is_up(address):
    try:
        with urllib.request.urlopen(f"{address}/health") as answer:
            return answer.status == 200
    except OSError:
        return False


def ask(address, **data):
    request = urllib.request.Request(
        address, json.dumps(data).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)
