"""Runs that lose, leave or regain their terminal."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from evolve.store import Store
from tests.commands import (
    INITIAL,
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


MINE = INITIAL.replace("first = 1.0", "first = 2.5")


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    """A run with a model that was steered after its second generation."""
    folder = tmp_path_factory.mktemp("steered")
    write_problem(folder / "valley")
    common = ("--model", "scripted", "--set", "loop.slots=2")
    run_evolve("run", "valley", *common, "--generations", 4, "--run-dir", "whole", cwd=folder)
    run_evolve("fork", "whole", "--generation", 2, "--run-dir", "r", cwd=folder)
    (folder / "mine.py").write_text(MINE)
    run_evolve("hint", "r", "The hidden point has a\nnegative second number.", cwd=folder)
    run_evolve("inject", "r", "mine.py", cwd=folder)
    run_evolve("pin", "r", "0.0.0", cwd=folder)
    run_evolve("resume", "r", cwd=folder)
    return folder


def prompts(folder, run: str, generation: int) -> str:
    with closing(Store.open_to_read(folder / run)) as store:
        calls = store.finished_after(generation - 1, generation)[0]
    return "\n".join(call.request.messages[-1].text for call in calls)


def test_models_read_hints_and_pins_from_the_next_generation_on(steered):
    wish = (
        "The user of this run says:\n\n"
        "- The hidden point has a negative second number.\n"
        "- Program 0.0.0 is pinned: work on it, too."
    )
    assert wish in prompts(steered, "r", 3)
    assert "## Program 0.0.0" in prompts(steered, "r", 4)
    assert "The user of this run" not in prompts(steered, "r", 2)


def test_log_lineage_and_show_name_the_user(steered):
    log = run_evolve("log", "r", cwd=steered).stdout
    assert "2 by the user: a program of the user's: mine.py" in log
    (attempt,) = [one for one in run_json("show", "r", cwd=steered)["payoffs"]
                  if one["name"] == "inject"]  # fmt: skip
    assert (attempt["uses"], attempt["improved"]) == (1, 1)
    with closing(Store.open_to_read(steered / "r")) as store:
        (key,) = [one.key for one in store.light_attempts() if one.operator == "inject"]
    lineage = run_evolve("lineage", "r", str(key), cwd=steered).stdout
    assert "by         the user" in lineage
    assert "mine.py, put in by the user" in lineage
    assert "3: attempt 0.0.0 is pinned" in run_evolve("show", "r", cwd=steered).stdout
    assert [one["generation"] for one in run_json("hint", "r", cwd=steered)] == [3, 3, 3]


def test_a_steered_run_is_replayed_and_repeated_without_a_model(steered):
    assert "equal" in run_evolve("replay", "r", cwd=steered).stdout
    run_evolve("run", "--replay", "r", "--run-dir", "again", cwd=steered)
    archives = [run_json("archive", name, cwd=steered) for name in ("r", "again", "whole")]
    assert archives[0] == archives[1] != archives[2]
    run_evolve("verify", "again", cwd=steered)
    run_evolve("fork", "r", "--generation", 3, "--run-dir", "f", cwd=steered)
    run_evolve("resume", "f", cwd=steered)
    assert run_json("archive", "f", cwd=steered) == archives[0]


def test_an_export_has_what_was_asked(steered):
    run_evolve("export", "r", "--output", "everything", cwd=steered)
    lines = (steered / "everything" / "run.jsonl").read_text().splitlines()
    asked = [one for one in map(json.loads, lines) if one["kind"] == "steer"]
    assert [(one["asks"], one["generation"]) for one in asked] == [
        ("hint", 3), ("inject", 3), ("pin", 3),
    ]  # fmt: skip


def test_what_was_asked_can_be_dropped(steered):
    run_evolve("fork", "r", "--run-dir", "dropped", cwd=steered)
    assert "number 1 is dropped" in run_evolve("hint", "dropped", "--drop", 1, cwd=steered).stdout
    run_evolve("pin", "dropped", "--drop", 3, cwd=steered)
    run_evolve("resume", "dropped", "--generations", 5, cwd=steered)
    assert "The user of this run" not in prompts(steered, "dropped", 5)
    done = run_evolve("hint", "dropped", "--drop", 3, cwd=steered, code=2)
    assert "--drop: expected the number of a hint (none), got 3" in done.stderr
    done = run_evolve("pin", "dropped", "--drop", 3, cwd=steered, code=2)
    assert "--drop: expected the number of a pin (none), got 3" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("hint", "r", " "), "hint: expected 1 to 4000 characters of text, got 1"),
        (("hint", "r", "x", "--drop", "1"), "--drop: expected nothing with it, got 'x'"),
        (("hint", "r", "--drop", "7"), "--drop: expected the number of a hint (1), got 7"),
        (("pin", "r", "zz"), "program 'zz': none of that id"),
        (("inject", "r", "none.py"), "inject: expected a file, a folder or a run, got nothing at"),
        (("inject", "r", "broken.py"), "expected Python that can be parsed: line 1"),
        (("inject", "r", "frozen.py"), "initial.py: expected all outside of EVOLVE-BLOCK"),
        (("inject", "r", "empty"), "empty/initial.py"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_reason(steered, words, message):
    (steered / "broken.py").write_text("def point(:\n")
    (steered / "frozen.py").write_text("import os\n" + MINE)
    (steered / "empty").mkdir(exist_ok=True)
    assert message in run_evolve(*words, cwd=steered, code=2).stderr


def test_a_run_without_a_model_takes_programs_and_no_hints(tmp_path, problem):
    run_evolve("run", problem, "--generations", 2, "--run-dir", "r", cwd=tmp_path)
    done = run_evolve("hint", "r", "think", cwd=tmp_path, code=2)
    assert "the run has no model that would read it; `evolve inject`" in done.stderr
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "initial.py").write_text(MINE)
    run_evolve("inject", "r", "given", cwd=tmp_path)
    run_evolve("resume", "r", "--generations", 4, cwd=tmp_path)
    assert "the user: given, put in by the user" in run_evolve("log", "r", cwd=tmp_path).stdout
    # The champion of one run starts in another.
    run_evolve("run", problem, "--generations", 1, "--seed", 3, "--run-dir", "o", cwd=tmp_path)
    asked = run_json("inject", "o", "r", cwd=tmp_path)
    assert (asked["kind"], asked["text"]) == ("inject", "r, put in by the user")


def test_a_baseline_has_no_use_for_a_pin(tmp_path, problem):
    run_evolve("run", problem, "--generations", 1, "--strategy", "best-of-n", "--run-dir", "r",
               cwd=tmp_path)  # fmt: skip
    done = run_evolve("pin", "r", "0.0.0", cwd=tmp_path, code=2)
    assert "the run's strategy changes the starting program, always" in done.stderr
