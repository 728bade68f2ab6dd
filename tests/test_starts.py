"""Where a run begins: several starting programs, one that fails, or none at all."""

import json

import pytest

from evolve.problem import load_problem
from tests.commands import INITIAL, PROBLEM, run_evolve, run_json, write_problem, write_script

BROKEN = INITIAL.replace("first = 1.0", "first = 1.0 / 0")
SIGNATURE = PROBLEM + '\n[program]\nsignature = "def point() -> list[float]"\n'
ADDING = PROBLEM + '\n[program]\nmay_add = ["lib_*.py"]\n'
WORKS = (
    "Base: 0.0.0\nChange: return two numbers\n\n```python\ndef point():\n    return [{}, 1.0]\n```"
)
ADDS = (
    "Base: 0.0.0\nChange: keep the numbers apart\n\nFile: lib_numbers.py\n"
    "```python\nFIRST = 2.5\n```\n\nFile: initial.py\n"
    "```python\nfrom lib_numbers import FIRST\n\n\ndef point():\n    return [FIRST, 1.0]\n```\n"
)


def start(first: float) -> str:
    return INITIAL.replace("first = 1.0", f"first = {first}")


def test_every_starting_program_is_evaluated_and_placed(tmp_path, problem):
    (problem / "initial").mkdir()
    (problem / "initial" / "a.py").write_text(start(2.0))
    (problem / "initial" / "b.py").write_text("import os\n\ndef point():\n    return []\n")
    (problem / "initial" / "__pycache__").mkdir()
    (tmp_path / "mine.py").write_text(start(2.5))
    common = ("run", problem, "--generations", 2, "--run-dir")
    done = run_evolve(*common, "r", cwd=tmp_path, code=2)
    assert "initial.py: expected all outside of EVOLVE-BLOCK as in the problem" in done.stderr
    assert not (tmp_path / "r").exists()
    (problem / "initial" / "b.py").write_text(start(2.0))
    assert "further   start a.py" in run_evolve("check", problem, cwd=tmp_path).stdout
    run_evolve(*common, "r", "--start", "mine.py", "--set", "search.islands=3", cwd=tmp_path)
    rows = [
        json.loads(line)
        for line in run_evolve(
            "log", "r", "--generation", 0, "--json", cwd=tmp_path
        ).stdout.splitlines()
    ]
    found = {one["attempt"]: (one["objective"], one["island"], one["reason"])
             for one in rows if one["kind"] == "attempt"}  # fmt: skip
    assert found == {
        "0.0.0": (-13.0, 0, ""),
        "0.1.0": (-10.0, 1, ""),
        "0.2.0": (None, 2, "the same program as attempt 0.1.0"),
        "0.3.0": (-9.25, 0, ""),
    }
    assert run_json("show", "r", cwd=tmp_path)["initial"]["objective"] == -13.0
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout
    run_evolve("run", "--replay", "r", "--run-dir", "again", cwd=tmp_path)
    archives = [run_json("archive", name, cwd=tmp_path) for name in ("r", "again")]
    assert archives[0] == archives[1]


def test_the_champion_of_one_run_starts_another(tmp_path, problem):
    run_evolve("run", problem, "--generations", 3, "--run-dir", "first", cwd=tmp_path)
    best = run_json("show", "first", cwd=tmp_path)["champion"]
    run_evolve("run", problem, "--generations", 1, "--seed", 9, "--start", "first",
               "--run-dir", "second", cwd=tmp_path)  # fmt: skip
    lineage = run_json("lineage", "second", "0.1.0", cwd=tmp_path)
    assert (lineage[-1]["id"], lineage[-1]["objective"]) == (best["id"], best["objective"])


def test_a_folder_may_have_alternatives_alone(tmp_path, problem):
    (problem / "initial").mkdir()
    (problem / "initial.py").rename(problem / "initial" / "a.py")
    (problem / "initial" / "b.py").write_text(start(2.0))
    run_evolve("run", problem, "--generations", 1, "--run-dir", "r", cwd=tmp_path)
    assert load_problem(problem).initial.entry.path == "initial.py"
    assert run_json("show", "r", cwd=tmp_path)["initial"]["objective"] == -13.0
    assert len(run_json("lineage", "r", "0.1.0", cwd=tmp_path)) == 2


def test_more_starts_than_the_cap_allows_are_refused(tmp_path, problem):
    (tmp_path / "mine.py").write_text(start(2.5))
    done = run_evolve("run", problem, "--start", "mine.py", "--max-evaluations", 1, "--run-dir",
                      "r", cwd=tmp_path, code=2)  # fmt: skip
    assert "--max-evaluations: expected at least 2 for all starting programs" in done.stderr
    assert not (tmp_path / "r").exists()


def test_a_broken_start_is_repaired_by_a_model_where_that_is_allowed(tmp_path):
    write_problem(tmp_path / "valley", initial=BROKEN)
    script = write_script(tmp_path / "s.json", editor=[WORKS.format(2.0), WORKS.format(2.5)])
    common = ("run", "valley", "--generations", 2, "--set", "tuning.share=0", "--run-dir", "r")
    done = run_evolve(*common, cwd=tmp_path, code=2)
    assert "to let models repair it: `evolve run --allow-broken-start`" in done.stderr
    done = run_evolve(*common, "--allow-broken-start", cwd=tmp_path, code=2)
    assert "no starting program has an objective, and only a model can write one" in done.stderr
    assert not (tmp_path / "r").exists()
    done = run_evolve(*common, "--allow-broken-start", "--model", script, cwd=tmp_path)
    assert "starting program: error: ZeroDivisionError" in done.stdout
    assert "on the start" in run_evolve("verify", "r", cwd=tmp_path).stdout
    prompt = run_evolve("show", "r", "--prompt", "1.0.0", cwd=tmp_path).stdout
    assert "no program has one yet, so the first that works is the champion" in prompt
    assert "ZeroDivisionError: float division by zero" in prompt
    assert run_json("show", "r", cwd=tmp_path)["champion"]["objective"] == -9.25
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout
    run_evolve("run", "--replay", "r", "--run-dir", "again", cwd=tmp_path)
    archives = [run_json("archive", name, cwd=tmp_path) for name in ("r", "again")]
    assert archives[0] == archives[1]


def test_a_problem_without_a_start_begins_with_what_a_model_writes(tmp_path):
    folder = write_problem(tmp_path / "valley", toml=SIGNATURE)
    done = run_evolve("check", "valley", cwd=tmp_path, code=2)
    assert "`signature`: expected no starting program next to it, got one" in done.stderr
    (folder / "initial.py").unlink()
    done = run_evolve("check", "valley", cwd=tmp_path)
    assert "start     none: a model writes the first program" in done.stdout
    assert "def point() -> list[float]:" in run_evolve("prompt", "valley", cwd=tmp_path).stdout
    script = write_script(tmp_path / "s.json", editor=[WORKS.format(2.0)])
    run_evolve("run", "valley", "--model", script, "--generations", 1, "--run-dir", "r",
               cwd=tmp_path)  # fmt: skip
    state = run_json("show", "r", cwd=tmp_path)
    assert (state["initial"]["objective"], state["champion"]["objective"]) == (-10.0, -10.0)
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout


def test_a_run_that_finds_nothing_says_so(tmp_path):
    folder = write_problem(tmp_path / "valley", toml=SIGNATURE)
    (folder / "initial.py").unlink()
    script = write_script(tmp_path / "s.json", editor=[WORKS.format("1 / 0")])
    done = run_evolve("run", "valley", "--model", script, "--generations", 1, "--set",
                      "loop.slots=1", "--run-dir", "r", cwd=tmp_path, code=3)  # fmt: skip
    assert "no program has an objective" in done.stdout
    assert "champion's files" not in done.stdout
    for command in ("show", "archive", "report", "log"):
        run_evolve(command, "r", cwd=tmp_path)
    assert "the run has no evaluated program yet" in run_evolve(
        "best", "r", cwd=tmp_path, code=2
    ).stderr  # fmt: skip


@pytest.mark.parametrize("text", ["point", "def point", "x = 1", "class A", "def a(): pass"])
def test_what_is_no_signature_is_refused(tmp_path, text):
    folder = write_problem(
        tmp_path / "valley", toml=SIGNATURE.replace("def point() -> list[float]", text)
    )
    (folder / "initial.py").unlink()
    done = run_evolve("check", folder, cwd=tmp_path, code=2)
    assert "`signature`: expected a line such as `def pack(count: int) -> list`" in done.stderr


def test_replies_add_files_where_the_problem_allows_it(tmp_path):
    write_problem(tmp_path / "valley", toml=ADDING, initial=INITIAL.replace("# EVOLVE", "# "))
    script = write_script(tmp_path / "s.json", editor=[ADDS])
    common = ("run", "valley", "--model", script, "--generations", 1,
              "--set", "loop.slots=1", "--set", "tuning.share=0")  # fmt: skip
    run_evolve(*common, "--run-dir", "r", cwd=tmp_path)
    prompt = run_evolve("show", "r", "--prompt", "1.0.0", cwd=tmp_path).stdout
    assert "New files may be added whose names match `lib_*.py`: write each one whole." in prompt
    best = run_json("best", "r", "--output", "out", cwd=tmp_path)
    assert best["objective"] == -9.25
    assert (tmp_path / "out" / "lib_numbers.py").read_text() == "FIRST = 2.5\n"
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout
    # What was found is a program of this problem: it may be put in again, with its files.
    run_evolve(*common, "--start", "out", "--run-dir", "next", cwd=tmp_path)
    assert run_json("lineage", "next", "0.1.0", cwd=tmp_path)[-1]["objective"] == -9.25


def test_a_pattern_that_leads_out_of_the_program_is_refused(tmp_path):
    write_problem(tmp_path / "valley", toml=ADDING.replace("lib_*.py", "../*.py"))
    done = run_evolve("check", "valley", cwd=tmp_path, code=2)
    assert "`may_add`: expected the path of a file inside the folder" in done.stderr
