import json
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evolve import __version__
from evolve.problem import load_problem
from evolve.runs.run_folder import create_run_folder
from evolve.settings import Settings
from tests.commands import (
    INITIAL,
    PROBLEM,
    count_rows,
    run_evolve,
    run_json,
    start_evolve,
    write_problem,
    write_script,
)

RUN = ("--run-dir", "r")
SHORT = ("--generations", 6, *RUN)
SCRIPTED = ("--model", "scripted", "--set", "loop.slots=4")


def wait_for(condition, seconds=30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_without_a_model_the_operators_improve_the_program(tmp_path, problem):
    done = run_evolve("run", problem, *SHORT, cwd=tmp_path)
    assert "\nno model is configured" in done.stdout
    assert "finished: all generations done; champion" in done.stdout
    state = run_json("show", "r", cwd=tmp_path)
    assert state["champion"]["objective"] > state["initial"]["objective"] == -13.0
    best = tmp_path / "r" / "best"
    assert json.loads((best / "verdict.json").read_text())["program"] == state["champion"]["id"]
    assert "def point():" in (best / "initial.py").read_text()


@pytest.mark.parametrize(("known", "verdict"), [(-1.0, "better"), (0.0, "equal"), (1e6, "worse")])
def test_show_compares_the_champion_with_what_is_known(tmp_path, known, verdict):
    toml = f'{PROBLEM}\n[best_known]\nvalue = {known}\nsource = "made up"\n'
    best = INITIAL.replace("first = 1.0", "first = 3.0").replace("second = 1.0", "second = -2.0")
    folder = write_problem(tmp_path / "known", initial=best, toml=toml)
    run_evolve("run", folder, "--generations", 1, "--run-dir", "r", cwd=tmp_path)
    reference = {"value": known, "source": "made up", "champion_is": verdict}
    assert run_json("show", "r", cwd=tmp_path)["references"] == {"best known": reference}
    told = run_evolve("show", "r", cwd=tmp_path).stdout
    assert f"best known   {known:.10g}, the champion is {verdict} (made up)" in told
    assert ("look twice" in told) == (verdict == "better")


def test_show_and_archive_print_the_documented_json(tmp_path, problem):
    run_evolve("run", problem, *SHORT, "--seed", 3, "--set", "tuning.share=0", cwd=tmp_path)
    state = run_json("show", "r", cwd=tmp_path)
    assert {
        "run": "r",
        "problem": "valley",
        "status": "finished",
        "stopped_because": "generations",
        "generations": 6,
        "calls": 0,
        "tokens": 0,
        "cost_usd": 0.0,
        "seed": 3,
    }.items() <= state.items()
    assert state["attempts"] == sum(state["outcomes"].values()) == 49
    assert state["evaluations"] == 49 - state["outcomes"].get("rejected", 0)
    assert set(state["champion"]) >= {
        "id",
        "objective",
        "metrics",
        "measures",
        "generation",
        "depth",
    }
    assert [set(island) for island in state["islands"]] == [
        {"elites", "coverage", "best", "outside"}
    ] * 2
    assert state["sandbox"] in {"bubblewrap", "native"}
    elites = run_json("archive", "r", cwd=tmp_path)
    assert sum(island["elites"] for island in state["islands"]) == len(elites)
    assert set(elites[0]) >= {
        "id",
        "island",
        "cell",
        "objective",
        "measures",
        "parent",
        "generation",
        "plan",
    }
    assert max(elite["objective"] for elite in elites) == state["champion"]["objective"]


@pytest.mark.parametrize("model", [(), SCRIPTED], ids=["operators", "scripted"])
def test_workers_do_not_change_the_archives(tmp_path, problem, model):
    archives = []
    for workers in (1, 8):
        folder = tmp_path / str(workers)
        run_evolve(
            "run", problem, *model, "--generations", 8, "--workers", workers,
            "--set", f"sandbox.processes={min(workers, 3)}", "--run-dir", folder, cwd=tmp_path,
        )  # fmt: skip
        archives.append(run_evolve("archive", folder, "--json", cwd=tmp_path).stdout)
    assert archives[0] == archives[1]


@pytest.mark.parametrize("lag", [0, 2])
def test_a_run_killed_again_and_again_ends_like_one_that_was_not(tmp_path, problem, lag):
    model = write_script(tmp_path / "model.json", latency_seconds=0.02)
    asked = ("--generations", 14, "--model", model, "--set", f"loop.lag={lag}",
             "--set", "loop.slots=4", "--set", "search.without=fruitless")  # fmt: skip
    run_evolve("run", problem, *asked, "--run-dir", "whole", cwd=tmp_path)
    process = start_evolve("run", problem, *asked, *RUN, cwd=tmp_path)
    database = tmp_path / "r" / "run.db"
    for calls in (1, 30, 45, 60):
        wait_for(lambda calls=calls: count_rows(database, "calls") >= calls)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert run_json("show", "r", cwd=tmp_path)["status"] == "stopped"
        process = start_evolve("resume", "r", cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    for command in ("archive", "lineage"):
        whole = run_evolve(command, "whole", "--json", cwd=tmp_path).stdout
        assert run_evolve(command, "r", "--json", cwd=tmp_path).stdout == whole
    assert count_rows(database, "calls") == count_rows(tmp_path / "whole" / "run.db", "calls")


@pytest.mark.parametrize(
    ("number", "behind"),
    [
        (signal.SIGINT, ()),
        (signal.SIGTERM, ()),
        # As it is started by `evolve run ... &` in a script.
        (signal.SIGINT, ("sh", "-c", 'trap "" INT; exec "$@"', "sh")),
    ],
    ids=["ctrl-c", "terminate", "in the background of a script"],
)
def test_an_interrupt_ends_in_order_and_can_be_resumed(tmp_path, problem, number, behind):
    model = write_script(tmp_path / "model.json", latency_seconds=0.1)
    process = start_evolve(
        "run", problem, "--generations", 3, "--model", model, *RUN, "--workers", 2, cwd=tmp_path,
        behind=behind,
    )  # fmt: skip
    database = tmp_path / "r" / "run.db"
    wait_for(lambda: count_rows(database, "calls") >= 5)
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out.splitlines()[-1] == "to continue: evolve resume r"
    assert run_json("show", "r", cwd=tmp_path)["stopped_because"] == "interrupted"
    assert "finished" in run_evolve("resume", "r", cwd=tmp_path).stdout


def test_the_cap_on_evaluations_is_exact_and_resume_can_raise_it(tmp_path, problem):
    capped = run_evolve("run", problem, *RUN, "--max-evaluations", 21, cwd=tmp_path)
    assert "stopped by budget: max_evaluations" in capped.stdout
    state = run_json("show", "r", cwd=tmp_path)
    assert (state["evaluations"], state["status"]) == (21, "stopped")
    run_evolve("resume", "r", "--max-evaluations", 30, cwd=tmp_path)
    assert run_json("show", "r", cwd=tmp_path)["evaluations"] == 30


def test_a_cap_on_time_that_is_spent_lets_nothing_more_be_evaluated(tmp_path, problem):
    # The starting program has used it up.
    run_evolve("run", problem, *RUN, "--max-time", "0.001", cwd=tmp_path, code=3)
    before = run_json("show", "r", cwd=tmp_path)["evaluations"]
    done = run_evolve("resume", "r", cwd=tmp_path, code=3)
    assert "to continue: evolve resume r, with a longer --max-time" in done.stdout
    assert run_json("show", "r", cwd=tmp_path)["evaluations"] == before


def test_a_budget_without_improvement_has_an_exit_code_of_its_own(tmp_path, problem):
    done = run_evolve("run", problem, *RUN, "--max-evaluations", 1, cwd=tmp_path, code=3)
    assert "no improvement on the start" in done.stdout


def test_a_cap_on_calls_is_never_passed(tmp_path, problem):
    cap = ("--set", "budget.max_calls=25")
    done = run_evolve("run", problem, *RUN, *SCRIPTED, *cap, cwd=tmp_path)
    assert "to continue: evolve resume r --set budget.max_calls=N" in done.stdout
    state = run_json("show", "r", cwd=tmp_path)
    assert (state["calls"], state["stopped_because"]) == (25, "max_calls")
    run_evolve("resume", "r", "--set", "budget.max_calls=30", cwd=tmp_path)
    assert run_json("show", "r", cwd=tmp_path)["calls"] == 30


def test_a_run_stops_at_its_target(tmp_path, problem):
    done = run_evolve("run", problem, *RUN, "--target", "-12", cwd=tmp_path)
    assert "finished: target reached" in done.stdout
    assert run_json("show", "r", cwd=tmp_path)["champion"]["objective"] >= -12


def test_programs_that_hang_crash_or_lie_cost_their_attempt_and_nothing_else(tmp_path, problem):
    bodies = {
        "hang": "while True: pass",
        "exit": "import os; os._exit(0)",
        "raise": "raise BaseException('no')",
        "forge": "return [float('nan'), 3.0]",
        "shape": "return 7",
    }
    replies = [
        f"```python\ndef point():\n    {body}\n    return [{number}.0, 1.0]\n```"
        for number, body in enumerate(bodies.values())
    ]
    model = write_script(tmp_path / "model.json", editor=replies)
    run_evolve(
        "run", problem, *RUN, "--model", model, "--generations", 8,
        "--set", "steps.repairs=0", "--set", "steps.form=rewrite", "--set", "tuning.share=0",
        "--set", 'search.without=["fruitless"]', cwd=tmp_path,
    )  # fmt: skip
    outcomes = run_json("show", "r", cwd=tmp_path)["outcomes"]
    assert outcomes["ok"] == 1
    assert {"timeout", "crashed", "error", "infeasible", "rejected"} <= set(outcomes)


def test_a_starting_program_that_fails_is_shown_and_leaves_no_run(tmp_path):
    folder = write_problem(
        tmp_path / "bad", initial="def point():\n    print('x' * 5000)\n    1 / 0\n"
    )
    done = run_evolve("run", folder, cwd=tmp_path, code=2)
    assert "the starting program must have an objective, got `error`" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 500
    # The run's copy of it is gone.
    assert f"error: {folder / 'initial.py'}: " in done.stderr
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('broken')", "the evaluator raised RuntimeError: broken"),
        ("return Score(float('nan'))", "expected a finite number"),
        ("return '3.0'", "expected a `Score` or a number, got '3.0'"),
    ],
)
def test_an_evaluator_that_fails_is_named_as_such(tmp_path, body, words):
    text = f"from evolve.scoring import Score\ndef evaluate(program):\n    {body}\n"
    folder = write_problem(tmp_path / "bad", evaluator=text)
    done = run_evolve("check", folder, cwd=tmp_path, code=2)
    assert "evaluator_failed" in done.stderr
    assert words in done.stderr
    assert "process.py" not in done.stderr


def test_an_evaluator_whose_process_ends_is_a_failure_of_the_machine(tmp_path):
    text = "def evaluate(program):\n    import os; os._exit(3)\n"
    folder = write_problem(tmp_path / "bad", evaluator=text)
    done = run_evolve("check", folder, cwd=tmp_path, code=4)
    last = done.stderr.splitlines()[-1]
    assert last == "error: evaluator: the evaluator's process exited with code 3"


def test_an_evaluator_that_does_not_take_the_parameters_is_told(tmp_path):
    toml = PROBLEM + "\n[parameters]\ncount = 3\n"
    folder = write_problem(tmp_path / "bad", toml=toml)
    done = run_evolve("check", folder, cwd=tmp_path, code=2)
    assert f"{folder / 'evaluator.py'}: `evaluate`: expected to take a program" in done.stderr
    assert "got an unexpected keyword argument 'count'" in done.stderr


def test_an_evaluator_that_cannot_be_imported_is_an_error(tmp_path):
    folder = write_problem(tmp_path / "bad", evaluator="import no_such_module\n")
    done = run_evolve("check", folder, cwd=tmp_path, code=2)
    assert "cannot be imported: ModuleNotFoundError" in done.stderr


def test_a_second_writer_is_refused_with_the_pid_of_the_first(tmp_path, problem):
    model = write_script(tmp_path / "model.json", latency_seconds=0.2)
    process = start_evolve("run", problem, "--model", model, *RUN, cwd=tmp_path)
    try:
        wait_for(lambda: count_rows(tmp_path / "r" / "run.db", "calls") >= 1)
        assert run_json("show", "r", cwd=tmp_path)["status"] == "running"
        done = run_evolve("resume", "r", cwd=tmp_path, code=2)
        assert f"written by process {process.pid}" in done.stderr
    finally:
        process.kill()
        process.communicate()


def test_what_is_no_run_cannot_be_resumed(tmp_path):
    assert "expected a run folder" in run_evolve("resume", tmp_path, cwd=tmp_path, code=2).stderr
    assert "no run yet" in run_evolve("show", "latest", cwd=tmp_path, code=2).stderr


def test_a_run_of_another_version_is_refused_and_its_writer_is_named(tmp_path, problem):
    run_evolve("run", problem, "--generations", 1, *RUN, cwd=tmp_path)
    connection = sqlite3.connect(tmp_path / "r" / "run.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    for command in ("resume", "show"):
        done = run_evolve(command, "r", cwd=tmp_path, code=2)
        assert f"written by evolve {__version__}; use that version" in done.stderr


def test_a_run_folder_that_cannot_be_written_or_is_in_use_is_refused(tmp_path, problem):
    done = run_evolve("run", problem, "--run-dir", "/proc/r", cwd=tmp_path, code=4)
    assert "the run folder cannot be written" in done.stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    done = run_evolve("run", problem, "--run-dir", "full", cwd=tmp_path, code=2)
    assert "expected a new or empty folder" in done.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(tmp_path, problem):
    found = load_problem(problem)

    def create(_: int) -> Path:
        return create_run_folder(found, Settings(), folder=None, parent=tmp_path / "many")

    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(create, range(16)))
    assert len(set(folders)) == 16
    assert all((folder / "settings.toml").is_file() for folder in folders)
    assert set((tmp_path / "many").iterdir()) == set(folders)


def test_the_version_is_told(tmp_path):
    assert run_evolve("--version", cwd=tmp_path).stdout == f"evolve {__version__}\n"


def test_wrong_usage_has_exit_code_2(tmp_path, problem):
    for arguments, words in [
        (("run", "nowhere"), "expected a problem folder"),
        (("run", problem, "--set", "serach.islands=2"), "did you mean `search.islands`"),
        (("run", problem, "--max-time", "soon"), "expected seconds"),
        (("run", problem, "--sandbox", "bubble"), "expected one of auto, docker"),
        (("run", problem, "--set", "models.editor=scripted"), "got none for: planner, summarizer"),
        (("run",), "expected a problem folder, got none"),
    ]:
        done = run_evolve(*arguments, cwd=tmp_path, code=2)
        assert words in done.stderr, done.stderr
    assert not list(tmp_path.glob("runs/*"))


def test_diff_lineage_and_best_follow_the_champion(tmp_path, problem):
    run_evolve("run", problem, *SHORT, cwd=tmp_path)
    line = run_json("lineage", "r", cwd=tmp_path)
    champion = run_json("show", "r", cwd=tmp_path)["champion"]
    assert [line[0]["generation"], line[-1]["id"]] == [0, champion["id"]]
    assert len(line) == champion["depth"] + 1
    changed = run_evolve("diff", "r", "--initial", cwd=tmp_path).stdout
    assert "+++" in changed
    assert f"--- {line[0]['id']}/initial.py" in changed
    first, *written = run_evolve("best", "r", "--output", "out", cwd=tmp_path).stdout.splitlines()
    assert first.startswith("objective ")
    assert [path.rpartition("/")[2] for path in written] == ["initial.py", "verdict.json"]


def test_init_makes_a_folder_that_passes_check_and_runs(tmp_path):
    run_evolve("init", "mine", cwd=tmp_path)
    assert "ok: evolve run mine" in run_evolve("check", "mine", cwd=tmp_path).stdout
    run_evolve("run", "mine", "--generations", 3, cwd=tmp_path)
    assert run_json("show", "latest", cwd=tmp_path)["generations"] == 3
    assert "finished" in run_evolve("ls", cwd=tmp_path).stdout
    assert "expected" in run_evolve("init", "mine", cwd=tmp_path, code=2).stderr
