import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from evolve.errors import StoreError
from evolve.records import AttemptKey
from evolve.records.results import Evaluated
from evolve.store import DATABASE, Store
from evolve.store.artifacts import LARGE_BYTES
from evolve.store.copying import copy_database
from evolve.store.pruning import prune_database
from evolve.store.salvage import salvage_database
from tests.commands import EVALUATOR, run_evolve, run_json, write_problem
from tests.store.test_store import EVALUATION, make_generation, make_program

LARGE = "".join(f"line {number} \u00e9\n" for number in range(9000))
KEY = AttemptKey(0, 0, 0)


def fill(folder, text=LARGE) -> Evaluated:
    artifacts = {"first": "small", "log": text, "last": "\ud800 odd"}
    evaluated = Evaluated(KEY, make_program(0), replace(EVALUATION, artifacts=artifacts))
    with closing(Store.create(folder)) as store:
        store.keep([evaluated])
        store.commit(make_generation(0))
    return evaluated


def files_of(folder) -> list:
    return sorted((folder / "artifacts").iterdir())


def load(folder) -> dict[str, str]:
    with closing(Store.open_to_read(folder)) as store:
        (evaluated,) = store.finished_after(-1)[1]
        assert store.load_attempt(KEY).evaluation == evaluated.evaluation
        return dict(evaluated.evaluation.artifacts)


def test_a_large_artifact_is_a_file_and_comes_back_in_its_place(tmp_path):
    evaluated = fill(tmp_path)
    (path,) = files_of(tmp_path)
    assert path.read_text() == LARGE
    assert len(LARGE.encode()) > LARGE_BYTES
    assert list(load(tmp_path).items()) == list(evaluated.evaluation.artifacts.items())
    assert (tmp_path / DATABASE).stat().st_size < 420_000


def test_equal_artifacts_share_a_file(tmp_path):
    fill(tmp_path)
    with closing(Store.open_to_write(tmp_path)) as store:
        again = replace(EVALUATION, artifacts={"other": LARGE})
        store.keep([Evaluated(AttemptKey(1, 0, 0), make_program(1), again)])
    assert len(files_of(tmp_path)) == 1


@pytest.mark.parametrize(("damage", "word"), [("unlink", "missing"), ("write", "damaged")])
def test_a_lost_artifact_is_named_and_its_ends_are_still_shown(tmp_path, damage, word):
    fill(tmp_path)
    (path,) = files_of(tmp_path)
    path.unlink() if damage == "unlink" else path.write_text("x" * len(LARGE.encode()))
    with closing(Store.open_to_read(tmp_path)) as store:
        (missing,) = store.missing_artifacts(contents=True)
    assert str(missing) == f"{word}: artifacts/{path.name}: artifact `log` of evaluation 0.0.0"
    text = load(tmp_path)["log"]
    assert text.startswith(LARGE[:8192])
    assert text.endswith(LARGE[-8192:])
    assert f"was in artifacts/{path.name}, which is missing or damaged" in text
    fill_again = replace(EVALUATION, artifacts={"log": LARGE})
    with closing(Store.open_to_write(tmp_path)) as store:
        store.keep([Evaluated(AttemptKey(1, 0, 0), make_program(1), fill_again)])
        assert store.missing_artifacts(contents=True) == []


def test_a_file_that_cannot_be_written_leaves_no_row(tmp_path):
    (tmp_path / "artifacts").write_text("in the way")
    with pytest.raises(StoreError, match=r"artifacts.*cannot be written: .*free the disk"):
        fill(tmp_path)
    with closing(Store.open_to_read(tmp_path)) as store:
        assert store.finished_after(-1) == ([], [])


def test_copies_take_the_files_along_and_name_what_is_lost(tmp_path):
    for name in ("run", "copy", "saved", "rest"):
        (tmp_path / name).mkdir()
    fill(tmp_path / "run")
    copy_database(tmp_path / "run", tmp_path / "copy", None)
    assert load(tmp_path / "copy")["log"] == LARGE
    assert salvage_database(tmp_path / "run", tmp_path / "saved").missing == []
    assert load(tmp_path / "saved")["log"] == LARGE
    shutil.rmtree(tmp_path / "run" / "artifacts")
    (missing,) = salvage_database(tmp_path / "run", tmp_path / "rest").missing
    assert (missing.name, missing.is_damaged) == ("log", False)


def test_prune_deletes_files_that_nothing_refers_to_any_more(tmp_path):
    fill(tmp_path)
    (tmp_path / "artifacts" / "orphan").write_text("left by a kill")
    kept = prune_database(tmp_path, keep=[KEY], upto=9, fewest_bytes=0, last=0)
    assert (kept.artifacts, len(files_of(tmp_path))) == (0, 1)
    assert prune_database(tmp_path, keep=[], upto=9, fewest_bytes=10**7, last=0).artifacts == 0
    dropped = prune_database(tmp_path, keep=[], upto=9, fewest_bytes=LARGE_BYTES, last=0)
    assert dropped.artifacts == 1
    assert dropped.bytes > LARGE_BYTES
    assert files_of(tmp_path) == []
    assert load(tmp_path) == {}


def test_a_run_with_lost_artifacts_is_told_and_goes_on_as_it_would_have(tmp_path):
    large = EVALUATOR.replace(
        'measures={"first": first})',
        'measures={"first": first}, artifacts={"log": f"{first}\\n" * 30000})',
    )
    folder = write_problem(tmp_path / "valley", evaluator=large)
    asked = ("--generations", 3, "--set", "loop.slots=4", "--model", "scripted")
    run_evolve("run", folder, *asked, "--run-dir", "whole", cwd=tmp_path)
    shutil.copytree(tmp_path / "whole", tmp_path / "r")
    shutil.rmtree(tmp_path / "r" / "artifacts")
    assert "artifact `log` of evaluation 0.0.0" in run_evolve("show", "r", cwd=tmp_path).stdout
    assert "missing: artifacts/" in run_evolve("verify", "r", cwd=tmp_path, code=5).stdout
    certificate = json.loads((tmp_path / "r" / "certificate.json").read_text())
    assert certificate["verdict"] == "agrees"
    for name in ("whole", "r"):
        run_evolve("resume", name, "--generations", 5, cwd=tmp_path)
    archives = [run_json("archive", name, cwd=tmp_path) for name in ("whole", "r")]
    assert archives[0] == archives[1]
    assert "equal" in run_evolve("replay", "r", cwd=tmp_path).stdout
    with closing(sqlite3.connect(tmp_path / "r" / DATABASE)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM artifact_files").fetchone()[0] > 10
