import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from evolve.errors import ProblemError, UsageError
from evolve.problem import Purpose, load_problem
from evolve.problem.gallery import copy_problem, find_problem, scaffold_problem
from evolve.source.analysis import BUILT_IN_MEASURES
from tests.commands import run_evolve, run_json
from tests.direct_program import DirectProgram

ROOT = Path(__file__).parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "write_problem_pages.py"))
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


def test_a_misspelt_problem_of_the_gallery_is_named():
    with pytest.raises(ProblemError, match="did you mean circle_packing"):
        find_problem(Path("circle_pakcing"))
    assert find_problem(Path("nothing_of_the_kind")) == Path("nothing_of_the_kind")


def test_a_new_folder_loads_and_its_program_scores(tmp_path: Path) -> None:
    folder = tmp_path / "my first-problem"
    paths = scaffold_problem(folder)
    assert sorted(path.name for path in paths) == sorted(p.name for p in folder.iterdir())
    problem = load_problem(folder)
    assert problem.name == "my_first-problem"
    evaluate = runpy.run_path(str(problem.evaluator))[problem.functions[Purpose.SEARCH]]
    score = evaluate(DirectProgram.from_file(folder / "initial.py"), **problem.parameters)
    assert problem.baseline is not None
    assert score.objective > problem.baseline.value
    reported = {m.name for m in problem.measures if m.name not in BUILT_IN_MEASURES}
    assert set(score.measures) == reported


def test_the_recorded_baseline_is_what_the_evaluator_gives(tmp_path: Path) -> None:
    scaffold_problem(tmp_path)
    problem = load_problem(tmp_path)
    line = tmp_path / "line.py"
    line.write_text(
        "def predict(minutes):\n    return [71.68351648 - 0.91868132 * m for m in minutes]\n"
    )
    evaluate = runpy.run_path(str(problem.evaluator))["evaluate"]
    score = evaluate(DirectProgram.from_file(line), **problem.parameters)
    assert problem.baseline is not None
    assert score.objective == pytest.approx(problem.baseline.value, abs=1e-4)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "statement.md").write_text("mine")
    with pytest.raises(UsageError, match=r"statement\.md: expected no such file"):
        scaffold_problem(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["statement.md"]


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert len(scaffold_problem(tmp_path)) == 4
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        scaffold_problem(tmp_path / "file" / "inside")


def test_every_problem_has_a_page_that_says_what_its_files_say():
    problems = SCRIPT["list_problems"]()
    pages = {path.stem: path.read_text() for path in SCRIPT["PAGES"].glob("*.md")}
    written = {problem.name: SCRIPT["write_page"](problem) for problem in problems}
    written["README"] = SCRIPT["write_index"](problems)
    outdated = {name for name in pages.keys() | written if pages.get(name) != written.get(name)}
    assert not outdated, "run: python scripts/write_problem_pages.py"
