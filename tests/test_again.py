"""Commands that make a run's work again, or copies of it, on one finished run."""

import csv
import json
import os
import re
import resource
import shutil
import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from evolve.population import Population
from evolve.population.snapshot import SnapshotKeeper, load_standing
from evolve.problem import load_problem
from evolve.records import Program, SourceFile, Status
from evolve.run.folder import load_run
from evolve.run.wiring import open_evaluators
from evolve.settings import SandboxSettings, Settings
from evolve.store import Store
from tests.commands import (
    count_rows,
    run_evolve,
    run_json,
    start_evolve,
    wait_for_rows,
    write_problem,
    write_script,
)

ASKED = ("--generations", 6, "--set", "loop.slots=4", "--model", "scripted")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("again")
    problem = write_problem(folder / "valley")
    run_evolve("run", problem, *ASKED, "--run-dir", folder / "r", cwd=folder)
    return folder / "r"


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "r")
    return tmp_path / "r"


def change(run, sql) -> None:
    with closing(sqlite3.connect(run / "run.db")) as connection:
        connection.execute(sql)
        connection.commit()


def test_a_replay_finds_every_generation_equal(run, tmp_path):
    done = run_evolve("replay", run, cwd=tmp_path)
    assert done.stdout == "equal: generations 0 to 6, every attempt and every archive\n"


def test_a_replay_names_what_differs(run, tmp_path):
    change(run, "UPDATE attempts SET island = 1 - island WHERE generation = 3 AND slot = 1")
    done = run_evolve("replay", run, cwd=tmp_path, code=5)
    assert re.search(r"attempt 3\.1\.0: island: recorded (0, now 1|1, now 0)", done.stdout)
    assert done.stdout.endswith("different: from generation 3 on\n")


def test_a_replay_without_a_recorded_reply_differs(run, tmp_path):
    change(run, "DELETE FROM calls WHERE generation = 2 AND slot = 0")
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
    run_evolve("run", problem, *asked, "--max-evaluations", 21, cwd=tmp_path)
    assert "equal: generations 0 to " in run_evolve("replay", "r", cwd=tmp_path).stdout
    run_evolve("resume", "r", "--max-evaluations", 40, cwd=tmp_path)
    assert "equal: generations 0 to 8" in run_evolve("replay", "r", cwd=tmp_path).stdout
    launches = run_json("show", "r", cwd=tmp_path)["launches"]
    assert [launch["number"] for launch in launches] == [1, 2]
    assert launches[1]["changes"] == {"budget.max_evaluations": [21, 40]}
    log = run_evolve("log", "r", cwd=tmp_path).stdout
    assert "launch   2 by process " in log
    assert "budget.max_evaluations 21 -> 40" in log


def test_a_cap_raised_in_mid_generation_leaves_what_was_paid_for_as_it_was(tmp_path):
    # The cap leaves the last generation one evaluation a slot: with more, its slots would ask
    # for a repair where the record has the summary.
    problem = write_problem(tmp_path / "valley")
    model = write_script(tmp_path / "model.json", latency_seconds=0.1)
    process = start_evolve(
        "run", problem, "--model", model, "--generations", 3, "--set", "loop.slots=4",
        "--max-evaluations", 6, "--run-dir", "r", cwd=tmp_path,
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
    change(
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


def test_a_fork_goes_on_from_its_generation_with_other_settings(run, tmp_path):
    run_evolve("fork", run, "--generation", 3, "--run-dir", "f", "--set",
               "search.entropy=0.4", cwd=tmp_path)  # fmt: skip
    forked = run_json("show", "f", cwd=tmp_path)
    assert (forked["generations"], forked["stopped_because"]) == (3, "forked")
    assert "entropy = 0.4" in (tmp_path / "f" / "settings.toml").read_text()
    run_evolve("resume", "f", cwd=tmp_path)
    with closing(Store.open_to_read(tmp_path / "f")) as store:
        assert store.last_generation() == 6
        assert store.facts()["origin"] == {
            "run": str(run.resolve()), "generation": 3, "how": "forked",
        }  # fmt: skip
    done = run_evolve("replay", "f", cwd=tmp_path)
    assert done.stdout == (
        "equal: generations 4 to 6, every attempt and every archive\n"
        "generations 0 to 3 are taken as recorded: forked or pruned\n"
    )
    assert run_json("show", run, cwd=tmp_path)["generations"] == 6


def test_a_fork_without_changes_ends_like_its_origin(run, tmp_path):
    run_evolve("fork", run, "--generation", 2, "--run-dir", "f", cwd=tmp_path)
    run_evolve("resume", "f", cwd=tmp_path)
    archives = [run_evolve("archive", name, "--json", cwd=tmp_path).stdout for name in ("r", "f")]
    assert archives[0] == archives[1]


def test_a_fork_of_what_is_not_there_leaves_no_folder(run, tmp_path):
    done = run_evolve("fork", run, "--generation", 99, "--run-dir", "f", cwd=tmp_path, code=2)
    assert "expected a generation from 0 to 6, got 99" in done.stderr
    assert not (tmp_path / "f").exists()
    done = run_evolve("fork", run, "--set", "search.islands=1", cwd=tmp_path, code=2)
    assert "expected at least the 2 that the run has" in done.stderr


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


def test_an_export_holds_everything(run, tmp_path):
    run_evolve("export", run, "--output", "out", cwd=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "out" / "run.jsonl").read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    state = run_json("show", run, cwd=tmp_path)
    assert kinds.count("attempt") == state["attempts"]
    assert kinds.count("call") == state["calls"]
    assert kinds.count("evaluation") == state["evaluations"]
    rows = list(csv.DictReader((tmp_path / "out" / "curve.csv").read_text().splitlines()))
    assert [row["generation"] for row in rows] == [str(number) for number in range(7)]
    assert float(rows[-1]["objective"]) == state["champion"]["objective"]
    champions = sorted((tmp_path / "out" / "champions").iterdir())
    assert champions[-1].name.endswith(state["champion"]["id"])
    assert (champions[-1] / "verdict.json").is_file()
    assert "expected a new or empty folder" in run_evolve(
        "export", run, "--output", "out", cwd=tmp_path, code=2
    ).stderr  # fmt: skip


def test_log_lists_calls_attempts_and_lessons(run, tmp_path):
    out = run_evolve("log", run, "--generation", 2, "--json", cwd=tmp_path).stdout
    lines = [json.loads(line) for line in out.splitlines()]
    assert {line["kind"] for line in lines} == {"call", "attempt", "summary"}
    assert all(line["key"].split(".")[0] == "2" for line in lines)
    assert "attempt" in run_evolve("log", run, cwd=tmp_path).stdout


def requests_after(run: Path, generation: int) -> dict:
    with closing(Store.open_to_read(run)) as store:
        calls = store.finished_after(generation)[0]
        # Prompts show how long programs took, and no two runs measure the same.
        return {
            call.key: re.sub(r"[\d.e-]+ s\b", "", call.request.messages[-1].text) for call in calls
        }


# Programs that were made after the youngest artifact that is dropped were shown it.
@pytest.mark.parametrize("older_than", [0, 2])
def test_a_pruned_run_goes_on_like_one_that_was_not(tmp_path, older_than):
    # Every second program fails with a traceback, which is kept as an artifact.
    code = "def point():\n    first = {}\n    return [first / (int(first * 10) % 2), 1.0]\n"
    replies = [f"```python\n{code.format(number / 10)}```" for number in range(10, 60)]
    model = write_script(tmp_path / "model.json", editor=replies)
    problem = write_problem(tmp_path / "valley")
    asked = ("--model", model, "--set", "steps.form=rewrite", "--set", "loop.slots=4")
    run_evolve("run", problem, *asked, "--generations", 5, "--run-dir", "r", cwd=tmp_path)
    shutil.copytree(tmp_path / "r", tmp_path / "pruned")
    done = run_evolve("prune", "pruned", "--older-than", older_than, cwd=tmp_path)
    assert done.stdout.startswith("dropped the artifacts of ")
    assert not done.stdout.startswith("dropped the artifacts of 0 ")
    assert "0 to 5 are taken as recorded" in run_evolve("replay", "pruned", cwd=tmp_path).stdout
    for name in ("r", "pruned"):
        run_evolve("resume", name, "--generations", 9, cwd=tmp_path)
    archives = [
        run_evolve("archive", name, "--json", cwd=tmp_path).stdout for name in ("r", "pruned")
    ]
    assert archives[0] == archives[1]
    assert requests_after(tmp_path / "r", 5) == requests_after(tmp_path / "pruned", 5)
    assert "equal: generations 6 to 9" in run_evolve("replay", "pruned", cwd=tmp_path).stdout


def test_repair_saves_the_generations_before_the_damage(run, tmp_path):
    change(
        run,
        "UPDATE programs SET source = X'789C00' WHERE id IN (SELECT program FROM evaluations "
        "WHERE generation = 5 AND slot = 0)",
    )
    done = run_evolve("repair", run, "--output", "saved", cwd=tmp_path)
    assert "generations 0 to 4" in done.stdout
    assert "left out: " in done.stdout
    assert "finished" in run_evolve("resume", "saved", cwd=tmp_path).stdout
    assert "equal: generations 0 to 6" in run_evolve("replay", "saved", cwd=tmp_path).stdout


def test_a_standing_from_a_snapshot_is_the_one_folded_from_all_attempts(run):
    problem, settings = load_run(run)
    with closing(Store.open_to_write(run)) as store:
        folded = Population(problem, settings.search)
        keeper = SnapshotKeeper(store, problem, settings.search)
        for generation in folded.tell_all(store.light_attempts(), 6):
            keeper.on_commit(folded, 2000 if generation == 6 else 0)
        standing = load_standing(store, problem, settings.search)
    assert (standing.champion, standing.evaluations) == (folded.champion, folded.evaluations)
    assert (standing.generation, standing.initial) == (6, -13.0)
    for one, two in zip(standing.islands.archives, folded.islands.archives, strict=True):
        assert list(one.elites) == list(two.elites)
        assert one.children.tolist() == two.children.tolist()
        assert one.out_of_range == two.out_of_range


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
    assert "to go on" not in refused.stderr


def test_a_damaged_run_is_listed_among_the_others(run, tmp_path):
    for name in ("good", "lost"):
        shutil.copytree(run, tmp_path / "runs" / name)
    (tmp_path / "runs" / "lost" / "run.db").write_bytes(b"")
    lines = sorted(run_evolve("ls", cwd=tmp_path).stdout.splitlines())
    assert lines[0].startswith("good  finished: generations")
    assert lines[1].startswith("lost  unreadable: runs/lost/run.db: damaged")
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


def test_what_cannot_be_written_is_told_before_programs_are_evaluated(run, tmp_path):
    (tmp_path / "file").touch()
    refused = run_evolve("verify", run, "--output", tmp_path, cwd=run.parent, code=4)
    assert f"{tmp_path}: cannot be written: Is a directory" in refused.stderr
    assert "differs" not in refused.stdout
    for command in ("export", "repair"):
        refused = run_evolve(command, run, "--output", tmp_path / "file", cwd=run.parent, code=2)
        assert "file: expected a new or empty folder" in refused.stderr
        assert "got a file" in refused.stderr


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
    assert out.splitlines()[-1] == "to go on: evolve resume r"
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
    assert (tmp_path / "r").exists() == ("to go on: evolve resume r" in err) == (lines == 6)


def test_a_verdict_that_nobody_reads_is_not_taken_for_a_good_one(run, tmp_path):
    for command, code in (("archive", 0), ("verify", 130)):
        process = start_evolve(command, run, cwd=tmp_path)
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == code


def run_log(folder) -> int:
    return count_rows(folder / "r" / "run.db", "generations")


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
