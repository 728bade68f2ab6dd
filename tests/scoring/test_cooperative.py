import json

import pytest

from evolve.sandbox.replies import Finished, OutputFile
from evolve.scoring import Infeasible
from evolve.scoring.cooperative import Theirs, evaluate_there


class Answering:
    """A program in whose place an evaluator has answered."""

    def __init__(self, found, output="", *, is_start=True):
        self._found = {"metrics": {}, "artifacts": {}, **found}
        self._output = output
        self.is_start = is_start

    def run(self, *_, outputs, **__):
        file = OutputFile(outputs[0], json.dumps(self._found).encode(), is_executable=False)
        return Finished(0, self._output.encode(), files=(file,))


def score(tmp_path, found, output="", *, is_start=True, **theirs):
    program = Answering(found, output, is_start=is_start)
    return evaluate_there(program, tmp_path, Theirs("stages", "e.py", **theirs), path="initial.py")


@pytest.mark.parametrize(
    ("found", "output", "reason"),
    [
        ({"objective": 0.0, "artifacts": {"error": "no API key"}}, "", "no API key"),
        ({"objective": 0.0, "metrics": {"why": "[Errno 2]: 'rustc'"}}, "", "'rustc'"),
        ({"objective": 0.0, "artifacts": {"info": "g++: not found"}}, "", "g++: not found"),
        ({"objective": 0.0}, "begins\nOPENAI_API_KEY not set\nends", "OPENAI_API_KEY not set"),
        (
            {"objective": 0.0},
            "ImportError: No module named 'lxml'\nTraceback (...):\nRuntimeError: code 1",
            "gave 0: ImportError: No module named 'lxml'",
        ),
        ({"objective": 0.6, "metrics": {"score": 0.0, "time": 1.2, "error": "E"}}, "", "0.6: E"),
        ({"objective": -1.0, "artifacts": {"traceback": "T"}}, "", "gave -1: T"),
        ({"objective": None, "note": "expected a number"}, "", "expected a number"),
        ({"objective": float("inf")}, "", "expected a finite number, got inf"),
        (
            {"objective": float("inf"), "note": "the mean of a, b", "artifacts": {"error": "R"}},
            "",
            "the mean of a, b, got inf; R",
        ),
        ({"objective": 1.0, "failed": "not correct"}, "", "not correct"),
    ],
)
def test_where_their_evaluator_failed_its_own_words_are_the_reason(found, output, reason, tmp_path):
    with pytest.raises(Infeasible, match=r".*") as caught:
        score(tmp_path, found, output)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "found",
    [
        {"objective": 0.5, "metrics": {"combined_score": 0.5, "error": "slow path used"}},
        {"objective": 0.333, "metrics": {"combined_score": 0.333, "error": 2.0}},
        {"objective": 0.0, "metrics": {"combined_score": 0.0}},
        {"objective": -0.5, "artifacts": {"stderr": "a warning"}},
    ],
)
def test_a_score_counts_whatever_its_metrics_are_called(found, tmp_path):
    counted = score(tmp_path, found, is_start=False)
    assert counted.objective == found["objective"]
    numbers = {k: v for k, v in found.get("metrics", {}).items() if isinstance(v, float)}
    assert counted.metrics == numbers


def test_an_invalid_start_keeps_their_score_and_other_programs_do_not(tmp_path):
    found = {"objective": 0.0, "failed": "validation_failed: overlap", "is_invalid": True}
    kept = score(tmp_path, found)
    assert kept.objective == 0.0
    assert "validation_failed: overlap" in kept.artifacts["warning"]
    with pytest.raises(Infeasible, match="overlap"):
        score(tmp_path, found, is_start=False)


def test_a_start_that_their_evaluator_refuses_counts_where_that_is_allowed(tmp_path):
    found = {"objective": None, "failed": "not correct"}
    assert score(tmp_path, found, allow_broken_start=True).objective == 0.0
    with pytest.raises(Infeasible, match="not correct"):
        score(tmp_path, found, is_start=False, allow_broken_start=True)


def test_a_mean_that_nobody_asked_for_is_warned_of(tmp_path):
    warning = score(tmp_path, {"objective": 1.5, "note": "the mean of a, b"}).artifacts["warning"]
    assert "the mean of a, b" in warning
    assert "--objective NAME" in warning


def test_values_that_are_no_finite_numbers_become_texts_or_nothing(tmp_path):
    metrics = {"n": 3, "flag": True, "none": None, "inf": float("inf"), "nest": {"a": 1}}
    counted = score(tmp_path, {"objective": 0.5, "metrics": metrics})
    assert counted.metrics == {"n": 3.0}
    assert counted.artifacts == {"nest": '{"a": 1}'}
