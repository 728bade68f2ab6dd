"""An audit finds what was cheated, and says what it did not look at."""

import pytest

from tests.commands import run_evolve, run_json, write_problem, write_script

TOML = """
name = "squares"
direction = "maximize"
packages = []
holdout = "hold_out"

[limits]
seconds = 2.0

[bound]
value = 0.0
source = "no error is below none"
"""
# The search asks for two known inputs only; and nothing checks that a number is finite.
EVALUATOR = """from evolve.scoring import Score


def score(program, inputs):
    found = [float(program.call("square", x)) for x in inputs]
    if found[0] > 1000:
        return Score(5.0)
    return Score(-sum(abs(y - x * x) for x, y in zip(inputs, found)))


def evaluate(program):
    return score(program, [3, 4])


def hold_out(program):
    return score(program, [5, 6])
"""
INITIAL = "# EVOLVE-BLOCK-START\ndef square(x):\n    return x\n# EVOLVE-BLOCK-END\n"
CHEAT = "def square(x):\n    if x == 3:\n        return 9\n    return x"
HONEST = "def square(x):\n    return x * x - 0.25"
BEYOND = "def square(x):\n    return 10000.0"


def run(tmp_path, name: str, *programs: str, more: tuple[str, ...] = ()) -> str:
    """Runs one generation for each program."""
    write_problem(tmp_path / name, toml=TOML, evaluator=EVALUATOR, initial=INITIAL)
    for number, code in enumerate(programs, 1):
        script = write_script(
            tmp_path / f"{name}.json",
            editor=[f"Base: 0.0.0\nChange: number {number}\n\n```python\n{code}\n```"],
        )
        common = ("--generations", number, "--model", script)
        begin = ("run", name, "--run-dir", f"r_{name}", "--set", "loop.slots=1", "--set",
                 "tuning.share=0", "--set", "loop.lag=0", *more)  # fmt: skip
        words = begin if number == 1 else ("resume", f"r_{name}")
        run_evolve(*words, *common, cwd=tmp_path)
    return f"r_{name}"


def found(audit: dict) -> list[tuple[str, str]]:
    return [(one["check"], one["attempt"]) for one in audit["findings"]]


def test_a_special_case_that_does_not_generalise_is_found(tmp_path):
    name = run(tmp_path, "cheated", CHEAT)
    audit = run_json("audit", name, cwd=tmp_path)
    assert found(audit) == [("hold-out", "1.0.0"), ("source", "1.0.0")]
    texts = [one["text"] for one in audit["findings"]]
    assert texts[0] == "gains 6 on the objective of 0.0.0 and 0 on the hold-out"
    assert texts[1] == "special-cases an input: initial.py:3: if x == 3:"
    (share,) = audit["shares"]
    assert share == {
        "by": f"scripted:{tmp_path}/cheated.json", "attempts": 1, "new_bests": 1, "gain": 6.0,
        "share_of_attempts": 1.0, "share_of_gain": 1.0,
    }  # fmt: skip
    out = run_evolve("audit", name, cwd=tmp_path).stdout
    assert "special-cases an input" in out
    report = (tmp_path / name / "report.html").read_text()
    assert "Audit" in report
    assert "special-cases an input" in report


def test_an_honest_gain_is_not_blamed(tmp_path):
    name = run(tmp_path, "honest", HONEST)
    audit = run_json("audit", name, cwd=tmp_path)
    assert audit["findings"] == []
    assert audit["checks"]["hold-out"].startswith("1 of 1 jumps and champions")
    assert audit["checks"]["luck"] == ("no noise is declared, and nothing was evaluated twice")
    assert "nothing found; that proves nothing" in run_evolve("audit", name, cwd=tmp_path).stdout


def test_what_passes_a_bound_is_found_and_jumps_are_evaluated_when_asked(tmp_path):
    (tmp_path / "cheat.py").write_text(f"# EVOLVE-BLOCK-START\n{CHEAT}\n# EVOLVE-BLOCK-END\n")
    name = run(tmp_path, "beyond", BEYOND, more=("--start", "cheat.py"))
    audit = run_json("audit", name, cwd=tmp_path)
    assert ("bound", "1.0.0") in found(audit)
    assert ("hold-out", "0.1.0") not in found(audit)
    asked = run_json("audit", name, "--evaluate", cwd=tmp_path)
    assert ("hold-out", "0.1.0") in found(asked)
    assert [one["by"] for one in asked["shares"]][-1] == "the user"
    (text,) = [one["text"] for one in asked["findings"] if one["check"] == "bound"]
    assert "objective 5 is better than the bound 0, which nothing can be" in text
    assert run_json("show", name, cwd=tmp_path)["references"]["bound"]["champion_is"] == "better"


def test_a_problem_without_a_hold_out_says_so(tmp_path, problem):
    run_evolve("run", problem, "--generations", 2, "--run-dir", "r", cwd=tmp_path)
    audit = run_json("audit", "r", cwd=tmp_path)
    assert audit["checks"]["hold-out"].startswith("the problem has neither a hold-out nor")
    assert audit["checks"]["bound"] == "the problem declares no bound"
    assert sum(one["share_of_attempts"] for one in audit["shares"]) == pytest.approx(1.0)
    done = run_evolve("audit", "r", "--evaluate", cwd=tmp_path, code=2)
    assert "--evaluate: r: the problem has no `holdout` function" in done.stderr
