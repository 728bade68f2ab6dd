import re

from tests.commands import run_evolve, write_problem, write_script

PLAN = '{"hypothesis": "h", "change": "c", "predicted_gain": 1, "risk": "r", "tags": []}'
EDIT = """<<<<<<< SEARCH
    second = 1.0
=======
    second = 1.0
    second = second * 1.0 + 0.0
>>>>>>> REPLACE
"""
SUMMARY = '{"verdict": "dull", "cause": "idea", "lesson": "none", "tags": []}'


def test_planners_are_told_which_lines_were_added_for_nothing(tmp_path):
    write_problem(tmp_path / "valley")
    model = write_script(
        tmp_path / "script.json", planner=[PLAN], editor=[EDIT], summarizer=[SUMMARY]
    )
    options = ("--generations", 3, "--model", model, "--workers", 1, "--set", "loop.slots=1")
    run_evolve("run", "valley", *options, "--set", "loop.lag=0", "--run-dir", "r", cwd=tmp_path)
    run_evolve("export", "r", "--output", "out", cwd=tmp_path)
    text = (tmp_path / "out/run.jsonl").read_text()
    assert re.search(r"second = second \* 1\.0 \+ 0\.0 \(added \d+\)", text)
