import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from evolve.problem import load_problem
from evolve.records import Program, SourceFile, Status
from evolve.records.chat import Message, Request, describe_difference
from evolve.runs.wiring import open_evaluators
from evolve.settings import Settings
from evolve.settings.sections import SandboxSettings
from tests.commands import (
    change_database,
    run_evolve,
    run_json,
    start_evolve,
    wait_for_rows,
    write_problem,
    write_script,
)

REQUEST = Request("editor", (Message("system", "s"), Message("user", "a\nb\nc")), 10)


@pytest.fixture
def recorded(tmp_path, problem):
    run_evolve(
        "run", problem, "--model", "scripted", "--generations", 2, "--set", "loop.slots=3",
        "--run-dir", "r", cwd=tmp_path,
    )  # fmt: skip
    return tmp_path


def test_a_run_can_be_answered_from_another_ones_record(recorded):
    run_evolve("run", "--replay", "r", "--run-dir", "q", cwd=recorded)
    assert run_json("archive", "q", cwd=recorded) == run_json("archive", "r", cwd=recorded)
    first, second = (run_json("show", run, cwd=recorded) for run in ("r", "q"))
    assert second["models"] == first["models"]
    assert second["replay"] == str((recorded / "r").resolve())


def test_a_changed_prompt_is_a_miss_and_the_end_of_the_record_an_end(recorded):
    statement = recorded / "valley" / "statement.md"
    statement.write_text(statement.read_text() + "Be quick.\n")
    done = run_evolve("run", "valley", "--replay", "r", "--run-dir", "q", cwd=recorded, code=4)
    assert "(editor): expected the request recorded in" in done.stderr
    assert "now 'Be quick.'" in done.stderr
    statement.write_text(statement.read_text().replace("Be quick.\n", ""))
    done = run_evolve(
        "run", "--replay", "r", "--run-dir", "p", "--set", "steps.repairs=3", cwd=recorded
    )
    assert "finished" in done.stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"messages": REQUEST.messages[:1]}, "2 messages recorded, 1 now"),
        (
            {"messages": (REQUEST.messages[0], Message("user", "a\nB\nc"))},
            "message 2, line 2: recorded 'b', now 'B'",
        ),
        (
            {"messages": (REQUEST.messages[0], Message("assistant", "a"))},
            "message 2 was of the user, is of the assistant",
        ),
        ({"temperature": 0.5}, "`temperature`: recorded None, now 0.5"),
    ],
)
def test_the_first_difference_is_named(changes, words):
    values = {"role": "editor", "messages": REQUEST.messages, "max_tokens": 10, **changes}
    assert describe_difference(REQUEST, Request(**values)) == words


def test_a_replay_finds_every_generation_equal(run, tmp_path):
    done = run_evolve("replay", run, cwd=tmp_path)
    assert done.stdout == "equal: generations 0 to 6, every attempt and every archive\n"


def test_a_replay_names_what_differs(run, tmp_path):
    change_database(
        run, "UPDATE attempts SET island = 1 - island WHERE generation = 3 AND slot = 1"
    )
    done = run_evolve("replay", run, cwd=tmp_path, code=5)
    assert re.search(r"attempt 3\.1\.0: island: recorded (0, now 1|1, now 0)", done.stdout)
    assert done.stdout.endswith("different: from generation 3 on\n")


def test_a_replay_without_a_recorded_reply_differs(run, tmp_path):
    change_database(run, "DELETE FROM calls WHERE generation = 2 AND slot = 0")
    done = run_evolve("replay", run, cwd=tmp_path, code=5)
    # Without its attempt, the summarizer would be asked something else.
    assert "generation 2: call 2.-1.0: expected the request that was recorded" in done.stdout


def test_a_run_that_was_given_more_generations_replays(run, tmp_path):
    run_evolve("resume", run, "--generations", 9, cwd=tmp_path)
    assert "equal: generations 0 to 9" in run_evolve("replay", run, cwd=tmp_path).stdout


@pytest.mark.parametrize("model", [(), ("--model", "scripted")], ids=["operators", "scripted"])
def test_a_run_whose_cap_was_raised_replays_and_tells_it(tmp_path, model):
    problem = write_problem(tmp_path / "valley")
    asked = (*model, "--generations", 8, "--run-dir", "r")
    run_evolve("run", problem, *asked, "--max-evaluations", 13, cwd=tmp_path)
    assert "equal: generations 0 to " in run_evolve("replay", "r", cwd=tmp_path).stdout
    run_evolve("resume", "r", "--max-evaluations", 40, cwd=tmp_path)
    assert "equal: generations 0 to 8" in run_evolve("replay", "r", cwd=tmp_path).stdout
    invocations = run_json("show", "r", cwd=tmp_path)["invocations"]
    assert [one["number"] for one in invocations] == [1, 2]
    assert invocations[1]["changes"] == {"budget.max_evaluations": [13, 40]}
    log = run_evolve("log", "r", cwd=tmp_path).stdout
    assert "invocation  2 by process " in log
    assert "budget.max_evaluations 13 -> 40" in log


def test_a_cap_raised_in_mid_generation_leaves_what_was_paid_for_as_it_was(tmp_path):
    # The cap leaves the last generation one evaluation a slot: with more, its slots would ask
    # for a repair where the record has the summary.
    problem = write_problem(tmp_path / "valley")
    model = write_script(tmp_path / "model.json", latency_seconds=0.1)
    process = start_evolve(
        "run", problem, "--model", model, "--generations", 3, "--set", "loop.slots=4",
        "--max-evaluations", 6, "--force", "--run-dir", "r", cwd=tmp_path,
    )  # fmt: skip
    wait_for_rows(tmp_path / "r", "evaluations", 3)
    process.kill()
    process.communicate()
    run_evolve("resume", "r", "--max-evaluations", 40, cwd=tmp_path)
    assert run_json("show", "r", cwd=tmp_path)["generations"] == 3
    assert "equal: generations 0 to 3" in run_evolve("replay", "r", cwd=tmp_path).stdout


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
        f"UPDATE evaluations SET objective = 1.0 WHERE generation = {generation} "
        f"AND slot = {slot} AND number = (SELECT evaluation FROM attempts WHERE "
        f"generation = {generation} AND slot = {slot} AND number = {number})",
    )
    done = run_evolve("verify", run, cwd=tmp_path, code=5)
    assert f"differs: attempt {best['attempt']}: recorded 1.0" in done.stdout
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
