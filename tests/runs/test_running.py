import resource
import shutil
import signal
import time

import pytest

from tests.commands import (
    EVALUATOR,
    count_rows,
    run_evolve,
    run_json,
    start_evolve,
    write_problem,
    write_script,
)


@pytest.mark.parametrize("islands", [1, 9])
def test_settings_of_the_past_that_were_changed_by_hand_are_refused(run, tmp_path, islands):
    path = run / "settings.toml"
    path.write_text(path.read_text().replace("islands = 2", f"islands = {islands}"))
    for command in ("resume", "show", "replay"):
        done = run_evolve(command, run, cwd=tmp_path, code=2)
        assert f"`search.islands`: expected 2, as the run began with, got {islands}" in done.stderr
        assert f"--set search.islands={islands}` makes a run" in done.stderr


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("high = 10.0", "high = 11.0", "measures"),
        ('name = "first"', 'name = "other"', "measures"),
        ('direction = "maximize"', 'direction = "minimize"', "direction"),
    ],
)
def test_measures_that_were_changed_by_hand_are_refused(run, tmp_path, before, after, name):
    path = run / "problem" / "problem.toml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    for command in (["resume", "--trust"], ["show"]):
        done = run_evolve(*command, run, cwd=tmp_path, code=2)
        assert f"problem.toml: `{name}`: expected " in done.stderr
        assert "as the run began with" in done.stderr


def test_a_full_disk_stops_the_run_and_the_resumed_one_ends_like_another(tmp_path, problem):
    model = write_script(tmp_path / "model.json", latency_seconds=0.05)
    asked = ("--model", model, "--generations", 6, "--set", "loop.slots=4")
    run_evolve("run", problem, *asked, "--run-dir", "whole", cwd=tmp_path)
    process = start_evolve("run", problem, *asked, "--run-dir", "r", cwd=tmp_path)
    database = tmp_path / "r" / "run.db-wal"
    deadline = time.monotonic() + 60
    while run_log(tmp_path) < 2:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    # Every file of the run is as large as it may get.
    size = database.stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 4, out + err
    assert "what was committed is safe" in err
    assert "evolve resume r" in out + err
    assert "finished" in run_evolve("resume", "r", cwd=tmp_path).stdout
    archives = [
        run_evolve("archive", name, "--json", cwd=tmp_path).stdout for name in ("whole", "r")
    ]
    assert archives[0] == archives[1]


@pytest.mark.parametrize("what", ["empty", "missing"])
def test_a_run_that_lost_its_database_is_not_begun_again(run, what):
    for path in run.glob("run.db*"):
        path.unlink()
    if what == "empty":
        (run / "run.db").touch()
    refused = run_evolve("resume", run, cwd=run.parent, code=4)
    assert f"damaged: it is {what}, though the run has reached a champion" in refused.stderr
    assert "to continue" not in refused.stderr


def test_a_damaged_run_is_listed_among_the_others(run, tmp_path):
    for name in ("good", "lost"):
        shutil.copytree(run, tmp_path / "runs" / name)
    (tmp_path / "runs" / "lost" / "run.db").write_bytes(b"")
    shown = run_evolve("ls", cwd=tmp_path).stdout
    assert "finished: generations" in shown
    assert "unreadable: runs/lost/run.db: damaged" in shown
    listed = {entry["run"]: entry["status"] for entry in run_json("ls", cwd=tmp_path)}
    assert listed == {"good": "finished", "lost": "unreadable"}


def test_a_run_killed_before_its_first_checkpoint_says_so(run):
    shutil.rmtree(run / "best")
    for path in run.glob("run.*"):
        path.unlink()
    (run / "run.db").touch()
    assert (
        run_json("show", run, cwd=run.parent)["stopped_because"]
        == "killed before its first checkpoint"
    )


def test_a_run_killed_before_its_first_checkpoint_is_begun_again(run, tmp_path):
    shutil.rmtree(run / "best")
    for path in run.glob("run.[dl]*"):
        path.unlink()
    assert "finished" in run_evolve("resume", run, cwd=tmp_path).stdout


def test_a_second_interrupt_ends_at_once_and_the_run_can_be_resumed(tmp_path, problem):
    model = write_script(tmp_path / "model.json", latency_seconds=8)
    process = start_evolve(
        "run", problem, "--generations", 1, "--model", model, "--run-dir", "r", cwd=tmp_path
    )
    deadline = time.monotonic() + 60
    while run_log(tmp_path) == 0:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert out.splitlines()[-1] == "to continue: evolve resume r"
    assert run_json("show", "r", cwd=tmp_path)["generations"] == 0


@pytest.mark.parametrize("lines", [1, 6])
def test_a_run_whose_output_nobody_reads_any_more_stops_in_order_and_says_so(tmp_path, lines):
    problem = write_problem(tmp_path / "valley")
    model = write_script(tmp_path / "model.json", latency_seconds=0.2)
    process = start_evolve(
        "run", problem, "--generations", 50, "--model", model, "--run-dir", "r", cwd=tmp_path
    )
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 130, err
    assert "nobody reads standard output any more\ninterrupted" in err
    assert (tmp_path / "r").exists() == ("to continue: evolve resume r" in err) == (lines == 6)


def run_log(folder) -> int:
    return count_rows(folder / "r" / "run.db", "generations")


def test_the_starting_program_counts_to_the_cap_on_time_and_is_cut_there(tmp_path):
    slow = EVALUATOR.replace("    first", "    import time\n    time.sleep(60)\n    first", 1)
    write_problem(tmp_path / "valley", evaluator=slow)
    started = time.monotonic()
    done = run_evolve("run", "valley", "--max-time", "5", cwd=tmp_path, code=2)
    assert "expected more time than one evaluation of the starting program" in done.stderr
    assert time.monotonic() - started < 50


def test_a_finished_run_says_at_once_what_extends_it(run, tmp_path):
    before = run_json("show", "r", cwd=tmp_path)
    done = run_evolve("resume", "r", cwd=tmp_path)
    assert "to extend it: evolve resume r --generations N" in done.stdout
    assert "sandbox:" not in done.stdout
    assert run_json("show", "r", cwd=tmp_path) == before
    run_evolve("resume", "r", "--generations", 7, cwd=tmp_path)
    assert run_json("show", "r", cwd=tmp_path)["generations"] == 7


def test_a_model_that_cannot_be_used_is_named_before_anything_is_evaluated(tmp_path):
    write_problem(tmp_path / "valley")
    done = run_evolve("run", "valley", "--model", "nobody-knows-it", cwd=tmp_path, code=2)
    assert "LiteLLM does not know its provider" in done.stderr
    assert "starting program: objective" not in done.stdout
