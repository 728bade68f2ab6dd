"""What a run has reached, without folding all of its attempts again, and what it was folded with.

A snapshot is derived: it is ignored where it does not fit, and may be deleted at any time. The
search itself never starts from one.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from shlex import quote
from typing import Any

from evolve import __version__
from evolve.archive import Elite
from evolve.errors import UsageError
from evolve.population.state import RunState, StallEvent
from evolve.problem import Problem
from evolve.records import AttemptKey
from evolve.records.plain import from_plain, to_plain
from evolve.settings.sections import SearchSettings
from evolve.store import Store
from evolve.toml import write_value

_FACT, _SPACE = "search", "space"
# Of what a snapshot holds.
_VERSION = 4
# A snapshot takes time in proportion to the elites, so it waits for a part as many attempts; what
# came after it takes `show` far longer than what is in it.
_PART = 4
_FEWEST_ATTEMPTS = 256


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What is kept of a `RunState`, by its names; of each archive its elites and who is outside."""

    generation: int
    evaluations: int
    samples: int
    initial: float | None
    progressed_at: int
    champion: Elite | None
    start: Elite | None
    tuned: tuple[AttemptKey, ...]
    stalls: tuple[int, int, int]
    events: tuple[StallEvent, ...]
    migrations: int
    archives: tuple[tuple[tuple[Elite, ...], int], ...]


# Those that a state has as they are.
_NAMES = (
    "generation",
    "evaluations",
    "samples",
    "initial",
    "progressed_at",
    "champion",
    "start",
)


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
        except (TypeError, ValueError, IndexError, OverflowError):
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
    stalls = state.stalls
    saved = _Snapshot(
        **{name: getattr(state, name) for name in _NAMES},
        tuned=tuple(sorted(state.tuned)),
        stalls=(stalls.fruitless, stalls.restarts, stalls.level),
        events=tuple(stalls.events),
        migrations=state.islands.migrations,
        archives=tuple(
            (tuple(archive.elites), archive.out_of_range) for archive in state.islands.archives
        ),
    )
    plain: dict[str, Any] = to_plain(saved)
    return plain


def _restore(state: RunState, data: Any) -> None:
    saved = from_plain(_Snapshot, data)
    for name in _NAMES:
        setattr(state, name, getattr(saved, name))
    state.tuned = set(saved.tuned)
    stalls = state.stalls
    stalls.fruitless, stalls.restarts, stalls.level = saved.stalls
    stalls.events = list(saved.events)
    state.islands.migrations = saved.migrations
    for archive, (elites, outside) in zip(state.islands.archives, saved.archives, strict=True):
        for elite in elites:
            archive.add(elite)
        archive.out_of_range = outside


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
