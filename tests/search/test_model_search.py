"""Whole runs with models: what is asked, what is shared, and that nothing depends on timing."""

import json

import pytest

from tests.commands import run_evolve, run_json, write_script

WORSE = """Base: 0.0.0
Change: move it

<<<<<<< SEARCH
    first = 1.0
=======
    first = {}
>>>>>>> REPLACE"""


def log_of(run, tmp_path, kind):
    lines = run_evolve("log", run, "--json", cwd=tmp_path).stdout.splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


@pytest.mark.parametrize("slots", [1, 25])
def test_any_number_of_slots_and_workers_gives_the_same_run(tmp_path, problem, slots):
    common = ("--model", "scripted", "--generations", 5, "--set", f"loop.slots={slots}")
    for workers in (1, 8):
        run_evolve(
            "run", problem, *common, "--workers", workers, "--run-dir", f"r{workers}", cwd=tmp_path
        )
    one, eight = (run_json("archive", f"r{workers}", cwd=tmp_path) for workers in (1, 8))
    assert one == eight
    assert "equal" in run_evolve("replay", "r8", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("apart", "calls"),
    [(False, ["editor"] * 4 + ["summarizer"]), (True, ["planner", "editor", "summarizer"])],
)
def test_a_generation_takes_one_call_a_slot_and_one_for_each_step_of_all(
    tmp_path, problem, apart, calls
):
    edits = [WORSE.format(float(-n)) for n in range(1, 60)]
    script = write_script(tmp_path / "s.json", editor=edits)
    plans = ['{"plans": [{"change": "move it"}]}']
    planner = ("--planner", write_script(tmp_path / "p.json", planner=plans)) if apart else ()
    options = ("--set", "steps.repairs=0", *planner)
    command = ("run", problem, "--model", script, "--generations", 1, *options, "--run-dir", "r")
    run_evolve(*command, "--set", "tuning.share=0", cwd=tmp_path)
    assert sorted(line["role"] for line in log_of("r", tmp_path, "call")) == sorted(calls)


def test_a_program_that_all_slots_write_is_evaluated_once(tmp_path, problem):
    script = write_script(tmp_path / "s.json", editor=[WORSE.format(2.5)])
    options = ("--set", "loop.slots=8", "--set", "steps.repairs=0", "--set", "tuning.share=0")
    command = ("run", problem, "--model", script, "--generations", 1, *options, "--run-dir", "r")
    run_evolve(*command, cwd=tmp_path)
    state = run_json("show", "r", cwd=tmp_path)
    assert state["evaluations"] == 2
    first = [line for line in log_of("r", tmp_path, "attempt") if line["generation"] == 1]
    assert [line["attempt"] for line in first if line["status"] == "ok"] == ["1.0.0"]
    assert first[1]["reason"] == "the same program as attempt 1.0.0"
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout


def test_a_generation_in_which_nothing_was_evaluated_is_not_summarized(tmp_path, problem):
    script = write_script(tmp_path / "s.json", editor=["I would rather not."])
    command = ("run", problem, "--model", script, "--generations", 2, "--run-dir", "r")
    run_evolve(*command, "--set", "tuning.share=0", cwd=tmp_path, code=4)
    assert {line["role"] for line in log_of("r", tmp_path, "call")} == {"editor"}


def test_the_next_generation_sees_what_the_last_one_tried(tmp_path, problem):
    script = write_script(
        tmp_path / "s.json",
        editor=[WORSE.format(float(n)) for n in range(2, 60)],
        summarizer=['{"verdict": "v", "lessons": [{"claim": "Small steps help."}]}'],
    )
    options = ("--set", "loop.slots=2", "--set", "steps.repairs=0", "--set", "tuning.share=0")
    command = ("run", problem, "--model", script, "--generations", 2, *options, "--run-dir", "r")
    run_evolve(*command, cwd=tmp_path)
    run_evolve("export", "r", "--output", "out", cwd=tmp_path)
    lines = map(json.loads, (tmp_path / "out/run.jsonl").read_text().splitlines())
    asked = [line["request"] for line in lines if line["kind"] == "call"]
    prompts = [request["messages"][-1]["text"] for request in asked if request["role"] == "editor"]
    later = [text for text in prompts if "Generation 2 of 2" in text]
    assert later
    assert all("All attempts so far" in text for text in later)
    assert all("Small steps help." in text for text in later)


def test_patience_ends_a_run_that_makes_no_progress(tmp_path, problem):
    command = ("run", problem, "--patience", 40, "--run-dir", "r")
    done = run_evolve(*command, cwd=tmp_path)
    assert "no progress for as long as --patience allows" in done.stdout
    assert run_json("show", "r", cwd=tmp_path)["stopped_because"] == "patience"
