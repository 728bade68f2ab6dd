import pytest

from evolve.errors import UsageError
from evolve.importing.foreign import read_foreign, write_foreign
from evolve.problem import load_problem
from tests.commands import run_evolve, run_json

# Small folders of the forms in which the three systems publish theirs.
PROGRAM = """# EVOLVE-BLOCK-START
def place():
    return [1.0, 2.0]
# EVOLVE-BLOCK-END
"""
OPENEVOLVE = {
    "initial_program.py": PROGRAM,
    "evaluator.py": """
import importlib.util
from openevolve.evaluation_result import EvaluationResult
from points import TARGET

def load(path):
    spec = importlib.util.spec_from_file_location("program", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.place()

def evaluate_stage1(program_path):
    found = load(program_path)
    return {"combined_score": 1.0 if len(found) == 2 else 0.2}

def evaluate_stage2(program_path):
    print("second stage")
    gap = sum(abs(a - b) for a, b in zip(load(program_path), TARGET))
    return EvaluationResult({"combined_score": 1 / (1 + gap), "gap": gap}, {"hint": "nearer"})

def evaluate(program_path):
    return evaluate_stage2(program_path)
""",
    "points.py": "TARGET = (3.0, -2.0)\n",
    "config.yaml": """
prompt:
  system_message: "Move the {{two}} numbers to a hidden point."
evaluator:
  timeout: 20
  cascade_thresholds: [0.5]
""",
}
LOONGFLOW = {
    "initial_program.py": PROGRAM,
    "eval_program.py": """
import importlib.util

def evaluate(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.place()
    if found[0] > 5:
        return {"status": "validation_failed", "score": 0.0, "summary": "too far right"}
    return {"status": "success", "score": found[0], "summary": "fine",
            "metrics": {"first": found[0]}, "artifacts": {"points": str(found)}}
""",
    "task_config.yaml": "evolve:\n  task: Enlarge the first number.\n  evaluator: {timeout: 9}\n",
}
SHINKA = {
    "initial.py": PROGRAM,
    "evaluate.py": """
from shinka.core import run_shinka_eval

def validate(found):
    return (found[0] >= 0, None if found[0] >= 0 else "negative")

def main(program_path, results_dir):
    run_shinka_eval(
        program_path=program_path, results_dir=results_dir, experiment_fn_name="place",
        num_runs=2, get_experiment_kwargs=lambda number: {},
        validate_fn=validate,
        aggregate_metrics_fn=lambda all: {
            "combined_score": sum(found[0] for found in all) / len(all),
            "public": {"runs": len(all)}, "private": {"secret": 77}, "text_feedback": "go right"},
    )
""",
    "run_evo.py": 'search_task_sys_msg = """Move right."""\nraise SystemExit("not to be run")\n',
}
FORMS = {"openevolve": OPENEVOLVE, "loongflow": LOONGFLOW, "shinka": SHINKA}
OBJECTIVES = {"openevolve": 1 / 7, "loongflow": 1.0, "shinka": 1.0}


@pytest.fixture
def theirs(tmp_path):
    for kind, files in FORMS.items():
        (tmp_path / "theirs" / kind).mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / "theirs" / kind / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("kind", FORMS)
def test_an_imported_folder_runs_and_says_that_it_can_be_forged(kind, theirs):
    done = run_evolve("init", "--from", kind, f"theirs/{kind}", "mine", cwd=theirs)
    assert "can forge its scores" in done.stdout
    checked = run_evolve("check", "mine", cwd=theirs).stdout
    assert f"objective {OBJECTIVES[kind]:.10g}" in checked
    assert "can forge its scores" in checked
    run_evolve("run", "mine", "--generations", "2", "--run-dir", "r", cwd=theirs)
    state = run_json("show", "r", cwd=theirs)
    assert state["cooperative"] is True
    assert state["champion"]["objective"] >= OBJECTIVES[kind]
    assert "can forge its scores" in run_evolve("show", "r", cwd=theirs).stdout
    assert "can forge its scores" in (theirs / "r/report.html").read_text()


def test_statement_limits_and_stages_are_taken_over(theirs):
    write_foreign(read_foreign("openevolve", theirs / "theirs/openevolve"), theirs / "mine")
    problem = load_problem(theirs / "mine")
    assert problem.statement == "Move the { {two} } numbers to a hidden point.\n"
    assert problem.limits["seconds"] == 20.0
    assert problem.cooperative
    assert "thresholds=(0.5,)" in problem.evaluator.read_text()


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("openevolve", "return [1.0]", "evaluate_stage1: expected at least 0.5, got 0.2"),
        ("loongflow", "return [9.0, 9.0]", "validation_failed: too far right"),
        ("shinka", "return [-1.0, 0.0]", "validation failed: negative"),
        ("shinka", "return [1.0, 2.0][2]", "IndexError"),
    ],
)
def test_what_their_evaluator_refuses_has_no_objective(kind, body, reason, theirs):
    initial = "initial.py" if kind == "shinka" else "initial_program.py"
    path = theirs / "theirs" / kind / initial
    path.write_text(path.read_text().replace("return [1.0, 2.0]", body))
    run_evolve("init", "--from", kind, f"theirs/{kind}", "mine", cwd=theirs)
    assert reason in run_evolve("check", "mine", cwd=theirs, code=2).stderr


def test_private_metrics_stay_out_of_the_run(theirs):
    run_evolve("init", "--from", "shinka", "theirs/shinka", "mine", cwd=theirs)
    run_evolve("run", "mine", "--generations", "1", "--run-dir", "r", cwd=theirs)
    run_evolve("export", "r", "--output", "out", cwd=theirs)
    text = (theirs / "out/run.jsonl").read_text()
    assert "go right" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("kind", "missing", "message"),
    [
        ("openevolve", "evaluator.py", r"expected a file `evaluator.py`, got none"),
        ("shinka", "initial.py", r"expected a file `initial.\*`, got none"),
    ],
)
def test_a_folder_of_another_form_is_refused(kind, missing, message, theirs):
    (theirs / "theirs" / kind / missing).unlink()
    with pytest.raises(UsageError, match=message):
        read_foreign(kind, theirs / "theirs" / kind)


def test_an_unknown_system_is_refused_with_the_known_ones(theirs):
    with pytest.raises(UsageError, match="expected one of openevolve, shinka, loongflow; got 'x'"):
        read_foreign("x", theirs)
