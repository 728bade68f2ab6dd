"""docs/reference/problem.md names every key of `problem.toml`."""

import re
from pathlib import Path

import pytest

from evolve.errors import ProblemError
from evolve.problem import folder as keys
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


def test_a_misspelt_problem_of_the_gallery_is_named():
    with pytest.raises(ProblemError, match="did you mean circle_packing"):
        find_problem(Path("circle_pakcing"))
    assert find_problem(Path("nothing_of_the_kind")) == Path("nothing_of_the_kind")
