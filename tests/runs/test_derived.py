import csv
import json
import re
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from evolve.store import Store
from tests.commands import (
    change_database,
    run_evolve,
    run_json,
    write_problem,
    write_script,
)


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
        "generations 0 to 3 are taken as recorded: forked, pruned or scored again\n"
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
    change_database(
        run,
        "UPDATE programs SET source = X'789C00' WHERE id IN (SELECT program FROM evaluations "
        "WHERE generation = 5)",
    )
    done = run_evolve("repair", run, "--output", "saved", cwd=tmp_path)
    assert "generations 0 to 4" in done.stdout
    assert "left out: " in done.stdout
    assert "finished" in run_evolve("resume", "saved", cwd=tmp_path).stdout
    assert "equal: generations 0 to 6" in run_evolve("replay", "saved", cwd=tmp_path).stdout


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
    assert all(line["generation"] == 2 for line in lines)
    assert "attempt" in run_evolve("log", run, cwd=tmp_path).stdout
