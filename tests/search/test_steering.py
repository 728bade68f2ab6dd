"""Hints, injected and pinned programs: rows that are read when a generation begins."""

from contextlib import closing
from pathlib import Path

import pytest

from evolve.records import INJECT, AttemptKey, Program, SourceFile
from evolve.records.results import Steer, Steering, SteerKind, steering_of
from evolve.store import Store
from tests.searches import Searches, archives_of


@pytest.fixture
def searches(tmp_path):
    return Searches(tmp_path)


def near(searches: Searches, first: float) -> Program:
    path, text = searches.problem.initial.entry
    return Program((SourceFile(path, text.replace("first = 1.0", f"first = {first}")),))


def add_steer(folder: Path, kind: SteerKind, text: str, files=()) -> None:
    with closing(Store.open_to_steer(folder)) as store:
        store.add_steer(kind, text, files)


def injected(searches: Searches, name: str) -> list:
    with closing(Store.open_to_read(searches.folder / name)) as store:
        return [one for one in store.light_attempts() if one.operator == INJECT]


def test_a_row_holds_from_the_generation_that_first_read_it_until_it_is_dropped():
    hint = Steer(1, SteerKind.HINT, "think", generation=3)
    pin = Steer(2, SteerKind.PIN, "2.0.1", generation=4)
    dropped = Steer(3, SteerKind.DROP, "1", generation=6)
    program = Steer(4, SteerKind.INJECT, "mine.py", (SourceFile("a.py", "x = 1"),), 4)
    waiting = Steer(5, SteerKind.HINT, "later")
    rows = [hint, pin, dropped, program, waiting]
    assert steering_of(rows, 2) == Steering()
    assert steering_of(rows, 4) == Steering(("think",), (AttemptKey(2, 0, 1),), (program,))
    assert steering_of(rows, 6) == Steering((), (AttemptKey(2, 0, 1),))


def test_what_is_asked_of_a_running_search_is_followed_and_replayed(searches):
    folder = searches.folder / "r"

    def ask(population) -> None:
        # As another process does, without the run's lock.
        if population.generation == 3:
            add_steer(folder, SteerKind.INJECT, "mine.py", near(searches, 2.9).files)
            add_steer(folder, SteerKind.PIN, "0.0.0")

    changes = {"loop__lag": 2}
    population = searches.run("r", 9, threads=3, delays=(0.0, 0.003), on_commit=ask, **changes)
    (attempt,) = injected(searches, "r")
    assert 3 < attempt.key.generation <= 6
    assert attempt.objective == pytest.approx(-(0.1**2) - 9.0)
    assert attempt.parent == (0, 0, 0)
    assert searches.replay("r", **changes) == []
    with closing(Store.open_to_read(folder)) as store:
        pinned = [
            one for one in store.light_attempts(7)
            if one.key.slot == 7 and one.parent == (0, 0, 0)
        ]  # fmt: skip
    assert len(pinned) == 3
    assert population.champion.objective > -9.1


def test_rows_and_not_their_timing_decide(searches):
    folder = searches.folder / "first"

    def ask(population) -> None:
        if population.generation == 2:
            add_steer(folder, SteerKind.INJECT, "mine.py", near(searches, 2.5).files)

    first = searches.run("first", 8, threads=2, on_commit=ask)
    with closing(Store.open_to_read(folder)) as store:
        rows = store.steering()
    # The same rows, all of them there from the start, in a search cut into pieces.
    searches.run("second", 1)
    with closing(Store.open_to_write(searches.folder / "second")) as store:
        store.keep_steering(rows)
    for generations in (3, 5, 8):
        second = searches.run("second", generations)
    assert archives_of(second) == archives_of(first)


def test_what_is_asked_between_two_invocations_waits_for_a_generation_that_has_not_begun(searches):
    searches.run("r", 4)
    add_steer(searches.folder / "r", SteerKind.INJECT, "mine.py", near(searches, 2.0).files)
    assert injected(searches, "r") == []
    searches.run("r", 6)
    assert [one.key.generation for one in injected(searches, "r")] == [5]
    assert searches.replay("r") == []


def test_injected_programs_count_to_the_cap_on_evaluations(searches):
    changes = {"budget__max_evaluations": 60, "tuning__share": 0.0}
    searches.run("r", 2, **changes)
    for first in (2.0, 2.25, 2.5, 2.75):
        add_steer(searches.folder / "r", SteerKind.INJECT, "x", near(searches, first).files)
    population = searches.run("r", 50, **changes)
    assert len(injected(searches, "r")) == 4
    assert 50 < population.evaluations <= 60
    assert searches.replay("r", **changes) == []


def test_an_injected_program_says_nothing_about_operators(searches):
    searches.run("r", 2)
    add_steer(searches.folder / "r", SteerKind.INJECT, "x", near(searches, 2.5).files)
    population = searches.run("r", 4)
    assert INJECT not in population.operators.chances(["scale_constant", "other"], floor=0.1)
    assert population.operators.rate(INJECT) == pytest.approx(0.4 / 8.0)
