"""The verdicts on the hold-out, kept with the facts of a run, where no search looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evolve.records import Evaluation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evolve.store.store import Store

_FACT = "holdout"


def read_holdout(store: Store) -> dict[str, Evaluation]:
    """Returns the verdicts by program.

    Raises:
        StoreError: The database cannot be read.
    """
    kept = store.facts().get(_FACT, {})
    return {key: Evaluation.from_dict(verdict) for key, verdict in kept.items()}


def keep_holdout(store: Store, verdicts: Mapping[str, Evaluation]) -> None:
    """Replaces the verdicts.

    Raises:
        StoreError: The database cannot be written.
    """
    store.set_facts(**{_FACT: {key: verdict.as_dict() for key, verdict in verdicts.items()}})
