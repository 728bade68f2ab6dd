import importlib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from evolve.problem import PRODUCTS, Purpose, load_problem
from tests.direct_program import DirectProgram

ROOT = Path(__file__).parents[2]
PROBLEMS = [load_problem(path.parent) for path in sorted(ROOT.glob("problems/*/problem.toml"))]
DRAWN = [problem for problem in PROBLEMS if Purpose.PLOT in problem.functions]
SHAPES = {"pack": ("circle", "polygon"), "place": ("circle",), "heights": ("polygon",)}


@pytest.mark.parametrize("problem", DRAWN, ids=lambda problem: problem.name)
def test_the_starting_programs_answer_is_drawn(problem):
    module = importlib.import_module(problem.evaluator.stem)
    program = DirectProgram.from_file(problem.folder / "initial.py")
    score = module.draw(program, **problem.parameters)
    assert score.objective == module.evaluate(program, **problem.parameters).objective
    picture = ET.fromstring(score.artifacts[PRODUCTS[Purpose.PLOT]])
    names = [element.tag.rpartition("}")[2] for element in picture]
    count = problem.parameters.get("count", 1)
    assert sum(name in SHAPES[problem.entry[0]] for name in names) >= count
    assert "nan" not in score.artifacts[PRODUCTS[Purpose.PLOT]]
