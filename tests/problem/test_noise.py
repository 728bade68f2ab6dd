import tomllib

import pytest

from evolve.errors import ProblemError
from evolve.problem import load_problem
from evolve.problem.gallery import write_noise
from evolve.records import Evaluation, Status, average
from tests.commands import run_evolve, run_json, write_problem

NOISY = """
import random
from evolve.scoring import Score

def evaluate(program):
    program.call("point")
    return Score(0.5 + random.choice([-0.1, -0.05, 0.0, 0.05, 0.1]), metrics={"n": 1.0})
"""


def evaluation(objective, **numbers):
    return Evaluation(Status.OK, objective=objective, metrics=numbers)


def test_several_evaluations_come_to_their_mean():
    found = average([evaluation(1.0, a=2.0, b=1.0), evaluation(3.0, a=4.0)])
    assert (found.objective, found.metrics, found.repeats) == (
        2.0, {"a": 3.0, "b": 1.0}, (1.0, 3.0)
    )  # fmt: skip
    assert found.noise == 2.0


def test_one_evaluation_has_no_noise_and_one_failure_is_the_verdict():
    failed = Evaluation(Status.INFEASIBLE, reason="at times")
    assert average([evaluation(1.0)]).noise == 0.0
    assert average([evaluation(1.0), failed]) is failed


def test_rounding_is_no_noise():
    assert average([evaluation(1.0), evaluation(1.0 + 1e-12)]).noise == 0.0


@pytest.mark.parametrize("text", ['name = "a"\n', 'name = "a"\nnoise = 0.1\n\n[limits]\nx = 1\n'])
def test_noise_is_written_before_all_tables_and_once(text, tmp_path):
    path = tmp_path / "problem.toml"
    path.write_text(text)
    write_noise(tmp_path, 0.25)
    write_noise(tmp_path, 0.5)
    assert path.read_text().count("noise") == 1
    assert path.read_text().index("noise = 0.5") < (path.read_text() + "[").index("[")


@pytest.mark.parametrize(
    "table",
    ["[noise]\nrepeats = 3\n", "[noise]\nspread = 1\nrepeats = 3\n", "[noise]\nrepeats = 3"],
)
def test_noise_is_written_into_its_table(table, tmp_path):
    path = tmp_path / "problem.toml"
    path.write_text(f'name = "a"\n{table}')
    path.write_text(path.read_text() + ("\n[limits]\nseconds = 1\n" * table.endswith("\n")))
    write_noise(tmp_path, 0.25)
    write_noise(tmp_path, 0.5)
    found = tomllib.loads(path.read_text())
    assert found["noise"] == {"spread": 0.5, "repeats": 3}
    assert found["name"] == "a"


def test_noise_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ProblemError, match=r"problem\.toml"):
        write_noise(tmp_path / "none", 0.5)


@pytest.fixture
def noisy(tmp_path):
    toml = 'name = "valley"\ndirection = "maximize"\npackages = []\n'
    return write_problem(tmp_path / "valley", evaluator=NOISY, toml=toml)


def test_check_measures_noise_and_writes_it_into_the_problem(noisy, tmp_path):
    checked = run_json("check", noisy, "--set", "sandbox.processes=1", cwd=tmp_path)
    assert load_problem(noisy).noise == pytest.approx(checked["noise"])


def test_a_noisy_run_says_the_gain_with_its_spread_and_counts_no_luck(noisy, tmp_path):
    write_noise(noisy, 0.25)
    done = run_evolve(
        "run", noisy, "--generations", "6", "--run-dir", "r", "--set", "search.islands=1",
        cwd=tmp_path,
    )  # fmt: skip
    assert "beyond the noise of 0.25" in done.stdout
    state = run_json("show", "r", cwd=tmp_path)
    assert state["noise"] == 0.25
    assert state["champion"]["generation"] == 0
    # The starting program was evaluated twice, and perhaps others that seemed to lead.
    assert state["evaluations"] > state["outcomes"]["ok"]
