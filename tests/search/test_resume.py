"""A search that goes on from its database, without any other saved state."""

import dataclasses
import itertools
import sqlite3
import time
from collections import deque
from contextlib import closing
from enum import Enum

import numpy as np
import pytest

from evolve.archive import Archive
from evolve.settings.sections import STRATEGIES
from tests.archive.test_archives import TOML
from tests.searches import Searches


@pytest.fixture
def searches(tmp_path):
    return Searches(tmp_path)


def plain(value: object) -> object:
    """Returns all that a value is made of, to be compared."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return [(plain(key), plain(item)) for key, item in value.items()]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, list | tuple | deque):
        return [plain(item) for item in value]
    if isinstance(value, Enum | str | int | float | None):
        return value
    is_record = dataclasses.is_dataclass(value)
    names = [item.name for item in dataclasses.fields(value)] if is_record else [*vars(value)]
    if isinstance(value, Archive):
        # What lies behind their ends is of no account.
        names += ["objectives", "children"]
        # The order of new elites is found when it is needed.
        ignored = {"_objectives", "_children", "_order", "_unsorted"}
        names = [name for name in names if name not in ignored]
    return type(value), [(name, plain(getattr(value, name))) for name in names]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_resumed_search_knows_what_one_left_alone_knows(searches, strategy):
    changes = {"search__strategy": strategy}
    # Past a migration.
    whole = searches.run("whole", 13, **changes)
    for generations in (4, 9, 13):
        parts = searches.run("parts", generations, threads=2, **changes)
    assert plain(parts) == plain(whole)
    assert searches.replay("parts", **changes) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"search__archive": "single", "search__islands": 3},
        {"search__stall_after": 8, "search__islands": 2, "loop__lag": 2},
        {"tuning__share": 0.5, "loop__lag": 0},
    ],
    ids=["cells", "stalls", "tuning"],
)
def test_whatever_a_search_is_told_it_knows_again(searches, changes):
    whole = searches.run("whole", 12, **changes)
    for generations in (7, 12):
        parts = searches.run("parts", generations, **changes)
    assert plain(parts) == plain(whole)


def test_a_resumed_search_knows_its_fronts(tmp_path):
    searches = Searches(tmp_path, toml=TOML)

    def evaluate(program):
        plain_one = searches.evaluate(program)
        metrics = {"cost": float(len(program.entry.text) % 7)}
        return dataclasses.replace(plain_one, metrics=metrics)

    whole = searches.run("whole", 10, evaluate=evaluate)
    for generations in (6, 10):
        parts = searches.run("parts", generations, evaluate=evaluate)
    assert plain(parts) == plain(whole)


def test_a_cap_on_time_leaves_no_finished_attempt_behind(tmp_path):
    searches = Searches(tmp_path, loop__slots=2, loop__lag=1, tuning__share=0.0)
    count = itertools.count()

    def evaluate(program):
        # One slot hangs while the next generation goes on; each program is the best so far.
        number = next(count)
        time.sleep(3.0 if number == 5 else 0.02)
        return searches.verdict(program, float(number), first=1.0)

    found = searches.run("capped", 500, threads=4, evaluate=evaluate, budget__max_seconds=1.0)
    with closing(sqlite3.connect(tmp_path / "capped" / "run.db")) as database:
        (best,) = database.execute("SELECT max(objective) FROM evaluations").fetchone()
    assert found.champion.objective == best > 5
    assert searches.replay("capped", budget__max_seconds=1.0) == []
    more = searches.run("capped", found.generation + 3, threads=4, evaluate=evaluate)
    assert more.champion.objective > best
