"""What lies beside an evaluator: there in a run as in the problem folder, and each byte once."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from evolve.errors import UsageError
from evolve.problem import load_problem
from evolve.records import RESCORE, AttemptKey
from evolve.runs import world
from evolve.runs.derived import fork_run
from evolve.runs.run_folder import create_run_folder, load_run
from evolve.runs.world import read_origin, take_evaluator
from evolve.search.population import load_population
from evolve.settings import Settings
from evolve.store import Store
from tests.commands import EVALUATOR, INITIAL, PROBLEM, run_evolve, write_problem

MB = world.MB


def make_run(problem: Path, run: Path) -> Path:
    return create_run_folder(load_problem(problem), Settings(), folder=run, parent=run.parent)


def write(path: Path, data: bytes | str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def sparse(path: Path, size: int) -> Path:
    write(path, b"begin")
    os.truncate(path, size)
    return path


def names(run: Path) -> set[str]:
    folder = run / "evaluator"
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("evaluator", "file", "spelled"),
    [
        ("evaluator.py", "x.csv", "x.csv"),
        ("evaluator.py", "tables/deep/x.txt", "tables/deep/x.txt"),
        ("evaluator.py", "data/x.csv", "data/x.csv"),
        ("ev/evaluator.py", "shared/x.txt", "../shared/x.txt"),
        ("ev/evaluator.py", "ev/x.txt", "x.txt"),
        ("../judges/evaluator.py", "../judges/tables/x.txt", "tables/x.txt"),
    ],
)
def test_a_run_has_what_lies_beside_its_evaluator(
    tmp_path: Path, evaluator: str, file: str, spelled: str
) -> None:
    reads = f"from pathlib import Path\nX = (Path(__file__).parent / {spelled!r}).read_text()\n"
    problem = write_problem(tmp_path / "p", toml=f'evaluator = "{evaluator}"\n{PROBLEM}')
    (problem / "evaluator.py").unlink()
    write(problem / evaluator, reads + EVALUATOR)
    write(problem / file)
    done = run_evolve("run", "p", "--generations", "1", "--run-dir", "r", cwd=tmp_path)
    assert "finished: all generations done" in done.stdout


def test_a_program_and_an_evaluator_share_the_copy_of_the_data(tmp_path: Path) -> None:
    problem = write_problem(tmp_path / "p")
    write(problem / "data/x.csv")
    run = make_run(problem, tmp_path / "r")
    assert (run / "evaluator/data").resolve() == run / "problem/data"
    assert load_run(run)[0].data == run / "problem/data"


def test_what_no_evaluator_needs_is_left_out(tmp_path: Path) -> None:
    problem = write_problem(tmp_path / "p")
    for name in (".git/config", "venv/pyvenv.cfg", ".env", "__pycache__/x.pyc", "runs/a/run.db"):
        write(problem / name)
    for name in ("b/settings.toml", "b/problem/x", "b/evaluator/x", "lib/kept.py"):
        write(problem / name)
    os.mkfifo(problem / "pipe")
    (problem / "empty").mkdir()
    run = make_run(problem, tmp_path / "r")
    assert names(run) == {
        *("evaluator.py", "initial.py", "problem.toml", "statement.md"),
        *("lib", "lib/kept.py", "empty"),
    }


def test_a_run_inside_its_problem_folder_does_not_copy_itself(tmp_path: Path) -> None:
    problem = write_problem(tmp_path / "p")
    for name in ("out1", "out2", "out3"):
        run = make_run(problem, problem / name)
        assert names(run) == {"evaluator.py", "initial.py", "problem.toml", "statement.md"}


def test_nothing_is_copied_through_links_and_links_still_lead_there(tmp_path: Path) -> None:
    problem = write_problem(tmp_path / "p")
    write(tmp_path / "store/big.bin")
    (problem / "samples").symlink_to("../store")
    (problem / "up").symlink_to("..")
    (problem / "self").symlink_to("self")
    (problem / "gone").symlink_to("/nonexistent")
    write(problem / "v2/x")
    (problem / "latest").symlink_to("v2")
    run = make_run(problem, tmp_path / "r")
    own = run / "evaluator"
    assert (own / "samples").readlink() == tmp_path / "store"
    assert (own / "up").readlink() == tmp_path
    assert (own / "latest").readlink() == Path("v2")
    assert not {"self", "gone"} & names(run)


def test_larger_files_are_shared_between_runs_by_content(tmp_path: Path) -> None:
    problem = write_problem(tmp_path / "p")
    write(problem / "table.bin", os.urandom(2 * MB))
    write(problem / "small.bin", b"small")
    first, second = (make_run(problem, tmp_path / name) for name in ("r1", "r2"))
    inodes = [(run / "evaluator/table.bin").stat().st_ino for run in (first, second)]
    assert inodes[0] == inodes[1]
    assert (first / "evaluator/small.bin").stat().st_nlink == 1
    write(problem / "table.bin", os.urandom(2 * MB))
    third = make_run(problem, tmp_path / "r3")
    assert (third / "evaluator/table.bin").stat().st_ino != inodes[0]


def test_what_is_large_stays_where_it_is_and_changes_are_noticed(tmp_path: Path) -> None:
    problem = write_problem(tmp_path / "p")
    big = sparse(problem / "big.bin", world.MOST_BYTES + 1)
    for number in range(world.MOST_FILES + 1):
        write(problem / f"images/{number}")
    run = make_run(problem, tmp_path / "r")
    assert (run / "evaluator/big.bin").readlink() == big
    assert (run / "evaluator/images").readlink() == problem / "images"
    lines = world.describe_linked(run)
    assert all("not copied, since it is large" in line for line in lines)
    assert {str(big), str(problem / "images")} == {line.split()[6] for line in lines}
    assert world.describe_linked(run, changed=True) == []
    write(big, b"other")
    (changed,) = world.describe_linked(run, changed=True)
    assert f"{big} is not as it was when the run began" in changed


def test_code_is_copied_from_among_what_is_large(tmp_path: Path) -> None:
    problem = write_problem(tmp_path / "p")
    write(problem / "lib/module.py")
    sparse(problem / "lib/weights.bin", world.MOST_BYTES + 1)
    run = make_run(problem, tmp_path / "r")
    assert not (run / "evaluator/lib/module.py").is_symlink()
    assert (run / "evaluator/lib/weights.bin").is_symlink()


def test_an_evaluator_above_the_problem_brings_nobodys_files_along(tmp_path: Path) -> None:
    home = tmp_path / "home"
    problem = write_problem(home / "p", toml=f'evaluator = "../evaluator.py"\n{PROBLEM}')
    (problem / "evaluator.py").rename(home / "evaluator.py")
    write(home / "helper.py")
    write(home / "diary.txt")
    run = make_run(problem, tmp_path / "r")
    assert not (run / "evaluator/helper.py").is_symlink()
    assert (run / "evaluator/diary.txt").is_symlink()


def test_a_fork_has_the_world_and_the_origin_of_its_run(tmp_path: Path) -> None:
    problem = write_problem(tmp_path / "p")
    write(problem / "data/x.csv")
    big = sparse(problem / "big.bin", world.MOST_BYTES + 1)
    run_evolve("run", "p", "--generations", "1", "--run-dir", "r", cwd=tmp_path)
    run, fork = tmp_path / "r", tmp_path / "f"
    made, _ = fork_run(run, lambda same: same, generation=None, folder=fork, parent=tmp_path)
    assert (made / "evaluator/big.bin").readlink() == big
    assert (made / "evaluator/data").resolve() == made / "problem/data"
    assert world.read_origin(made)["evaluator"] == str(problem / "evaluator.py")


def test_what_lies_above_the_world_is_named_as_the_user_knows_it(tmp_path: Path) -> None:
    reads = "from pathlib import Path\nX = (Path(__file__).parents[1] / 'x.txt').read_text()\n"
    write_problem(tmp_path / "p", evaluator=reads + EVALUATOR)
    write(tmp_path / "x.txt")
    done = run_evolve("run", "p", "--generations", "1", "--run-dir", "r", cwd=tmp_path, code=2)
    assert f"No such file or directory: '{tmp_path}/x.txt'" in done.stderr
    assert f"a run has only what lies in {tmp_path}/p: put it there, or a link" in done.stderr


def test_a_problem_whose_name_begins_like_the_run_is_named_as_it_is(tmp_path: Path) -> None:
    broken = INITIAL.replace("return", "return 1 / 0 #")
    write_problem(tmp_path / "runner", initial=broken)
    done = run_evolve("run", "runner", "--run-dir", "run", cwd=tmp_path, code=2)
    assert f"error: {tmp_path}/runner/initial.py: the starting program must have" in done.stderr
    assert "a run has only what lies in" not in done.stderr


def test_a_problem_named_by_its_folder_keeps_the_name_in_its_runs(tmp_path):
    toml = PROBLEM.replace('name = "valley"\n', "", 1)
    run = make_run(write_problem(tmp_path / "hills", toml=toml), tmp_path / "run")
    assert load_run(run)[0].name == "hills"


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
        state = load_population(store, problem, settings.search)
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
    take_evaluator(broken / "r", load_run(broken / "r")[0], broken / "p/evaluator.py")
    assert (broken / "r/evaluator/table.csv").read_text() == "new"
    assert read_origin(broken / "r")["evaluator"] == str(broken / "p/evaluator.py")


def test_of_a_file_of_another_name_the_file_alone_is_taken(broken: Path) -> None:
    (broken / "elsewhere").mkdir()
    (broken / "elsewhere/better.py").write_text(MENDED)
    (broken / "elsewhere/diary.txt").write_text("")
    take_evaluator(broken / "r", load_run(broken / "r")[0], broken / "elsewhere/better.py")
    assert (broken / "r/evaluator/evaluator.py").read_text() == MENDED
    assert not (broken / "r/evaluator/diary.txt").exists()
    assert (broken / "r/evaluator/initial.py").exists()


def test_an_evaluator_that_is_not_there_is_named(broken: Path) -> None:
    with pytest.raises(UsageError, match=r"--evaluator: expected a Python file, got nothing at"):
        take_evaluator(broken / "r", load_run(broken / "r")[0], broken / "nowhere.py")
