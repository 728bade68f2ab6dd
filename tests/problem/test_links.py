"""Links in a problem folder that somebody else made."""

import os
import re
from pathlib import Path

import pytest

from evolve.errors import ProblemError, UsageError
from evolve.importing.foreign import write_competition
from evolve.importing.readers import read_foreign
from evolve.problem import load_problem
from evolve.runs.run_folder import create_run_folder, load_run
from evolve.settings import Settings
from tests.commands import EVALUATOR, PROBLEM, write_problem

SECRET = "the user's secret"


@pytest.fixture
def secret(tmp_path) -> Path:
    (tmp_path / "home").mkdir()
    path = tmp_path / "home/secret.py"
    path.write_text(f"# {SECRET}\n")
    return path


def replace_by_link(path: Path, to: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(to)


@pytest.mark.parametrize(
    "name",
    [
        "problem.toml",
        "statement.md",
        "initial.py",
        "evaluator.py",
        "prompts/plan.md",
        "data/file.csv",
        "data/below/file.csv",
    ],
)
@pytest.mark.parametrize("is_relative", [False, True])
def test_a_link_that_leads_out_is_refused(problem, secret, name, is_relative):
    path = problem / name
    to = Path(os.path.relpath(secret, path.parent)) if is_relative else secret
    replace_by_link(path, to)
    with pytest.raises(ProblemError, match="a link that leads out") as error:
        load_problem(problem)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("name", ["data", "prompts", "data/below"])
def test_a_folder_that_is_a_link_is_refused(problem, secret, name):
    replace_by_link(problem / name, secret.parent)
    with pytest.raises(ProblemError, match="a link that leads out"):
        load_problem(problem)


def test_an_evaluator_in_a_folder_of_its_own_that_is_a_link_is_refused(tmp_path, secret):
    problem = write_problem(tmp_path / "mine", toml='evaluator = "judge/evaluator.py"' + PROBLEM)
    (problem / "judge").mkdir()
    (problem / "judge/evaluator.py").write_text(EVALUATOR)
    load_problem(problem)
    replace_by_link(problem / "judge/evaluator.py", secret)
    with pytest.raises(ProblemError, match="a link that leads out"):
        load_problem(problem)


def test_a_link_inside_the_folder_is_followed(problem):
    (problem / "other.md").write_text("The real statement.")
    replace_by_link(problem / "statement.md", Path("other.md"))
    assert load_problem(problem).statement == "The real statement."


@pytest.mark.parametrize("name", ["initial.py", "statement.md", "problem.toml"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(problem, name):
    (problem / name).unlink()
    os.mkfifo(problem / name)
    with pytest.raises(ProblemError, match=re.escape(name)):
        load_problem(problem)


@pytest.mark.parametrize("name", ["notes.txt", "helper.py", "below/notes.txt", "folder"])
def test_what_else_links_lead_to_is_not_copied_into_a_run(problem, secret, tmp_path, name):
    replace_by_link(problem / name, secret if "." in name else secret.parent)
    run = create_run_folder(
        load_problem(problem), Settings(), folder=tmp_path / "run", parent=tmp_path
    )
    load_run(run)
    own = [path for path in run.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not any(SECRET in path.read_text() for path in own)
    # The evaluator, which runs with the user's rights anyway, finds what it found before.
    links = [path for path in run.rglob("*") if path.is_symlink()]
    assert [path.relative_to(run / "evaluator") for path in links] == [Path(name)]


@pytest.mark.parametrize("name", ["settings.toml", "problem", "evaluator", "problem/statement.md"])
def test_a_link_in_the_place_of_a_part_of_a_run_is_refused(problem, tmp_path, name):
    run = create_run_folder(
        load_problem(problem), Settings(), folder=tmp_path / "run", parent=tmp_path
    )
    (run / name).rename(tmp_path / "moved")
    (run / name).symlink_to(tmp_path / "moved")
    with pytest.raises(UsageError, match="link"):
        load_run(run)


@pytest.mark.parametrize("name", ["train.csv", "description.md", "metric.txt", "medals.json"])
def test_an_import_follows_no_link_out_of_a_competition(tmp_path, name):
    folder = write_competition_folder(tmp_path / "theirs", "price")
    (folder / "medals.json").write_text("{}")
    (folder / name).rename(tmp_path / "moved")
    (folder / name).symlink_to(tmp_path / "moved")
    with pytest.raises(UsageError, match="a link that leads out"):
        write_competition(folder, tmp_path / "mine")


@pytest.mark.parametrize("name", ["config.yaml", "initial_program.py", "notes.txt"])
def test_an_import_follows_no_link_out_of_another_systems_folder(tmp_path, secret, name):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for file in ("initial_program.py", "evaluator.py", "config.yaml"):
        (folder / file).write_text("")
    replace_by_link(folder / name, secret)
    with pytest.raises(UsageError, match="a link that leads out"):
        read_foreign("openevolve", folder)


def write_competition_folder(folder: Path, column: str) -> Path:
    folder.mkdir()
    (folder / "train.csv").write_text(f"id,a,{column}\n1,2,3\n4,5,6\n7,8,9\n")
    (folder / "test.csv").write_text("id,a\n1,2\n")
    (folder / "sample_submission.csv").write_text(f"id,{column}\n1,0\n")
    (folder / "description.md").write_text("Predict it.")
    (folder / "metric.txt").write_text("rmse")
    return folder
