import subprocess
import sys
from pathlib import Path

import pytest

from evolve.errors import UsageError
from evolve.problem import load_problem
from evolve.problem.gallery import copy_problem, find_problem
from tests.commands import run_evolve, run_json

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.parent.name for path in (ROOT / "problems").glob("*/problem.toml"))


def test_every_problem_is_listed_by_the_name_of_its_folder(tmp_path):
    assert [problem["name"] for problem in run_json("gallery", cwd=tmp_path)] == NAMES
    listed = run_evolve("gallery", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in listed[1:-1]] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_the_same_problem(name, tmp_path):
    copy_problem(name, tmp_path / "mine")
    copy, original = load_problem(tmp_path / "mine"), load_problem(ROOT / "problems" / name)
    assert copy.evaluator.read_text() == original.evaluator.read_text()
    assert copy.evaluator.is_relative_to(tmp_path / "mine")
    same = ("name", "direction", "statement", "initial", "parameters", "measures", "limits")
    assert all(getattr(copy, key) == getattr(original, key) for key in same)


def test_a_copied_problem_passes_its_check(tmp_path):
    run_evolve("gallery", "circle_packing", "mine", cwd=tmp_path)
    assert "ok: evolve run mine" in run_evolve("check", "mine", cwd=tmp_path).stdout


def test_a_problem_is_found_by_its_name_alone(tmp_path):
    assert find_problem(Path("circle_packing")) == ROOT / "problems" / "circle_packing"
    assert find_problem(Path("elsewhere/circle_packing")) == Path("elsewhere/circle_packing")
    (tmp_path / "circle_packing").mkdir()
    assert "without `problem.toml`" in run_evolve(
        "check", "circle_packing", cwd=tmp_path, code=2
    ).stderr  # fmt: skip


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match=r"expected one of .*circle_packing.*; got 'square'"):
        copy_problem("square", tmp_path / "mine")


def test_a_folder_with_files_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/note").write_text("mine")
    with pytest.raises(UsageError, match="expected a new or empty folder"):
        copy_problem("circle_packing", tmp_path / "mine")


def test_the_wheel_brings_every_problem_and_evaluator():
    """The installed package is looked at, where it is one and not a checkout."""
    found = subprocess.run(
        [sys.executable, "-c", "import evolve; print(evolve.__file__)"],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    shipped = Path(found).parent / "shipped"
    if not shipped.is_dir():
        pytest.skip("evolve is installed in editable form here; CI installs the wheel")
    for name in ("problems", "evaluators"):
        wanted = {path.relative_to(ROOT) for path in (ROOT / name).rglob("*.py")}
        assert wanted
        assert {path.relative_to(shipped) for path in (shipped / name).rglob("*.py")} >= wanted
