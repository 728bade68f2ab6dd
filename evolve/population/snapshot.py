"""What a run has reached, without folding all of its attempts again, and what it was folded with.

A snapshot is derived: it is ignored where it does not fit, and may be deleted at any time. The
search itself never starts from one.
"""

from __future__ import annotations

import dataclasses
import hashlib
from shlex import quote
from typing import Any

from evolve import __version__
from evolve.archive import Elite
from evolve.archive.merit import Merit
from evolve.errors import UsageError
from evolve.population.state import RunState, StallEvent
from evolve.problem import Problem
from evolve.records import AttemptKey
from evolve.settings.reading import write_value
from evolve.settings.sections import SearchSettings
from evolve.store import Store

_FACT, _SPACE = "search", "space"
# Of what a snapshot holds.
_VERSION = 3
# A snapshot takes time in proportion to the elites, so it waits for a part as many attempts; what
# came after it takes `show` far longer than what is in it.
_PART = 4
_FEWEST_ATTEMPTS = 256


class SnapshotKeeper:
    """Keeps the snapshot of a running search fresh enough.

    Args:
        store: The run's database, open to write.
        problem: Measures and direction.
        settings: Islands and migration.
    """

    def __init__(self, store: Store, problem: Problem, settings: SearchSettings) -> None:
        self._store = store
        self._version = _version(problem, settings)
        # None: all of them, since nothing is known of an earlier invocation.
        self._attempts: int | None = None

    def on_commit(self, state: RunState, attempts: int) -> None:
        """Takes note of a commit; now and then a snapshot is saved.

        Raises:
            StoreError: It cannot be written.
        """
        if self._attempts is None:
            self._attempts = state.evaluations
        self._attempts += attempts
        elites = sum(len(archive) for archive in state.islands.archives)
        if self._attempts >= max(_FEWEST_ATTEMPTS, elites // _PART):
            self._store.save_snapshot(self._version, _dump(state))
            self._attempts = 0


def load_state(store: Store, problem: Problem, settings: SearchSettings) -> RunState:
    """Returns what a run has reached as of its last committed generation.

    Raises:
        UsageError: The settings are not those that the run began with.
        StoreError: The database cannot be read.
    """
    expect_frozen(store, problem, settings)
    state = RunState(problem, settings)
    data = store.load_snapshot(_version(problem, settings))
    if data is not None:
        try:
            _restore(state, data)
        # It is derived, and the run may be anybody's: one of another form is skipped.
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
            state = RunState(problem, settings)
    last = store.last_generation()
    if last is not None:
        attempts = store.light_attempts(state.generation + 1)
        for _ in state.add_all(attempts, last):
            pass
    return state


def _version(problem: Problem, settings: SearchSettings) -> str:
    text = repr(
        (_VERSION, __version__, problem.direction, problem.measures, problem.objectives, settings)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _dump(state: RunState) -> dict[str, Any]:
    champion = state.champion
    return {
        "generation": state.generation,
        "evaluations": state.evaluations,
        "samples": state.samples,
        "tuned": sorted(state.tuned),
        "initial": state.initial,
        "progressed_at": state.progressed_at,
        "champion": None if champion is None else _dump_elite(champion),
        "start": None if state.start is None else _dump_elite(state.start),
        "stalls": [state.stalls.fruitless, state.stalls.restarts, state.stalls.level],
        "stall_events": [dataclasses.astuple(event) for event in state.stalls.events],
        "migrations": state.islands.migrations,
        "archives": [
            {
                "elites": [_dump_elite(elite) for elite in archive.elites],
                "out_of_range": archive.out_of_range,
            }
            for archive in state.islands.archives
        ],
    }


def _dump_elite(elite: Elite) -> list[Any]:
    return [
        elite.key,
        elite.program_id,
        elite.objective,
        elite.measures,
        elite.origin,
        elite.depth,
        elite.parent,
        elite.others,
        elite.merit,
    ]


def _restore(state: RunState, data: dict[str, Any]) -> None:
    state.generation = int(data["generation"])
    state.evaluations = int(data["evaluations"])
    state.samples = int(data["samples"])
    state.tuned = {_load_key(key) for key in data["tuned"]}
    state.initial = None if data["initial"] is None else float(data["initial"])
    state.progressed_at = int(data["progressed_at"])
    if data["champion"] is not None:
        state.champion = _load_elite(data["champion"])
    if data["start"] is not None:
        state.start = _load_elite(data["start"])
    stalls = state.stalls
    stalls.fruitless, stalls.restarts, stalls.level = map(int, data["stalls"])
    stalls.events = [StallEvent(*event) for event in data["stall_events"]]
    state.islands.migrations = data["migrations"]
    for archive, part in zip(state.islands.archives, data["archives"], strict=True):
        for elite in part["elites"]:
            archive.add(_load_elite(elite))
        archive.out_of_range = part["out_of_range"]


def _load_elite(data: list[Any]) -> Elite:
    key, program_id, objective, measures, origin, depth, parent, others, merit = data
    return Elite(
        key=_load_key(key),
        program_id=str(program_id),
        objective=float(objective),
        measures=tuple(map(float, measures)),
        origin=int(origin),
        depth=int(depth),
        parent=None if parent is None else _load_key(parent),
        others=tuple(map(float, others)),
        merit=Merit(float(merit[0]), tuple(map(float, merit[1])), tuple(map(float, merit[2]))),
    )


def _load_key(data: list[Any]) -> AttemptKey:
    generation, slot, number = map(int, data)
    return AttemptKey(generation, slot, number)


def freeze_past(store: Store, problem: Problem, settings: SearchSettings) -> None:
    """Writes down what generations are folded with.

    Raises:
        StoreError: The database cannot be written.
    """
    store.set_facts(**{_FACT: _as_plain(settings), _SPACE: _describe_space(problem)})


def expect_frozen(store: Store, problem: Problem, settings: SearchSettings) -> None:
    """Checks that all is as the run began with.

    Raises:
        UsageError: One was changed, by hand; the message says how to make a run with it.
        StoreError: The database cannot be read.
    """
    now, facts = _as_plain(settings), store.facts()
    for name, value in facts.get(_FACT, {}).items():
        if name in now and now[name] != value:
            change = quote(f"search.{name}={write_value(now[name])}")
            raise UsageError(
                f"{store.folder / 'settings.toml'}: `search.{name}`: expected {value!r}, as the "
                f"run began with, got {now[name]!r}; put it back, then `evolve fork "
                f"{quote(str(store.folder))} --set {change}` makes a run that continues with it"
            )
    space = _describe_space(problem)
    for name, value in facts.get(_SPACE, {}).items():
        if space.get(name) != value:
            raise UsageError(
                f"{problem.folder / 'problem.toml'}: `{name}`: expected {value!r}, as the run "
                f"began with, got {space.get(name)!r}; put it back, or begin a new run with it"
            )


def _as_plain(settings: SearchSettings) -> dict[str, Any]:
    """Returns settings as the database returns them."""
    plain = dataclasses.asdict(settings)
    return plain | {name: list(value) for name, value in plain.items() if type(value) is tuple}


def _describe_space(problem: Problem) -> dict[str, Any]:
    """Returns what elites are distinguished and compared by, as the database returns it."""
    return {
        "direction": str(problem.direction),
        "measures": [list(dataclasses.astuple(measure)) for measure in problem.measures],
        "objectives": [[one.name, str(one.direction)] for one in problem.objectives],
    }
