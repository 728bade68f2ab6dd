import dataclasses
import io
import pickle
import zlib
from collections import deque
from contextlib import closing
from enum import Enum
from pathlib import Path

import numpy as np
import pytest

from evolve.archive import Archive
from evolve.models.bandit import ModelStats
from evolve.records import AttemptKey, Direction, Plan, Status, Summary
from evolve.records.results import ModelUse, SlotNote
from evolve.search import states
from evolve.search.states import StateKeeper
from evolve.settings.strategies import STRATEGIES
from evolve.steps.memory import Memory
from evolve.store import Store
from tests.searches import Searches
from tests.test_fronts import TOML


@pytest.fixture
def searches(tmp_path):
    return Searches(tmp_path)


def plain(value: object) -> object:
    """Gives all that a value is made of, to be compared."""
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
    names = (
        [item.name for item in dataclasses.fields(value)] if is_record(value) else [*vars(value)]
    )
    if isinstance(value, Archive):
        # What lies behind their ends is of no account.
        names += ["objectives", "children"]
        names = [name for name in names if name not in {"_objectives", "_children"}]
    return type(value), [(name, plain(getattr(value, name))) for name in names]


def is_record(value: object) -> bool:
    return dataclasses.is_dataclass(value)


def saved(searches: Searches, name: str, **changes: object) -> int:
    """Gives the generation that a resume of a search would start from; -1 for the beginning."""
    with closing(Store.open_to_write(searches.folder / name)) as store:
        return StateKeeper(store, searches.problem, searches.with_(changes)).begin().generation


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_that_goes_on_from_a_state_knows_what_one_left_alone_knows(searches, strategy):
    changes = {"search__strategy": strategy, "search__migration_every": 2}
    whole = searches.run("whole", 9, **changes)
    for generations in (4, 6, 9):
        parts = searches.run("parts", generations, fewest=8, threads=2, **changes)
    assert saved(searches, "parts", **changes) >= 4
    assert plain(parts) == plain(whole)
    assert searches.replay("parts", **changes) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"search__archive": "cvt", "search__centroids": "start", "search__islands": 3},
        {"search__stall_after": 8, "search__islands": 2, "loop__lag": 2},
        {"tuning__share": 0.5, "loop__lag": 0},
    ],
    ids=["centroids", "stalls", "tuning"],
)
def test_a_state_holds_whatever_is_told(searches, changes):
    whole = searches.run("whole", 12, **changes)
    for generations in (7, 12):
        parts = searches.run("parts", generations, fewest=8, **changes)
    assert saved(searches, "parts", **changes) > 7
    assert plain(parts) == plain(whole)


def test_a_state_holds_fronts(tmp_path):
    searches = Searches(tmp_path, toml=TOML)

    def evaluate(program):
        plain_one = searches.evaluate(program)
        metrics = {"cost": float(len(program.entry.text) % 7)}
        return dataclasses.replace(plain_one, metrics=metrics)

    whole = searches.run("whole", 10, evaluate=evaluate)
    for generations in (6, 10):
        parts = searches.run("parts", generations, evaluate=evaluate, fewest=8)
    assert saved(searches, "parts") > 6
    assert plain(parts) == plain(whole)


def test_short_launches_save_a_state_between_them(searches):
    for generations in range(3, 16, 4):
        searches.run("short", generations, fewest=40)
    assert saved(searches, "short") > 3


def test_the_tail_that_follows_from_a_state_may_be_in_flight(searches):
    searches.run("lagged", 6, fewest=1, loop__lag=2)
    assert 0 < saved(searches, "lagged", loop__lag=2) < 6 - 2


def test_a_state_of_other_settings_or_other_code_is_passed_over(searches):
    searches.run("first", 8, fewest=8)
    assert saved(searches, "first") > 0
    assert saved(searches, "first", loop__lag=3) == -1
    assert saved(searches, "first", search__entropy=0.4) == -1


def test_a_damaged_state_is_passed_over(searches):
    whole = searches.run("whole", 9)
    searches.run("parts", 6, fewest=8)
    with closing(Store.open_to_write(searches.folder / "parts")) as store:
        store.query("UPDATE states SET state = substr(state, 1, 100)")
    assert saved(searches, "parts") == -1
    assert plain(searches.run("parts", 9)) == plain(whole)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "exec"),
        ("evolve.records", "hashlib"),
        ("evolve.records", "replace"),
        ("evolve.archive.islands", "math.pow"),
        ("evolve.problem.measures", "dataclass"),
    ],
)
def test_a_state_can_call_nothing(module, name):
    def text(value: str) -> bytes:
        return pickle.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()

    found = pickle.PROTO + b"\x04" + text(module) + text(name) + pickle.STACK_GLOBAL
    harm = found + text("touch harm") + pickle.TUPLE1 + pickle.REDUCE + pickle.STOP
    assert states.unpack(zlib.compress(harm)) == []
    assert not Path("harm").exists()
    with pytest.raises(pickle.UnpicklingError, match="is no part of a state"):
        states.Unpickler(io.BytesIO(found + pickle.STOP)).load()


def test_what_models_brought_and_what_planners_are_told_is_part_of_a_state():
    memory, models = Memory(Direction.MAXIMIZE), ModelStats()
    for number in range(30):
        memory.tell(
            SlotNote(
                generation=number, slot=0, parent=AttemptKey(number // 3, 0, 0),
                plan=Plan(f"change {number}", predicted_gain=1.0, tags=("a", f"t{number % 4}")),
                before=1.0, objectives=(1.0 + number % 5,), attempts=2, unapplied=number % 2,
                status=Status.OK, reason="", editors=("m",),
                summary=Summary("better", "idea", f"lesson number {'x' * number}", ("a",)),
            )
        )  # fmt: skip
        models.record([ModelUse("editor", f"m{number % 2}", 0.1, 10)], float(number % 3))
    again = states.unpack(states.pack([memory, models]))
    assert plain(again) == plain([memory, models])
    again[0].tell(SlotNote(
        generation=31, slot=0, parent=AttemptKey(0, 0, 0), plan=Plan("more"), before=None,
        objectives=(), attempts=1, unapplied=1, status=Status.REJECTED, reason="r",
        editors=("other",), summary=None,
    ))  # fmt: skip
