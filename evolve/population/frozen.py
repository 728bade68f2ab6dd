"""The settings that a run's past was made with: they cannot be changed afterwards."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from evolve.errors import UsageError

if TYPE_CHECKING:
    from evolve.settings.search import SearchSettings
    from evolve.store import Store

_FACT = "search"


def freeze_search(store: Store, settings: SearchSettings) -> None:
    """Writes down what generations are folded with.

    Raises:
        StoreError: The database cannot be written.
    """
    store.set_facts(**{_FACT: dataclasses.asdict(settings)})


def expect_frozen(store: Store, settings: SearchSettings) -> None:
    """Checks that settings are those that the run began with; older runs do not tell.

    Raises:
        UsageError: One was changed, by hand; the message says how to make a run with it.
        StoreError: The database cannot be read.
    """
    now = dataclasses.asdict(settings)
    for name, value in store.facts().get(_FACT, {}).items():
        if name in now and now[name] != value:
            raise UsageError(
                f"{store.folder / 'settings.toml'}: `search.{name}`: expected {value!r}, as the "
                f"run began with, got {now[name]!r}; put it back, then `evolve fork {store.folder} "
                f"--set search.{name}={now[name]}` makes a run that goes on with it"
            )
