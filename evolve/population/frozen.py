"""What a run's past was made with: it cannot be changed afterwards."""

from __future__ import annotations

import dataclasses
from shlex import quote
from typing import TYPE_CHECKING, Any

from evolve.errors import UsageError

if TYPE_CHECKING:
    from evolve.problem import Problem
    from evolve.settings.sections import SearchSettings
    from evolve.store import Store

_FACT, _SPACE = "search", "space"


def freeze_past(store: Store, problem: Problem, settings: SearchSettings) -> None:
    """Writes down what generations are folded with.

    Raises:
        StoreError: The database cannot be written.
    """
    store.set_facts(**{_FACT: _describe(settings), _SPACE: _describe_space(problem)})


def expect_frozen(store: Store, problem: Problem, settings: SearchSettings) -> None:
    """Checks that all is as the run began with.

    Raises:
        UsageError: One was changed, by hand; the message says how to make a run with it.
        StoreError: The database cannot be read.
    """
    now, facts = _describe(settings), store.facts()
    for name, value in facts.get(_FACT, {}).items():
        if name in now and now[name] != value:
            change = quote(f"search.{name}={now[name]}")
            raise UsageError(
                f"{store.folder / 'settings.toml'}: `search.{name}`: expected {value!r}, as the "
                f"run began with, got {now[name]!r}; put it back, then `evolve fork "
                f"{quote(str(store.folder))} --set {change}` makes a run that goes on with it"
            )
    space = _describe_space(problem)
    for name, value in facts.get(_SPACE, {}).items():
        if space.get(name) != value:
            raise UsageError(
                f"{problem.folder / 'problem.toml'}: `{name}`: expected {value!r}, as the run "
                f"began with, got {space.get(name)!r}; put it back, or begin a new run with it"
            )


def _describe(settings: SearchSettings) -> dict[str, Any]:
    return {**dataclasses.asdict(settings), "without": list(settings.without)}


def _describe_space(problem: Problem) -> dict[str, Any]:
    """Returns what elites are told apart and compared by, as the database gives it back."""
    return {
        "direction": str(problem.direction),
        "measures": [list(dataclasses.astuple(measure)) for measure in problem.measures],
        "objectives": [[one.name, str(one.direction)] for one in problem.objectives],
    }
