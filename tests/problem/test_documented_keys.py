"""docs/reference/problem.md names every key of `problem.toml`."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from evolve.errors import ProblemError
from evolve.problem.folder import (
    EvaluatorTable,
    LimitTable,
    NoiseTable,
    ProblemTable,
    ProgramTable,
    StageTable,
)
from evolve.problem.gallery import find_problem
from evolve.source import BUILT_IN_MEASURES

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "problem.md").read_text()


def test_every_key_is_documented():
    tables = (EvaluatorTable, ProgramTable, NoiseTable, LimitTable, StageTable, ProblemTable)
    for key in {field.name for table in tables for field in fields(table)}:
        assert re.search(rf"^\| `{key}` \||\[{key}\]", PAGE, re.MULTILINE), key
    for measure in BUILT_IN_MEASURES:
        assert f"`{measure}`" in PAGE, measure


def test_a_misspelt_problem_of_the_gallery_is_named():
    with pytest.raises(ProblemError, match="did you mean circle_packing"):
        find_problem(Path("circle_pakcing"))
    assert find_problem(Path("nothing_of_the_kind")) == Path("nothing_of_the_kind")
