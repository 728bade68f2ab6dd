"""An evaluator that broke in a run, mended, and taken by the run."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from evolve.errors import UsageError
from evolve.population.snapshot import load_state
from evolve.records import RESCORE, AttemptKey
from evolve.runs.mending import take_evaluator
from evolve.runs.run_folder import load_run
from evolve.runs.world import read_origin
from evolve.store import Store
from tests.commands import EVALUATOR, run_evolve, write_problem

BREAKS = "import os\n" + EVALUATOR.replace(
    "evaluate(program):",
    "evaluate(program):\n    if os.path.exists(BREAK): raise KeyError('column')",
)
# As good as the other, plus 100.
MENDED = EVALUATOR.replace("return Score(-", "return Score(100 - ")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A run whose evaluator broke in its second generation."""
    text = f"BREAK = {str(tmp_path / 'break')!r}\n{BREAKS}"
    write_problem(tmp_path / "p", evaluator=text)
    run_evolve("run", "p", "--generations", "2", "--run-dir", "r", cwd=tmp_path)
    (tmp_path / "break").touch()
    done = run_evolve("resume", "r", "--generations", "9", cwd=tmp_path, code=4)
    original = tmp_path / "p/evaluator.py"
    assert f"mend {original}, then: evolve resume r --evaluator {original}" in done.stderr
    original.write_text(MENDED)
    return tmp_path


def test_a_mended_evaluator_is_taken_recorded_and_the_elites_scored_again(broken: Path) -> None:
    plain = run_evolve("resume", "r", cwd=broken, code=4)
    assert "evaluator.py was changed since; the run uses its own copy" in plain.stdout
    done = run_evolve("resume", "r", "--evaluator", "p/evaluator.py", "--rescore", cwd=broken)
    assert "programs evaluated again; archives begin anew" in done.stdout
    problem, settings = load_run(broken / "r")
    with closing(Store.open_to_read(broken / "r")) as store:
        state = load_state(store, problem, settings.search)
        last, before = store.invocations()[-1], store.invocations()[-2]
        again = [one for one in store.light_attempts() if one.operator == RESCORE]
    assert (last.replaced, before.replaced) == (before.evaluator, "")
    assert last.evaluator != before.evaluator
    assert state.initial == 100 - 13.0
    elites = [elite for archive in state.islands.archives for elite in archive.elites]
    assert min(elite.key.generation for elite in elites) >= again[0].key.generation
    assert again[0].parent is None
    assert {one.key.generation for one in again} == {again[0].key.generation}
    assert "another evaluator" in run_evolve("show", "r", cwd=broken).stdout
    assert "equal: generations" in run_evolve("replay", "r", cwd=broken).stdout


def test_without_scoring_again_the_verdicts_are_told_apart(broken: Path) -> None:
    done = run_evolve("resume", "r", "--evaluator", "p", cwd=broken)
    assert "earlier objectives are those of the one before" in done.stdout
    with closing(Store.open_to_read(broken / "r")) as store:
        first = store.load_attempt(AttemptKey(0, 0, 0))
    assert first.objective == -13.0


def test_what_lies_beside_the_mended_evaluator_comes_with_it(broken: Path) -> None:
    (broken / "p/table.csv").write_text("new")
    take_evaluator(broken / "r", broken / "p/evaluator.py")
    assert (broken / "r/evaluator/table.csv").read_text() == "new"
    assert read_origin(broken / "r")["evaluator"] == str(broken / "p/evaluator.py")


def test_of_a_file_of_another_name_the_file_alone_is_taken(broken: Path) -> None:
    (broken / "elsewhere").mkdir()
    (broken / "elsewhere/better.py").write_text(MENDED)
    (broken / "elsewhere/diary.txt").write_text("")
    take_evaluator(broken / "r", broken / "elsewhere/better.py")
    assert (broken / "r/evaluator/evaluator.py").read_text() == MENDED
    assert not (broken / "r/evaluator/diary.txt").exists()
    assert (broken / "r/evaluator/initial.py").exists()


def test_an_evaluator_that_is_not_there_is_named(broken: Path) -> None:
    with pytest.raises(UsageError, match=r"--evaluator: expected a Python file, got nothing at"):
        take_evaluator(broken / "r", broken / "nowhere.py")
