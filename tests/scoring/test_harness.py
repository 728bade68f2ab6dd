"""The script that asks another system's evaluator, called as it calls itself in the sandbox."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evolve.scoring import harness
from evolve.scoring.harness import EvaluationResult, choose, score_stages

LOAD = """
import importlib.util
def value(path):
    spec = importlib.util.spec_from_file_location("candidate", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.value()
"""
ASKED = {
    "thresholds": [0.5, 0.75, 0.9], "objective": "", "features": [], "arguments": [],
    "variables": {},
}  # fmt: skip


@pytest.fixture
def stages(tmp_path):
    """Scores `value() = 0.5` by an evaluator of OpenEvolve's form."""
    (tmp_path / "program.py").write_text("def value():\n    return 0.5\n")

    def score(body, **asked):
        path = tmp_path / f"evaluator_{len(list(tmp_path.iterdir()))}.py"
        path.write_text(LOAD + body)
        return score_stages(str(path), str(tmp_path / "program.py"), {**ASKED, **asked})

    return score


@pytest.fixture
def ask(tmp_path):
    """Asks an evaluator in a process of its own, as in a workspace."""

    def run(form, name, evaluator, program="def value():\n    return 0.5\n", packages="", **asked):
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        (theirs / name).write_text(evaluator)
        (tmp_path / "initial.py").write_text(program)
        given = {**ASKED, "form": form, "folder": "theirs", "evaluator": name, **asked}
        given |= {"program": "initial.py", "result": "result.json"}
        done = subprocess.run(
            [sys.executable, harness.__file__, json.dumps(given)],
            cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": packages},
        )  # fmt: skip
        result = tmp_path / "result.json"
        return (json.loads(result.read_text()) if result.is_file() else None), done.stderr

    return run


def test_below_a_threshold_the_score_of_the_stages_so_far_counts(stages):
    found = stages(
        'def evaluate_stage1(path): return {"combined_score": value(path) * 0.72}\n'
        'def evaluate_stage2(path): return {"combined_score": value(path)}\n'
    )
    assert found["objective"] == 0.36


def test_a_threshold_is_compared_with_the_mean_of_numbers_and_booleans(stages):
    found = stages(
        'def evaluate_stage1(path): return {"a": 0.3, "ok": True, "also": True, "error": 9}\n'
        'def evaluate_stage2(path): return {"a": 0.9}\n'
    )
    assert found["objective"] == pytest.approx((0.9 + 1 + 1) / 3)


def test_one_stage_alone_and_no_thresholds_are_one_evaluation(stages):
    body = (
        'def evaluate_stage1(path): return {"combined_score": 0.6}\n'
        'def evaluate(path): return {"combined_score": 0.9}\n'
    )
    assert stages(body)["objective"] == 0.6
    assert stages(body, thresholds=[])["objective"] == 0.9


def test_a_later_stage_that_fails_leaves_the_earlier_score_and_says_so(stages):
    found = stages(
        'def evaluate_stage1(path): return {"combined_score": 0.6}\n'
        "def evaluate_stage2(path): return 1 / 0\n"
    )
    assert found["objective"] == 0.6
    assert found["metrics"]["stage2_passed"] == 0.0
    assert "ZeroDivisionError" in found["artifacts"]["evaluate_stage2"]


def test_what_a_later_stage_cannot_import_is_a_failure(stages):
    with pytest.raises(ModuleNotFoundError, match="package_of_theirs"):
        stages(
            'def evaluate_stage1(path): return {"combined_score": 0.6}\n'
            "def evaluate_stage2(path): import package_of_theirs\n"
        )


def test_asynchronous_evaluators_are_awaited(stages):
    found = stages('async def evaluate(path): return {"combined_score": value(path)}\n')
    assert found["objective"] == 0.5


def test_an_evaluator_that_returns_no_metrics_is_told_apart(stages):
    with pytest.raises(TypeError, match=r"expected metrics as a dictionary, got 0\.5"):
        stages("def evaluate(path): return 0.5\n")


@pytest.mark.parametrize(
    ("metrics", "asked", "objective", "note"),
    [
        ({"combined_score": 0.5, "a": 9.0}, "", 0.5, ""),
        ({"a": 0.5}, "", 0.5, ""),
        ({"a": 0.5, "b": float("nan")}, "", 0.5, ""),
        ({"a": 0.5, "b": 2.5}, "", 1.5, "the mean of a, b"),
        ({"a": 0.5, "b": 2.5}, "mean", 1.5, ""),
        ({"a": 0.5, "b": 2.5}, "b", 2.5, ""),
        ({"a": 0.5, "size": 400.0}, "", 0.5, ""),
        ({"a": 0.5}, "b", None, "expected a number as metric `b`; reported: a"),
        ({}, "", None, "expected `combined_score` or other numbers; reported: {}"),
    ],
)
def test_the_objective_is_what_their_system_takes_and_a_mean_is_noted(
    metrics, asked, objective, note
):
    assert choose(metrics, asked, ["size"]) == (objective, note)


def test_results_have_the_methods_of_theirs():
    result = EvaluationResult(metrics={"combined_score": 1.0})
    assert not result.has_artifacts()
    result.artifacts["note"] = "é"
    result.artifacts["blob"] = b"abc"
    assert result.get_artifact_keys() == ["note", "blob"]
    assert [result.get_artifact_size(key) for key in ("note", "blob", "none")] == [2, 3, 0]
    assert result.get_total_artifact_size() == 5
    assert EvaluationResult.from_dict({"a": 1}).to_dict() == {"a": 1}


def test_stand_ins_hide_no_installed_module(ask, tmp_path):
    package = tmp_path / "installed/openevolve"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "evaluation_result.py").write_text("class EvaluationResult(dict): pass\n")
    found, _ = ask(
        "stages", "evaluator.py",
        "from openevolve.evaluation_result import EvaluationResult\n"
        "import openevolve\n"
        'def evaluate(path): return {"combined_score": 1.0, "file": openevolve.__file__}\n',
        packages=str(tmp_path / "installed"),
    )  # fmt: skip
    assert found["metrics"]["file"] == str(package / "__init__.py")


def test_a_module_of_theirs_that_is_not_offered_is_named(ask):
    found, errors = ask("stages", "evaluator.py", "from openevolve.utils import thing\n")
    assert found is None
    assert "install `openevolve` where evolve is installed" in errors.splitlines()[-1]


def test_their_processes_find_the_evaluator_and_python_whatever_the_start_method(ask):
    found, errors = ask(
        "stages", "evaluator.py",
        LOAD
        + "import multiprocessing, subprocess\n"
        + "def evaluate(path):\n"
        + "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        + "        got = pool.map(value, [path])\n"
        + "    by_name = subprocess.run(['python', '-c', 'import numpy'])\n"
        + "    return {'combined_score': got[0] + by_name.returncode}\n",
    )  # fmt: skip
    assert found is not None, errors
    assert found["objective"] == 0.5


SCRIPT = """
if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--n", type=int, default=1)
    p.add_argument("--program_path")
    p.add_argument("--results_dir")
    a = p.parse_args()
    score(a.program_path, a.results_dir, a.n)
"""
MODULE = "def main(program_path, results_dir): score(program_path, results_dir, 3)\n"


@pytest.mark.parametrize("end", [SCRIPT, MODULE])
def test_scripts_get_their_arguments_and_modules_are_called(end, ask):
    found, errors = ask(
        "script", "evaluate.py",
        "import argparse\n"
        "from shinka.core import run_shinka_eval\n"
        "def score(program_path, results_dir, n):\n"
        "    run_shinka_eval(program_path, results_dir, 'value', n,\n"
        "        get_experiment_kwargs=lambda i: {}, run_workers=2, plotting_fn=None,\n"
        "        aggregate_metrics_fn=lambda all: {'combined_score': sum(all)})\n" + end,
        arguments=["--n", "3"],
    )  # fmt: skip
    assert found is not None, errors
    assert found["objective"] == 1.5
    assert found["failed"] == ""


def test_a_value_by_signature_or_candidate_is_scored(ask, tmp_path):
    found, errors = ask(
        "function", "problem.py",
        "INPUTS = [1.0, 2.0]\n"
        "def score_fn(f, inputs): return {'score': sum(map(f, inputs)), 'n': 2}\n",
        program="def value(x):\n    return 0.5 * x\n", arguments=["value"],
    )  # fmt: skip
    assert found is not None, errors
    assert (found["objective"], found["metrics"]["n"]) == (1.5, 2)


def test_variables_that_are_named_are_set(ask):
    found, errors = ask(
        "stages", "evaluator.py",
        "import os\n"
        "SCALE = float(os.environ['SCALE'])\n"
        "def evaluate(path): return {'combined_score': SCALE}\n",
        variables={"SCALE": "2.5"},
    )  # fmt: skip
    assert found is not None, errors
    assert found["objective"] == 2.5


def test_large_data_is_shown_at_its_place(ask, tmp_path):
    data = tmp_path / "data/theirs/deep"
    data.mkdir(parents=True)
    (data / "big.txt").write_text("2.5")
    found, errors = ask(
        "stages", "evaluator.py",
        "import os\n"
        "HERE = os.path.dirname(os.path.abspath(__file__))\n"
        "def evaluate(path):\n"
        "    with open(os.path.join(HERE, 'deep', 'big.txt')) as f:\n"
        "        return {'combined_score': float(f.read())}\n",
    )  # fmt: skip
    assert found is not None, errors
    assert found["objective"] == 2.5


def test_importing_the_script_changes_nothing():
    before = (str(Path.cwd()), list(sys.path), os.environ["PATH"])
    importlib.reload(harness)
    assert (str(Path.cwd()), sys.path, os.environ["PATH"]) == before
