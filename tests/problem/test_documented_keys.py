"""docs/reference/problem.md names every key of `problem.toml`, and its example is a problem."""

import re
from pathlib import Path

import pytest

from evolve.errors import ProblemError
from evolve.problem import folder as keys
from evolve.problem import load_problem
from evolve.problem.gallery import find_problem
from evolve.source import BUILT_IN_MEASURES

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "problem.md").read_text()


def test_every_key_is_documented():
    groups = (keys._VALUES, keys._LISTS[:2], keys._EVALUATOR, keys._PROGRAM, keys._LIMITS)
    for key in (key for group in groups for key in group):
        assert re.search(rf"^\| `{key}` \|", PAGE, re.MULTILINE), key
    for table in (*keys._TABLES, *keys._LISTS[2:]):
        assert f"[{table}]" in PAGE, table
    for measure in BUILT_IN_MEASURES:
        assert f"`{measure}`" in PAGE, measure


def test_its_example_is_a_problem(tmp_path):
    toml, evaluator = (
        re.search(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]
        for kind in ("toml", "python")
    )
    (tmp_path / "problem.toml").write_text(toml)
    (tmp_path / "evaluator.py").write_text(evaluator)
    (tmp_path / "statement.md").write_text("Place {{count}} points.\n")
    with pytest.raises(ProblemError, match=r"initial\.py"):
        load_problem(tmp_path)
    (tmp_path / "initial.py").write_text("def place(count):\n    return [[0.0, 0.0]] * count\n")
    problem = load_problem(tmp_path)
    assert problem.parameters == {"count": 12}
    assert problem.statement == "Place 12 points.\n"


def test_a_misspelt_problem_of_the_gallery_is_named():
    with pytest.raises(ProblemError, match="did you mean circle_packing"):
        find_problem(Path("circle_pakcing"))
    assert find_problem(Path("nothing_of_the_kind")) == Path("nothing_of_the_kind")
