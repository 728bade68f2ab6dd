from contextlib import closing
from dataclasses import replace

import pytest

from evolve.errors import UsageError
from evolve.records import AttemptKey
from evolve.records.results import Evaluated
from evolve.store import Store
from evolve.store.copying import copy_database, repair_database
from tests.store.test_store import EVALUATION, fill, make_generation, make_program

LARGE = "".join(f"line {number} \u00e9\n" for number in range(9000))
KEY = AttemptKey(0, 0, 0)


def fill_with_artifacts(folder) -> Evaluated:
    artifacts = {"first": "small", "log": LARGE, "last": "\ud800 odd"}
    evaluated = Evaluated(KEY, make_program(0), replace(EVALUATION, artifacts=artifacts))
    with closing(Store.create(folder)) as store:
        store.keep([evaluated])
        store.commit(make_generation(0))
    return evaluated


def load(folder) -> dict[str, str]:
    with closing(Store.open_to_read(folder)) as store:
        (evaluated,) = store.finished_after(-1)[1]
        assert store.load_attempt(KEY).evaluation == evaluated.evaluation
        return dict(evaluated.evaluation.artifacts)


def test_copies_take_all_artifacts_along(tmp_path):
    for name in ("run", "copy", "saved"):
        (tmp_path / name).mkdir()
    artifacts = fill_with_artifacts(tmp_path / "run").evaluation.artifacts
    copy_database(tmp_path / "run", tmp_path / "copy", None)
    repair_database(tmp_path / "run", tmp_path / "saved")
    for name in ("run", "copy", "saved"):
        assert list(load(tmp_path / name).items()) == list(artifacts.items())


def test_prune_drops_large_artifacts_that_nothing_shows_any_more(tmp_path):
    fill_with_artifacts(tmp_path)
    with closing(Store.open_to_write(tmp_path)) as store:
        assert store.prune([KEY], 9, 0).artifacts == 0
        assert store.prune([], 9, 10**7).artifacts == 0
        dropped = store.prune([], 9, 1000)
    assert (dropped.artifacts, load(tmp_path)) == (1, {})
    assert dropped.bytes > 10_000


def test_a_copy_of_a_generation_that_is_not_there_is_refused(tmp_path):
    for name in ("run", "copy"):
        (tmp_path / name).mkdir()
    with closing(Store.create(tmp_path / "run")) as store:
        fill(store, 2)
    with pytest.raises(UsageError, match="expected a generation from 0 to 1, got 2"):
        copy_database(tmp_path / "run", tmp_path / "copy", 2)
