import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from evolve.problem import load_problem
from evolve.records import Program, SourceFile, Status
from evolve.runs.wiring import open_evaluators
from evolve.settings import Settings
from evolve.settings.sections import SandboxSettings
from tests.commands import (
    change_database,
    run_evolve,
    run_json,
    start_evolve,
    write_problem,
)


def test_verify_writes_a_certificate(run, tmp_path):
    done = run_evolve("verify", run, "--repeats", 2, cwd=tmp_path)
    certificate = json.loads((run / "certificate.json").read_text())
    assert certificate["verdict"] == "agrees"
    assert certificate["elites"]["largest_noise"] == 0.0
    assert certificate["elites"]["checked"] == certificate["elites"]["agree"] > 1
    assert set(certificate["sha256"]) == {"problem", "evaluator", "settings"}
    assert certificate["champion"]["again"][0]["objective"] == pytest.approx(
        run_json("show", run, cwd=tmp_path)["champion"]["objective"]
    )
    assert "agrees: " in done.stdout


def test_verify_names_a_verdict_that_came_out_differently(run, tmp_path):
    best = run_json("show", run, cwd=tmp_path)["champion"]
    generation, slot, number = best["attempt"].split(".")
    change_database(
        run,
        f"UPDATE evaluations SET objective = -1.0 WHERE generation = {generation} "
        f"AND slot = {slot} AND number = (SELECT evaluation FROM attempts WHERE "
        f"generation = {generation} AND slot = {slot} AND number = {number})",
    )
    done = run_evolve("verify", run, cwd=tmp_path, code=5)
    assert f"differs: attempt {best['attempt']}: recorded -1.0" in done.stdout
    assert json.loads((run / "certificate.json").read_text())["verdict"] == "differs"
    declared = run / "problem" / "problem.toml"
    declared.write_text("noise = 1000\n" + declared.read_text())
    run_evolve("verify", run, "--trust", cwd=tmp_path)
    assert json.loads((run / "certificate.json").read_text())["tolerance"] == 1000


def test_what_cannot_be_written_is_told_before_programs_are_evaluated(run, tmp_path):
    (tmp_path / "file").touch()
    refused = run_evolve("verify", run, "--output", tmp_path, cwd=run.parent, code=4)
    assert f"{tmp_path}: cannot be written: Is a directory" in refused.stderr
    assert "differs" not in refused.stdout
    for command in ("export", "repair"):
        refused = run_evolve(command, run, "--output", tmp_path / "file", cwd=run.parent, code=2)
        assert "file: expected a new or empty folder" in refused.stderr
        assert "got a file" in refused.stderr


def test_a_verdict_that_nobody_reads_is_not_taken_for_a_good_one(run, tmp_path):
    for command, code in (("archive", 0), ("verify", 130)):
        process = start_evolve(command, run, cwd=tmp_path)
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == code


@pytest.mark.parametrize("victim", ["evaluator", "guest"])
def test_a_killed_evaluator_or_guest_does_not_change_the_verdict(tmp_path, victim):
    folder = write_problem(tmp_path / "valley")
    # A container's processes are children of the engine, not of the evaluator.
    settings = Settings(sandbox=SandboxSettings(backend="native", processes=1))
    evaluators = open_evaluators(load_problem(folder, {}), settings)
    code = "def point():\n    import time\n    time.sleep(1.0)\n    return [1.0, 1.0]\n"
    verdicts = []
    try:
        evaluators.start()
        evaluators.wait()
        (process,) = evaluators._alive
        worker = threading_call(
            lambda: verdicts.append(evaluators.evaluate(Program((SourceFile("initial.py", code),))))
        )
        time.sleep(0.4)
        pid = process._process.pid
        os.kill(pid if victim == "evaluator" else children(pid)[0], signal.SIGKILL)
        worker.join(30)
    finally:
        evaluators.close()
    assert [(verdict.status, verdict.objective) for verdict in verdicts] == [(Status.OK, -13.0)]


def threading_call(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def children(pid) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(word) for task in tasks for word in (task / "children").read_text().split()]
